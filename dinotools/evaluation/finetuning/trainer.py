"""Fine-tuning: a pre-trained network is trained further, as a whole and with labels, by DeiT's recipe.

Strong augmentation (a random crop, RandAugment, random erasing, mixup and cutmix, every image three times a batch),
smoothed labels, stochastic depth, AdamW with a warm-up and a cosine; the classifier starts near zero.
Paper: Tables 6 and 11; no official code. ImageNet top-1: ViT-S/16 81.5, ViT-B/16 82.8. The accuracy after the last
epoch is the result: no epoch is chosen by the test images.

    dinotools finetune --ckpt dino_vits16 --preset cifar10 --download --out runs/cifar10
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from dinotools.configs import files
from dinotools.configs.finetuning import FinetuneConfig
from dinotools.data.images import BadImages
from dinotools.data.sources import LabelledImages, open_labelled_splits
from dinotools.data.training import CropBatch, TrainingImages, collate_crops
from dinotools.data.transforms import normalize
from dinotools.evaluation.finetuning import checkpointing
from dinotools.evaluation.finetuning.checkpointing import REMEDY, TrainingState
from dinotools.evaluation.finetuning.checks import check_config, check_images
from dinotools.evaluation.finetuning.measuring import measure, result_of
from dinotools.evaluation.finetuning.network import Classifier, build_optimizer, set_drop_path, set_learning_rate
from dinotools.evaluation.finetuning.recipe import Mixing, RepeatedOrder, training_view
from dinotools.features.network import open_network
from dinotools.features.pooling import Pooling
from dinotools.runtime import device, run_directory
from dinotools.runtime.console import say, warn
from dinotools.runtime.device import Runtime
from dinotools.runtime.progress import Progress, finite, timed
from dinotools.runtime.results import Result
from dinotools.runtime.run_log import LOG, Log
from dinotools.runtime.schedule import cosine_schedule


def run(config: FinetuneConfig) -> Result:
    """Trains, measures after epochs, and leaves checkpoint, log and options in ``config.out``.

    Raises:
        DinotoolsError: options, data or checkpoint cannot be used.
        RunFailed: the loss became NaN or infinite.
    """
    check_config(config)
    runtime = device.prepare(config.device, config.precision, config.workers, config.seed, fast=True)
    train_images, test_images = open_labelled_splits(config.data, config.train, config.val, download=config.download)
    check_images(config, len(train_images), len(train_images.classes))
    resuming = config.resume and (config.out / run_directory.OPTIONS).is_file()
    latest = config.out / checkpointing.LATEST
    restoring = resuming and latest.is_file()  # or it was killed within its first epoch
    # a checkpoint has all weights: the file that the run started from may be gone
    start = dataclasses.replace(config, ckpt=str(latest)) if restoring else config
    state = build_state(start, runtime, train_images.classes)
    if restoring:
        checkpointing.restore(latest, state, config, len(train_images))
        say(f"going on from {latest}, epoch {state.epoch}")
    if not resuming:
        inputs = (config.ckpt, config.data, config.train, config.val)
        run_directory.claim(config.out, files.dump(config), overwrite=config.overwrite, inputs=inputs)
    per_epoch = len(train_images) // config.batch_size
    rates = learning_rates(config, per_epoch)
    log = Log(config.out / LOG, last_step=state.epoch * per_epoch)
    say(
        f"{state.start['arch']} · {len(train_images):,} images of {len(state.classes):,} classes · {config.epochs} "
        f"epochs of {per_epoch:,} steps of {config.batch_size} images · peak lr {max(rates):.2e} · "
        f"{config.crop_size} px · {runtime.device} {runtime.precision}, {runtime.workers} reader(s)"
    )
    bad = BadImages(config.max_bad, len(train_images))
    try:
        skipped = train(config, runtime, train_images, test_images, state, rates, log, bad)
    finally:
        log.close()
    data = {
        "train": {"images": len(train_images), "skipped": bad.names},
        "val": {"images": len(test_images), "skipped": skipped},
    }
    return result_of(config, state, log.records, data, runtime)


def build_state(config: FinetuneConfig, runtime: Runtime, classes: list[str]) -> TrainingState:
    """The state before the first step, on its device."""
    backbone, _, view = open_network(config, config, Pooling.parse("cls"), config.seed)
    set_drop_path(backbone.model, config.drop_path_rate)
    model = Classifier(backbone.model, backbone.embed_dim, len(classes), config.head_init_scale)
    model.to(runtime.device).train()  # a loaded backbone is in eval mode
    averaged = None
    if config.ema_decay:
        averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=True)
    # half precision needs its small gradients scaled up; bf16 and fp32 pass through untouched
    scaler = torch.amp.GradScaler(runtime.device.type, enabled=runtime.precision == "fp16")
    optimizer = build_optimizer(config, model)
    return TrainingState(model, averaged, optimizer, scaler, view, backbone.describe(), classes)


def learning_rates(config: FinetuneConfig, steps_per_epoch: int) -> np.ndarray:
    """One per step of the run, float64; the peak is lr for 512 images, as in DeiT, which changes it once an epoch.

    The ends of warm-up and cosine do not grow with the batch; of a small one, the peak may lie below them.
    """
    peak = config.lr * config.batch_size / 512
    for name in ("warmup_lr", "min_lr"):
        if (end := getattr(config, name)) > peak:
            warn(f"--{name.replace('_', '-')} is {end:.2g}, above the peak for this --batch-size: {peak:.2g} is used")
    ends = min(config.min_lr, peak), min(config.warmup_lr, peak)
    return cosine_schedule(peak, ends[0], config.epochs, steps_per_epoch, config.warmup_epochs, ends[1])


def train(
    config: FinetuneConfig,
    runtime: Runtime,
    train_images: LabelledImages,
    test_images: LabelledImages,
    state: TrainingState,
    rates: np.ndarray,
    log: Log,
    bad: BadImages,
) -> list[str]:
    """Takes the epochs that are left; at the end of each logs, and where it is due measures and saves.

    Returns:
        Names of the test images that could not be read.
    """
    per_epoch = len(rates) // config.epochs
    step = state.epoch * per_epoch
    labels = torch.tensor(train_images.labels)
    mixing = Mixing(config, len(state.classes))
    loss_sum = torch.zeros((), device=runtime.device)
    skipped: list[str] = []
    with Progress(len(rates), step, config.batch_size, per_epoch, REMEDY) as progress:
        for batch, waited in timed(training_loader(config, runtime, train_images, state.epoch)):
            for unreadable in batch.bad:
                bad.add(unreadable)
            # mixing and stochastic depth draw from torch's generators: seeded per step, a resumed run draws the same
            torch.manual_seed(int(np.random.SeedSequence((config.seed, step)).generate_state(1)[0]))
            set_learning_rate(state.optimizer, rates[step])
            images, targets = batch.crops[0], labels[batch.indices]
            loss = train_step(config, runtime, state, mixing, images, targets)
            step += 1
            loss_sum += loss
            progress.advance(loss, rates[step - 1], waited)
            if step % per_epoch:
                continue
            state.epoch += 1
            train_loss = finite(loss_sum.item() / per_epoch, REMEDY)
            loss_sum.zero_()
            record = {"epoch": state.epoch, "step": step, "train_loss": train_loss, "lr": float(rates[step - 1])}
            due = state.epoch % config.eval_every == 0 or state.epoch == config.epochs
            if due:
                measured = measure(config, runtime, state, test_images)
                skipped = measured.skipped
                record |= {"top1": measured.top1, "top5": measured.top5, "test_images": measured.images}
            log.write(record)  # before the checkpoint: a kill in between repeats the epoch, and its line
            if due:
                checkpointing.save(config.out / checkpointing.LATEST, state, config, len(train_images))
    return skipped


def training_loader(
    config: FinetuneConfig, runtime: Runtime, images: LabelledImages, epoch: int
) -> Iterable[CropBatch]:
    """Batches of views from an epoch to the end of the run."""
    return DataLoader(
        TrainingImages(images, training_view(config), seed=config.seed),
        batch_sampler=RepeatedOrder(
            len(images), config.batch_size, config.epochs, config.seed, config.repeats, start=epoch
        ),
        num_workers=runtime.workers,
        collate_fn=collate_crops,
        pin_memory=runtime.device.type == "cuda",
    )


def train_step(
    config: FinetuneConfig, runtime: Runtime, state: TrainingState, mixing: Mixing, images: Tensor, labels: Tensor
) -> Tensor:
    """One step of the optimizer.

    Args:
        config: parts that the batch is cut into, and label smoothing; mixing stays within a part.
        runtime: where to compute.
        state: network and optimizer; changed in place.
        mixing: what happens to a normalised batch.
        images: (B, 3, side, side) uint8, on the CPU.
        labels: (B,) int64, on the CPU.

    Returns:
        The loss, a detached scalar that still lies on the device.
    """
    total = torch.zeros((), device=runtime.device)
    state.optimizer.zero_grad(set_to_none=True)
    for part, part_labels in zip(images.chunk(config.accumulate), labels.chunk(config.accumulate), strict=True):
        inputs = normalize(part.to(runtime.device, non_blocking=True), state.view.mean, state.view.std)
        inputs, targets = mixing(inputs, part_labels.to(runtime.device, non_blocking=True))
        with runtime.autocast():
            logits = state.model(inputs)
        # smoothing a mixture of labels is mixing smoothed labels: both are linear
        loss = F.cross_entropy(logits.float(), targets, label_smoothing=config.label_smoothing)
        loss = loss * (len(part) / len(images))
        state.scaler.scale(loss).backward()
        total += loss.detach()
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if state.averaged is not None:
        state.averaged.update_parameters(state.model)
    return total
