"""How good a fine-tuned network is, and what is reported of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from dinotools.configs.finetuning import FinetuneConfig
from dinotools.data.sources import LabelledImages
from dinotools.evaluation.finetuning.checkpointing import LATEST, TrainingState
from dinotools.features.extraction import Extractor, batches_of
from dinotools.metrics.classification import top_accuracy
from dinotools.reporting import paper
from dinotools.runtime.device import Runtime
from dinotools.runtime.results import Result

TOP = 5
COLUMNS = {  # (classes, test images) of a data set -> column of Table 6
    (10, 10_000): "C10",
    (100, 10_000): "C100",
    (8142, 24_426): "iNat18",
    (1010, 3030): "iNat19",
    (102, 6149): "Flowers",
    (196, 8041): "Cars",
    (1000, 50_000): "INet",
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
    column = COLUMNS.get((len(state.classes), data["val"]["images"]), "")
    published = paper.tables()["table6"].published(state.start["source"], column)
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
