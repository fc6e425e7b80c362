"""How good a fine-tuned network is, and what is reported of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from dinotools.configs.finetuning import FinetuneConfig
from dinotools.data.sources import LabelledImages
from dinotools.evaluation.finetuning.checkpointing import LATEST, TrainingState
from dinotools.features.extraction import Extractor, batches_of
from dinotools.metrics.classification import top_accuracy
from dinotools.runtime.device import Runtime
from dinotools.runtime.results import Result

TOP = 5
TABLE_6 = {  # (classes, test images) of a data set -> released network -> top-1 in percent
    (10, 10_000): {"dino_vits16": 99.0, "dino_vitb16": 99.1},  # CIFAR-10
    (100, 10_000): {"dino_vits16": 90.5, "dino_vitb16": 91.7},  # CIFAR-100
    (8142, 24_426): {"dino_vits16": 72.0, "dino_vitb16": 72.6},  # iNaturalist 2018
    (1010, 3030): {"dino_vits16": 78.2, "dino_vitb16": 78.6},  # iNaturalist 2019
    (102, 6149): {"dino_vits16": 98.5, "dino_vitb16": 98.8},  # Flowers
    (196, 8041): {"dino_vits16": 93.0, "dino_vitb16": 93.0},  # Cars
    (1000, 50_000): {"dino_vits16": 81.5, "dino_vitb16": 82.8},  # ImageNet
}


class Measured(NamedTuple):
    """Accuracies in percent, the images they are of, and the names of those that could not be read."""

    top1: float
    top5: float
    images: int
    skipped: list[str]


def measure(config: FinetuneConfig, runtime: Runtime, state: TrainingState, images: LabelledImages) -> Measured:
    """Accuracy on the test images, resized and centre-cropped."""
    extractor = Extractor(state.measured, images, runtime, state.view, config.max_bad)
    batch_size = max(config.batch_size // config.accumulate, 1)
    found = [
        (batch.features.topk(min(TOP, len(state.classes))).indices, batch.labels)
        for batch in extractor.run(batches_of(range(len(images)), batch_size), batch_size, "the test images")
        if len(batch.labels)
    ]
    ranking, labels = (torch.cat(column) for column in zip(*found, strict=True))
    top1, top5 = top_accuracy(ranking, labels, 1), top_accuracy(ranking, labels, TOP)
    return Measured(top1, top5, len(labels), extractor.bad.names)


def result_of(
    config: FinetuneConfig, state: TrainingState, records: list[dict[str, Any]], data: dict[str, Any], runtime: Runtime
) -> Result:
    """The accuracy after the last epoch; beside it, marked as such, the best on the way."""
    last = records[-1]
    best = max((record for record in records if "top1" in record), key=lambda record: record["top1"])
    row = {"epochs": last["epoch"], "loss": last["train_loss"], "top-1 %": last["top1"], "top-5 %": last["top5"]}
    published = TABLE_6.get((len(state.classes), data["val"]["images"]), {}).get(state.start["source"])
    if published and config.crop_size == 224:
        row["paper top-1 %"] = published
    return Result(
        title=f"finetune · {state.start['source']} · {config.data or config.val} · {last['test_images']:,} test images",
        rows=[row],
        metrics={**last, "best_on_test_images": {"epoch": best["epoch"], "top1": best["top1"]}},
        details={"checkpoint": state.start, "data": data | {"classes": len(state.classes)}, **runtime.describe()},
        notes=(
            f"After the last epoch. The best on these test images was {best['top1']:.1f} after epoch {best['epoch']}, "
            "which chose itself by them.",
            f"Network: {config.out / LATEST}",
        ),
    )
