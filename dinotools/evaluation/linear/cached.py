"""The cached linear probe: features once, then a grid of classifiers at the same time.

Images reach the network as for testing (shorter side 256, centre crop 224; no augmentation). Every learning rate is
trained on every combination of n_last_blocks and avgpool_patchtokens with the paper's optimizer and schedule; a share
of the training images of each class, on which nothing is ever trained, chooses among them, and only the chosen
classifier's accuracy on the test images is the result; no table of the paper has its counterpart. Learning rates:
those of DINOv2, as its issue 232 lists them, for 256 images a step.

    dinotools linear --protocol cached --ckpt dino_vits16 --data /datasets/imagenet --out probes/vits16
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dinotools.configs.linear import LinearConfig
from dinotools.data.subsets import hold_out
from dinotools.evaluation.linear.classifier import FILE, as_linear, score, write_classifier
from dinotools.evaluation.linear.grid import Heads, train
from dinotools.evaluation.linear.inputs import grid_poolings, official_order
from dinotools.evaluation.linear.training import claim_out, effective_lr
from dinotools.features.opening import open_splits
from dinotools.features.pooling import Pooling
from dinotools.metrics.classification import by_class
from dinotools.reporting import figures
from dinotools.runtime.device import Runtime
from dinotools.runtime.errors import DinotoolsError, RunFailed
from dinotools.runtime.results import Result

PICTURE = "linear-grid.png"


@dataclass(frozen=True)
class Cell:
    """One setting of the grid and how it did.

    Args:
        pooling: what the classifier reads.
        lr: learning rate for 256 images a step.
        effective_lr: learning rate of the first epoch.
        diverged: whether its weights are not finite.
        holdout_top1: accuracy in percent on the images held out from training.
        test_top1: the same on the test images, on which nothing is chosen.
    """

    pooling: Pooling
    lr: float
    effective_lr: float
    diverged: bool
    holdout_top1: float
    test_top1: float

    def describe(self) -> dict[str, Any]:
        """What results.json says of it."""
        accuracies = {"holdout_top1": self.holdout_top1, "test_top1": self.test_top1}
        return {
            "pooling": str(self.pooling),
            "n_last_blocks": self.pooling.n_last_blocks,
            "avgpool_patchtokens": self.pooling.avg,
            "lr": self.lr,
            "effective_lr": self.effective_lr,
            "diverged": self.diverged,
        } | (dict.fromkeys(accuracies) if self.diverged else accuracies)


def run(config: LinearConfig, runtime: Runtime) -> Result:
    """Extracts or reads the features, trains the grid, chooses, and scores the chosen classifier.

    Raises:
        DinotoolsError: the network, the features or the data cannot be used; nothing can be held out.
        RunFailed: every classifier diverged.
    """
    opened = open_splits(config, seed=config.seed)
    poolings = grid_poolings(config, opened.available)
    widest = Pooling(max(p.n_last_blocks for p in poolings), avg=any(p.avg for p in poolings))
    splits = opened.pooled(widest)
    claim_out(config)
    train_split, val = splits.load(runtime)
    features, val_features = train_split.tensor(), val.tensor()
    stays, held_out = hold_out(train_split.labels, config.holdout, config.seed)
    if not len(held_out):
        raise DinotoolsError(
            "no class has two images, so that none can be held out", "--holdout", "Use --protocol paper, or more data."
        )

    lrs = [effective_lr(lr, config.train_batch_size) for lr in config.lrs]
    settings = [
        Heads(columns_of(pooling, widest, features.shape[1]), len(splits.classes), lrs, config.seed, runtime.device)
        for pooling in poolings
    ]
    options = {"epochs": config.epochs, "batch_size": config.train_batch_size, "seed": config.seed}
    train(settings, features, train_split.labels, stays, **options)

    holdout = features[held_out], train_split.labels[held_out]
    cells = []
    for pooling, heads in zip(poolings, settings, strict=True):
        measured = heads.diverged(), heads.accuracies(*holdout), heads.accuracies(val_features, val.labels)
        cells += [Cell(pooling, *cell) for cell in zip(config.lrs, lrs, *measured, strict=True)]
    best = choose(cells)
    setting, head = divmod(cells.index(best), len(lrs))
    weight, bias = settings[setting].head(head)
    scored = score(as_linear(weight, bias), val_features[:, settings[setting].columns], val.labels)
    if config.out is not None:
        write_classifier(
            config.out / FILE,
            official_order(weight, best.pooling),
            bias,
            best.pooling,
            splits.classes,
            splits.settings,
            epoch=config.epochs,
            best_acc=scored.top1,
        )
        figures.save(picture(cells, best, splits.title, scored.top1), config.out / PICTURE)
    metrics: dict[str, Any] = {"top1": scored.top1, "top5": scored.top5, "loss": scored.loss}
    metrics |= {"chosen": best.describe(), "grid": [cell.describe() for cell in cells]}
    return Result(
        title=f"linear, cached · {splits.title} · {len(val):,} test images",
        rows=table(cells, best),
        metrics=metrics | {"per_class": by_class(scored.predictions, val.labels, splits.classes)},
        details={**splits.describe(train_split, val), "held_out": len(held_out), **runtime.describe()},
        notes=notes(config, best, scored.top1, scored.top5, len(held_out)),
    )


def columns_of(pooling: Pooling, widest: Pooling, width: int) -> slice:
    """Where a pooling stands among the columns of a wider one: last blocks and average are adjacent."""
    columns = widest.columns(pooling, width)
    assert columns is not None  # it is the widest
    return slice(int(columns[0]), int(columns[-1]) + 1)


def choose(cells: Sequence[Cell]) -> Cell:
    """The best on the images held out; of equals the first.

    Raises:
        RunFailed: all diverged.
    """
    sound = [cell for cell in cells if not cell.diverged]
    if not sound:
        raise RunFailed("every classifier diverged", remedy="Use smaller --lrs.")
    return max(sound, key=lambda cell: cell.holdout_top1)


def table(cells: Sequence[Cell], best: Cell) -> list[dict[str, Any]]:
    """A row per learning rate, a column per feature setting; in it top-1 held out / test, the chosen one marked."""
    rows: dict[float, dict[str, Any]] = {}
    for cell in cells:
        row = rows.setdefault(cell.lr, {"lr": f"{cell.lr:g}", "effective": f"{cell.effective_lr:.3g}"})
        text = "diverged" if cell.diverged else f"{cell.holdout_top1:4.1f}/{cell.test_top1:4.1f}"
        row[str(cell.pooling)] = f"{text} *" if cell is best else text
    return list(rows.values())


def notes(config: LinearConfig, best: Cell, top1: float, top5: float, n_held_out: int) -> tuple[str, ...]:
    """What to read out of the table."""
    told = (
        f"top-1 % of {n_held_out:,} training images held out / of the test images, which choose nothing",
        f"* chosen: {best.pooling}, lr {best.lr:g} (effective {best.effective_lr:.3g}): "
        f"top-1 {top1:.2f} %, top-5 {top5:.2f} % of the test images",
    )
    if config.out is None:
        return told
    return (*told, f"Picture: {config.out / PICTURE}", f"Classifier: {config.out / FILE}")


def picture(cells: Sequence[Cell], best: Cell, title: str, top1: float) -> figures.Figure:
    """The accuracies held out as a heat map, the chosen one framed and its accuracy on the test images told."""
    poolings = list(dict.fromkeys(cell.pooling for cell in cells))
    rates = list(dict.fromkeys(cell.lr for cell in cells))
    values = {(cell.pooling, cell.lr): np.nan if cell.diverged else cell.holdout_top1 for cell in cells}
    return figures.heat_map(
        np.array([[values[pooling, lr] for lr in rates] for pooling in poolings]),
        rows=[str(pooling) for pooling in poolings],
        columns=[f"{lr:g}" for lr in rates],
        marked=(poolings.index(best.pooling), rates.index(best.lr)),
        title=f"{title}\nchosen: {best.pooling}, lr {best.lr:g}: {top1:.1f} % of the test images",
        labels=("learning rate for 256 images a step", "features", "top-1 % of the training images held out"),
    )
