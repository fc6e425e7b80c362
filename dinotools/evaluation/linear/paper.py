"""The paper's linear evaluation: one classifier, trained on augmented images.

Every epoch shows the frozen network a new random crop (8 % to 100 % of the image, bilinear) and flip of each training
image; the classifier is trained with SGD of momentum 0.9 without weight decay, its rate lr * batch / 256 falling to 0
along a cosine, one step an epoch. Test images: shorter side 256 (bicubic), centre crop 224; the network never changes,
so their features are extracted once and scored after every epoch.
Paper: section 4.1, Table 2; official file ``eval_linear.py``. ImageNet top-1: ViT-S/16 77.0, ViT-B/8 80.1.

    dinotools linear --ckpt dino_vits16 --data /datasets/imagenet --out probes/vits16
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from dinotools.configs.linear import LinearConfig
from dinotools.data.epoch_order import EpochOrder
from dinotools.data.images import BadImages
from dinotools.data.sources import LabelledImages, open_labelled_splits
from dinotools.data.training import CropBatch, SingleView, TrainingImages, collate_crops
from dinotools.evaluation.linear.classifier import FILE, build_classifier, score
from dinotools.evaluation.linear.inputs import open_probed, papers_pooling
from dinotools.evaluation.linear.training import (
    TrainingState,
    base_lr,
    claim_out,
    effective_lr,
    end_epoch,
    identity_of,
    restore,
    save,
    train_step,
)
from dinotools.features.extraction import Features, View, extract, forward
from dinotools.features.network import settings_of
from dinotools.metrics.classification import by_class
from dinotools.reporting import paper as published_numbers
from dinotools.runtime import run_directory
from dinotools.runtime.console import say, track
from dinotools.runtime.device import Runtime
from dinotools.runtime.results import Result

SCALE = (0.08, 1.0)  # area of a training crop as a share of the image


def run(config: LinearConfig, runtime: Runtime) -> Result:
    """Extracts the test features, trains, scores after every epoch, and saves where there is an --out.

    Raises:
        DinotoolsError: checkpoint, data or the file to go on with cannot be used; too many unreadable images.
        RunFailed: the loss or a feature is not finite.
    """
    images, val_images = open_labelled_splits(config.data, config.train, config.val, download=config.download)
    backbone, network, view = open_probed(config)
    width = backbone.embed_dim * len(network.pooling.parts)
    lr = effective_lr(base_lr(config, backbone.patch_size), config.train_batch_size)
    state = TrainingState.of(
        build_classifier(width, len(images.classes), config.seed).to(runtime.device), lr, config.epochs
    )
    settings = settings_of(backbone, view, network.pooling, config.seed)
    identity = identity_of(config, backbone.sha256, len(images))
    prepare_out(config, state, images.classes, identity)
    say(
        f"{backbone.source} · {network.pooling}, {width:,} values · {len(images):,} images · {config.epochs} epochs · "
        f"effective lr {lr:.3g} · {runtime.device} {runtime.precision}, {runtime.workers} reader(s)"
    )
    network.to(runtime.device)
    val = extract(
        network, val_images, runtime, view, batch_size=config.batch_size, max_bad=config.max_bad, name="test images"
    )
    bad = BadImages(config.max_bad, len(images))
    loader, steps_per_epoch = training_loader(config, runtime, images, state.epoch)
    batches = track(loader, "training", len(loader))
    features = training_features(batches, images, network, view, runtime, bad, config.batch_size)
    for record in train(state, features, steps_per_epoch, val):
        say(
            f"epoch {record['epoch']}/{config.epochs} · loss {record['train_loss']:.3f} · lr {record['lr']:.2e} · "
            f"top-1 {record['top1']:.2f} %"
        )
        if config.out is not None:
            save(config.out / FILE, state, network.pooling, images.classes, settings, identity)

    details: dict[str, Any] = {
        "checkpoint": backbone.describe(),
        "features": settings,
        "data": {
            "train": {"images": len(images), "skipped": bad.names},
            "val": val.describe(),
            "classes": len(images.classes),
        },
        "effective_lr": lr,
        **runtime.describe(),
    }
    usual = papers_pooling(backbone.embed_dim, has_tokens=backbone.patch_size is not None)
    same = (network.pooling, config.epochs, config.train_batch_size) == (usual, 100, 1024)
    published = (
        papers_top1(backbone.source, details["features"], len(images.classes), len(val_images)) if same else None
    )
    return result_of(state, val, images.classes, f"{backbone.source} · {config.data or config.val}", details, published)


def prepare_out(config: LinearConfig, state: TrainingState, classes: list[str], identity: dict[str, Any]) -> None:
    """Takes the output directory, or goes on with the run in it.

    Raises:
        DinotoolsError: it holds something that may not be replaced, or a run with other options.
    """
    if config.out is None:
        return
    if config.resume and (config.out / FILE).is_file():
        restore(config.out / FILE, state, classes, identity)
        say(f"going on from {config.out / FILE}, epoch {state.epoch}")
    elif not (config.resume and (config.out / run_directory.OPTIONS).is_file()):  # killed in its first epoch
        claim_out(config)


def training_view(crop_size: int) -> SingleView:
    """The random crop and flip of a training image."""
    crop = v2.RandomResizedCrop(crop_size, scale=SCALE, interpolation=v2.InterpolationMode.BILINEAR)
    return SingleView(v2.Compose([crop, v2.RandomHorizontalFlip()]))


def training_loader(
    config: LinearConfig, runtime: Runtime, images: LabelledImages, epoch: int
) -> tuple[DataLoader[Any], int]:
    """Batches of views from the beginning of an epoch to the end of the run; and how many there are in an epoch.

    The last batch of an epoch may be smaller than the others, as officially.
    """
    steps_per_epoch = -(-len(images) // config.train_batch_size)
    loader: DataLoader[Any] = DataLoader(
        TrainingImages(images, training_view(config.crop_size), seed=config.seed),
        batch_sampler=EpochOrder(
            len(images),
            config.train_batch_size,
            config.epochs,
            config.seed,
            start=epoch * steps_per_epoch,
            drop_last=False,
        ),
        num_workers=runtime.workers,
        collate_fn=collate_crops,
        pin_memory=runtime.device.type == "cuda",
    )
    return loader, steps_per_epoch


@torch.no_grad()
def training_features(
    batches: Iterable[CropBatch],
    images: LabelledImages,
    network: nn.Module,
    view: View,
    runtime: Runtime,
    bad: BadImages,
    at_once: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Features (B, D) float32 and labels (B,) of one batch after the other, on the device.

    The network sees at_once images of a batch in one pass: 1024 would fill a large accelerator.

    Raises:
        DinotoolsError: too many unreadable images.
    """
    labels = torch.tensor(images.labels)
    for batch in batches:
        for unreadable in batch.bad:
            bad.add(unreadable)
        features = forward(network, batch.crops[0], view, runtime, at_once=at_once)
        yield features, labels[batch.indices].to(runtime.device)


def train(
    state: TrainingState, batches: Iterable[tuple[Tensor, Tensor]], steps_per_epoch: int, val: Features
) -> Iterator[dict[str, float]]:
    """Takes a step for every batch; yields the record of every finished epoch.

    Args:
        state: changed in place.
        batches: features (B, D) and labels (B,), epoch after epoch.
        steps_per_epoch: how many of them are an epoch.
        val: features of the test images.

    Raises:
        RunFailed: the loss is not finite.
    """
    val_features = val.tensor()
    loss_sum = torch.zeros((), device=state.classifier.weight.device)
    for step, (features, labels) in enumerate(batches, start=1):
        loss_sum += train_step(state, features, labels)
        if step % steps_per_epoch == 0:
            scored = score(state.classifier, val_features, val.labels)
            yield end_epoch(state, loss_sum.item() / steps_per_epoch, scored)
            loss_sum.zero_()


def papers_top1(source: str, settings: dict[str, Any], n_classes: int, n_val: int) -> float | None:
    """The paper's top-1 of a released network, where sizes and counts are those of the paper on ImageNet-1k."""
    same = (settings["resize_size"], settings["crop_size"], n_classes, n_val) == (256, 224, 1000, 50_000)
    return published_numbers.tables()["table2"].published(source, "linear") if same else None


def result_of(
    state: TrainingState,
    val: Features,
    classes: list[str],
    title: str,
    details: dict[str, Any],
    published: float | None,
) -> Result:
    """The last epoch's accuracy, and the best epoch's, which is what the official script reports."""
    scored = score(state.classifier, val.tensor(), val.labels)
    best = max(state.records, key=lambda record: record["top1"])
    row = {"epochs": state.epoch, "top-1 %": scored.top1, "top-5 %": scored.top5, "best epoch's top-1 %": best["top1"]}
    metrics: dict[str, Any] = {"top1": scored.top1, "top5": scored.top5, "loss": scored.loss}
    metrics |= {"best_top1": best["top1"], "best_epoch": best["epoch"], "epochs": state.records}
    return Result(
        title=f"linear · {title} · {len(val):,} test images",
        rows=[row | ({"paper top-1 %": published} if published else {})],
        metrics=metrics | {"per_class": by_class(scored.predictions, val.labels, classes)},
        details=details,
        notes=(f"effective lr {details['effective_lr']:.3g}, falling to 0",),
    )
