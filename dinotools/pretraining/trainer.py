"""Pre-training with DINO: self-distillation with no labels.

A student sees two global and several local crops of each image, a teacher the two global ones. The student learns to
predict the teacher's centred and sharpened output for the other crops; the teacher is the moving average of the
student. Paper: section 3, Algorithm 1, appendix C; official file ``main_dino.py``, whose defaults these are.
ImageNet, ViT-S/16, 100 epochs: k-NN 69.3, linear 74.0.

    dinotools pretrain --data /datasets/imagenet/train --out runs/vits16
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader

from dinotools.configs import files
from dinotools.configs.pretraining import PretrainConfig
from dinotools.data.augment import MultiCrop
from dinotools.data.images import BadImages
from dinotools.data.sources import ImageSource, open_images, open_labelled_splits
from dinotools.data.training import CropBatch, EpochOrder, TrainingImages, collate_crops
from dinotools.data.transforms import EvalTransform, normalize
from dinotools.evaluation.knn import check_neighbours
from dinotools.models.vit import SIZES
from dinotools.models.zoo import normalization_of
from dinotools.pretraining import checkpointing
from dinotools.pretraining.checks import check_config, check_images
from dinotools.pretraining.monitor import knn_of, knn_transform
from dinotools.pretraining.networks import build_state
from dinotools.pretraining.schedules import Schedules
from dinotools.pretraining.step import NOT_FINITE_REMEDY, TrainingState, train_step
from dinotools.runtime import device, run_directory
from dinotools.runtime.console import say
from dinotools.runtime.device import Runtime
from dinotools.runtime.errors import DinotoolsError
from dinotools.runtime.progress import Progress, finite, timed
from dinotools.runtime.results import Result
from dinotools.runtime.run_log import LOG, Log


def run(config: PretrainConfig) -> Result:
    """Trains a teacher and leaves checkpoints, log and options in ``config.out``.

    Raises:
        DinotoolsError: options, data or checkpoint cannot be used.
        RunFailed: the loss became NaN or infinite.
    """
    check_config(config)
    runtime = device.prepare(config.device, config.precision, config.workers, config.seed, fast=True)
    images = open_images(config.data, "train", download=config.download)
    check_images(config, len(images))
    splits = open_labelled_splits(config.knn_data or config.data, download=config.download) if config.knn_every else ()
    if splits:
        check_neighbours((config.knn_k,), len(splits[0]), len(splits[0].classes), option="--knn-k")
    schedules = Schedules.of(config, steps_per_epoch=len(images) // config.batch_size)

    resuming = config.resume and (config.out / run_directory.OPTIONS).is_file()
    latest = config.out / checkpointing.LATEST
    restoring = resuming and latest.is_file()  # or it was killed before its first checkpoint
    # a checkpoint has all weights: the file that the run was initialised from may be gone
    state = build_state(dataclasses.replace(config, init_from=None) if restoring else config, runtime)
    if not resuming:
        claim_out(config)
    if restoring:
        checkpointing.restore(latest, state, config, len(images))
        say(f"going on from {latest}, step {state.step:,}")
    log = Log(config.out / LOG, last_step=state.step)
    bad = BadImages(config.max_bad, len(images))
    say(announcement(config, schedules, len(images), runtime))
    try:
        train(config, runtime, images, splits, state, schedules, log, bad)
    except DinotoolsError as error:
        log.close()
        nothing_saved = not resuming and not any(config.out.glob("checkpoint*.pth"))
        if nothing_saved and error.exit_code == DinotoolsError.exit_code:
            shutil.rmtree(config.out)  # bad images stopped a new run before there was anything to keep
        raise
    log.close()
    return result_of(config, runtime, len(images), bad, log)


def claim_out(config: PretrainConfig) -> None:
    """Takes the run directory for a new run.

    Raises:
        DinotoolsError: it holds something that may not be replaced.
    """
    ways = "" if config.resume else ", add --resume to go on with the run in it, or --overwrite to replace it"
    run_directory.claim(
        config.out,
        files.dump(config),
        overwrite=config.overwrite,
        inputs=(config.data, config.knn_data, config.init_from),
        remedy=f"Choose another --out{ways}.",
    )


def announcement(config: PretrainConfig, schedules: Schedules, n_images: int, runtime: Runtime) -> str:
    """What the run will do, in effective numbers."""
    return (
        f"{network_name(config)} · {n_images:,} images · {config.epochs} epochs of "
        f"{schedules.steps_per_epoch:,} steps of {config.batch_size} images · "
        f"peak lr {schedules.lr.max():.2e} · K {config.out_dim:,} · "
        f"2x{config.global_crop_size} + {config.local_crops_number}x{config.local_crop_size} px · "
        f"{runtime.device} {runtime.precision}, {runtime.workers} reader(s)"
    )


def network_name(config: PretrainConfig) -> str:
    """Such as vit_small/16; a convolutional network has no patches."""
    return f"{config.arch}/{config.patch_size}" if config.arch in SIZES else config.arch


def train(
    config: PretrainConfig,
    runtime: Runtime,
    images: ImageSource,
    splits: Sequence[ImageSource],
    state: TrainingState,
    schedules: Schedules,
    log: Log,
    bad: BadImages,
) -> None:
    """Takes the steps that are left; at the end of every epoch measures, logs and saves."""
    per_epoch = schedules.steps_per_epoch
    saver = checkpointing.Saver(config, len(images))
    mean, std = normalization_of(state.teacher.backbone)
    if splits and state.step == 0 and not log.records:
        log.write({"epoch": 0, "step": 0, **knn_of(state, config, splits, runtime)})
    with Progress(schedules.steps, state.step, config.batch_size, per_epoch, NOT_FINITE_REMEDY) as progress:
        for batch, waited in timed(training_loader(config, runtime, images, start=state.step)):
            for unreadable in batch.bad:
                bad.add(unreadable)
            step, epoch = state.step, state.step // per_epoch
            # stochastic depth draws from torch's generator: seeded per step, a resumed run draws the same
            torch.manual_seed(int(np.random.SeedSequence((config.seed, step)).generate_state(1)[0]))
            loss = train_step(
                state,
                [normalize(crop.to(runtime.device, non_blocking=True), mean, std) for crop in batch.crops],
                epoch=epoch,
                lr=schedules.lr[step],
                weight_decay=schedules.weight_decay[step],
                momentum=schedules.momentum[step],
                clip_grad=config.clip_grad,
                freeze_last_layer=epoch < config.freeze_last_layer,
                autocast=runtime.autocast(),
            )
            state.step += 1
            state.loss_sum += loss
            progress.advance(loss, schedules.lr[step], waited)
            if state.step % per_epoch == 0:
                record = epoch_record(state, schedules, epoch)
                if splits and ((epoch + 1) % config.knn_every == 0 or epoch + 1 == config.epochs):
                    record |= knn_of(state, config, splits, runtime)
                log.write(record)  # before the checkpoint: a kill in between repeats the epoch, and its line
                state.loss_sum.zero_()
            saver.after_step(state)


def training_loader(config: PretrainConfig, runtime: Runtime, images: ImageSource, start: int) -> Iterable[CropBatch]:
    """Batches of crops from step ``start`` to the end of the run."""
    crops = MultiCrop(
        global_crop_size=config.global_crop_size,
        local_crop_size=config.local_crop_size,
        local_crops_number=config.local_crops_number,
        global_crops_scale=config.global_crops_scale,
        local_crops_scale=config.local_crops_scale,
        blur_radius=config.blur_radius,
    )
    return DataLoader(
        TrainingImages(images, crops, seed=config.seed),
        batch_sampler=EpochOrder(len(images), config.batch_size, config.epochs, config.seed, start),
        num_workers=runtime.workers,
        collate_fn=collate_crops,
        pin_memory=runtime.device.type == "cuda",
    )


def epoch_record(state: TrainingState, schedules: Schedules, epoch: int) -> dict[str, float]:
    """The line of an epoch in log.jsonl: epochs are counted from 1, the loss is the mean over its steps.

    Raises:
        RunFailed: that mean is not finite.
    """
    last = state.step - 1
    return {
        "epoch": epoch + 1,
        "step": state.step,
        "train_loss": finite(state.loss_sum.item() / schedules.steps_per_epoch, NOT_FINITE_REMEDY),
        "lr": float(schedules.lr[last]),
        "weight_decay": float(schedules.weight_decay[last]),
        "momentum_teacher": float(schedules.momentum[last]),
        "teacher_temp": float(state.criterion.teacher_temps[epoch]),
    }


def result_of(config: PretrainConfig, runtime: Runtime, n_images: int, bad: BadImages, log: Log) -> Result:
    """The last line of the log, and the k-NN curve where there is one."""
    curve = {name: [(r["epoch"], r[name]) for r in log.records if name in r] for name in ("knn_teacher", "knn_student")}
    last = log.records[-1]
    shown = {"epochs": last["epoch"], "steps": last["step"], "loss": last["train_loss"]}
    shown |= {f"k-NN {name[4:]} %": points[-1][1] for name, points in curve.items() if points}
    return Result(
        title=f"pretrain · {network_name(config)} · {config.data}",
        rows=[shown],
        metrics={**last, "curves": {name: points for name, points in curve.items() if points}},
        details={"data": {"images": n_images, "skipped": bad.names}, **runtime.describe()},
        notes=(f"Teacher: {config.out / checkpointing.LATEST}", f"Measure it: {knn_command(config)}"),
    )


def knn_command(config: PretrainConfig) -> str:
    """The command that measures the run's teacher at the size it was trained for."""
    used = knn_transform(config)
    flags = "" if used == EvalTransform() else f" --resize-size {used.resize_size} --crop-size {used.crop_size}"
    return f"dinotools knn --ckpt {config.out} --data {config.knn_data or config.data}{flags}"
