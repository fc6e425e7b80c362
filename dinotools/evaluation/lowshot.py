"""Low-shot classification: logistic regression on the frozen features of a few labelled images.

A subset of the training images (a list such as SimCLR's ``1percent.txt``, or the same share of every class, drawn at
random) is divided once more: a part held out chooses the regularisation C, then all of it is fitted with that C.
The paper solved this with cyanure and does not say how features were scaled or C was chosen. Here features are
L2-normalised, as in a later evaluation by some of its authors (MSN, arXiv 2204.07141, whose code has C = 4000); C runs
over half decades around that, where DINOv2 takes 45 values from 1e-6 to 1e5 for features as they are.
Paper: Tables 10 and 12. ImageNet top-1 of ViT-S/16: 64.5 with 1 % of the labels, 72.2 with 10 %, 75.7 with all.

    dinotools lowshot --ckpt dino_vits16 --data /datasets/imagenet --subset 1percent.txt
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dinotools.configs import files
from dinotools.configs.lowshot import LowshotConfig
from dinotools.data.subsets import draw_subset, hold_out, read_subset
from dinotools.features.logistic import LinearClassifier, Solver, choose_solver, fit
from dinotools.features.opening import Splits, open_splits
from dinotools.metrics.classification import by_class, top_accuracy
from dinotools.reporting import paper
from dinotools.runtime import device, run_directory
from dinotools.runtime.console import track
from dinotools.runtime.errors import DinotoolsError, require
from dinotools.runtime.results import Result

TOP = 5
COLUMNS = {share: f"INet {share:.0%} logistic" for share in (0.01, 0.1, 1.0)}  # of Table 10
PAPER_COUNTS = (1000, 1_281_167, 50_000)  # classes, training and test images of ImageNet-1k


@dataclass(frozen=True)
class Subset:
    """Training images to learn from.

    Args:
        name: heading of its row; the draws of one fraction share it.
        seed: of its draw and of what is held out.
        positions: of the images in the training set, ascending, int64.
    """

    name: str
    seed: int
    positions: Tensor


@dataclass(frozen=True)
class Trial:
    """What came of one subset.

    Args:
        subset: the images.
        labels: classes of those that could be read (N,) int64.
        c: the regularisation chosen.
        solver: what fitted.
        sweep: what ``judge`` said of every C.
        converged: whether the last fit did.
        ranking: classes of the test images, best first (Q, min(5, K)) int64 on the CPU.
    """

    subset: Subset
    labels: Tensor
    c: float
    solver: Solver
    sweep: list[dict[str, Any]]
    converged: bool
    ranking: Tensor


def run(config: LowshotConfig) -> Result:
    """Opens the features, draws or reads the subsets, fits and scores each.

    Raises:
        DinotoolsError: the checkpoint, the features, the data, the list or an option cannot be used.
    """
    check_options(config)
    runtime = device.prepare(config.device, config.precision, config.workers, config.seed)
    splits = open_splits(config, seed=config.seed, pooling=config.pooling)
    subsets = choose_subsets(config, splits)
    if config.out is not None:
        inputs = (config.ckpt, config.data, config.train, config.val, config.features, config.subset)
        run_directory.claim(config.out, files.dump(config), overwrite=config.overwrite, inputs=inputs)
    wanted = torch.cat([subset.positions for subset in subsets]).unique()  # of all subsets, extracted once
    n_train = len(splits.train_labels)
    train, val = splits.load(runtime, wanted.tolist() if len(wanted) < n_train else None)
    x, test_x = (F.normalize(split.tensor(), dim=1).to(runtime.device) for split in (train, val))
    trials: dict[str, list[Trial]] = {}
    for subset in subsets:
        rows = torch.isin(train.indices, subset.positions)
        check_classes(train.labels[rows], val.labels, splits.classes, subset.name)
        trials.setdefault(subset.name, []).append(learn(subset, x[rows], train.labels[rows], test_x, config))
    found = {name: scores(draws, val.labels, splits.classes) for name, draws in trials.items()}
    published = papers_numbers(config, splits)
    told = [note for draws in trials.values() for trial in draws for note in notes(trial, config.c)]
    return Result(
        title=f"low-shot · {splits.title} · {len(val):,} test images",
        rows=[row(name, of_name, published, n_train) for name, of_name in found.items()],
        metrics=found,
        details={**splits.describe(train, val), **runtime.describe()},
        notes=tuple(dict.fromkeys(told)),
    )


def check_options(config: LowshotConfig) -> None:
    """Raises DinotoolsError where an option has no meaning."""
    fractions, costs = config.fraction, config.c
    require(
        bool(fractions) and all(0 < f <= 1 for f in fractions),
        f"{','.join(map(str, fractions)) or 'nothing'} is no list of shares",
        "fraction",
        "One percent is 0.01, all images are 1.",
    )
    require(
        bool(costs) and all(0 < c < math.inf for c in costs), "must be numbers above 0", "c", "Try --c 1,10,100,1000."
    )
    require(config.draws >= 1, f"is {config.draws}", "draws", "One draw is the least.")
    require(0 < config.holdout <= 0.5, f"is {config.holdout}", "holdout", "Give a share up to 0.5.")
    require(
        config.subset is None or config.draws == 1,
        "was given beside --subset",
        "draws",
        "Leave out --draws or --subset.",
    )


def choose_subsets(config: LowshotConfig, splits: Splits) -> list[Subset]:
    """The subset that is listed, or those drawn of every fraction; all images are drawn only once.

    Raises:
        DinotoolsError: the list cannot be used, there is only one class, or no image to choose a C with.
    """
    if len(splits.classes) < 2:
        raise DinotoolsError("all training images are of one class", "--data", "A classifier needs two at least.")
    labels, subsets = splits.train_labels, []
    if config.subset is not None:
        subsets = [Subset(config.subset.name, config.seed, read_subset(config.subset, splits.train_names))]
    else:
        for fraction in dict.fromkeys(config.fraction):
            for seed in range(config.seed, config.seed + (config.draws if fraction < 1 else 1)):
                subsets.append(Subset(f"{100 * fraction:g}%", seed, draw_subset(labels, fraction, seed)))
    if len(set(config.c)) > 1:
        for subset in subsets:
            divide(subset, labels[subset.positions], config)  # now rather than after the extraction
    return subsets


def check_classes(labels: Tensor, test_labels: Tensor, classes: Sequence[str], subset: str) -> None:
    """Refuses a subset from which a class of the test images cannot be learned.

    Raises:
        DinotoolsError: it has no readable image of such a class.
    """
    absent = sorted(set(test_labels.tolist()) - set(labels.tolist()))
    if absent:
        shown = ", ".join(classes[i] for i in absent[:3]) + (", ..." if len(absent) > 3 else "")
        raise DinotoolsError(
            f"has no readable image of {len(absent)} of the test images' classes: {shown}",
            subset,
            "Add images of them, or leave them out of the test images.",
        )


def learn(subset: Subset, x: Tensor, labels: Tensor, test_x: Tensor, config: LowshotConfig) -> Trial:
    """Chooses C on images held out of a subset, and fits all of it with that C.

    Args:
        subset: the images.
        x: their features (N, D) float32.
        labels: their classes (N,) int64 on the CPU.
        test_x: features of the test images (Q, D) on the device of x.
        config: C to choose from, share held out, solver.

    Raises:
        DinotoolsError: there is a choice of C, but no class has an image to spare.
    """
    costs = sorted(set(config.c))
    solver = choose_solver(x, len(labels.unique())) if config.solver == "auto" else config.solver
    where = torch.device("cpu") if solver == "sklearn" else x.device
    x, y, test_x = x.to(where), labels.to(where), test_x.to(where)
    best, sweep = costs[0], []
    if len(costs) > 1:
        stays, held_out = divide(subset, labels, config)
        fits = track(fit(x[stays], y[stays], costs, solver), f"values of C for {subset.name}", len(costs))
        sweep = [judge(c, fitted, x[held_out], y[held_out]) for c, fitted in zip(costs, fits, strict=True)]
        # of equal accuracies the lower loss decides: few images held out leave many ties
        best = max(sweep, key=lambda tried: (tried["top1"], -tried["loss"]))["c"]
    (classifier,) = fit(x, y, [best], solver)
    return Trial(subset, labels, best, solver, sweep, classifier.converged, classifier.predict(test_x, TOP).cpu())


def divide(subset: Subset, labels: Tensor, config: LowshotConfig) -> tuple[Tensor, Tensor]:
    """Positions, among the images of a subset with these classes, that a C is fitted to and that judge it.

    Raises:
        DinotoolsError: no class has an image to spare.
    """
    stays, held_out = hold_out(labels, config.holdout, subset.seed)
    if len(held_out) == 0:
        raise DinotoolsError(
            f"{subset.name} leaves every class one image: none can be held out to choose a C with",
            "--c",
            "Give one C alone, such as --c 1000, or a larger subset.",
        )
    return stays, held_out


def judge(c: float, classifier: LinearClassifier, x: Tensor, labels: Tensor) -> dict[str, Any]:
    """What results.json says of a C: accuracy and loss on images held out, with features (N, D) and labels (N,)."""
    top1 = top_accuracy(classifier.predict(x, 1), labels, 1)
    effort = {"iterations": classifier.iterations, "converged": classifier.converged}
    return {"c": c, "top1": top1, "loss": classifier.loss(x, labels), **effort}


def scores(trials: Sequence[Trial], labels: Tensor, classes: Sequence[str]) -> dict[str, Any]:
    """What results.json says of the draws of one fraction, or of a list.

    Args:
        trials: one per draw.
        labels: classes of the test images (Q,) int64.
        classes: names of all classes.
    """
    draws: list[dict[str, Any]] = []
    for trial in trials:
        top1, top5 = (top_accuracy(trial.ranking, labels, n) for n in (1, TOP))
        told = {"seed": trial.subset.seed, "images": len(trial.labels), "top1": top1, "top5": top5, "c": trial.c}
        draws.append(told | {"solver": trial.solver, "converged": trial.converged, "sweep": trial.sweep})
    found: dict[str, Any] = {name: statistics.fmean(draw[name] for draw in draws) for name in ("top1", "top5")}
    if len(draws) > 1:
        found |= {f"{name}_std": statistics.stdev(draw[name] for draw in draws) for name in ("top1", "top5")}
    best_classes = torch.cat([trial.ranking[:, 0] for trial in trials])
    return found | {"draws": draws, "per_class": by_class(best_classes, labels.repeat(len(trials)), classes)}


def row(name: str, found: dict[str, Any], published: dict[float, float], n_train: int) -> dict[str, Any]:
    """The row of a fraction or list in the table, from its ``scores``."""
    draws = found["draws"]
    several = len(draws) > 1
    images = round(statistics.fmean(draw["images"] for draw in draws))
    papers = published.get(round(images / n_train, 4))
    return {
        "subset": name,
        "images": images,
        **({"draws": len(draws)} if several else {}),
        "C": ", ".join(f"{c:g}" for c in sorted({draw["c"] for draw in draws})),
        "top-1 %": found["top1"],
        **({"± %": found["top1_std"]} if several else {}),
        "top-5 %": found["top5"],
        **({"paper top-1 %": papers} if papers else {}),
    }


def papers_numbers(config: LowshotConfig, splits: Splits) -> dict[float, float]:
    """Share of the training images -> the paper's top-1, where network, view and counts are those of the paper."""
    counts = (len(splits.classes), len(splits.train_labels), splits.n_val)
    view = (splits.settings["resize_size"], splits.settings["crop_size"], config.pooling)
    same = (counts, view) == (PAPER_COUNTS, (256, 224, "cls"))
    of = {share: paper.tables()["table10"].published(splits.checkpoint["source"], c) for share, c in COLUMNS.items()}
    return {share: value for share, value in of.items() if same and value is not None}


def notes(trial: Trial, costs: Sequence[float]) -> list[str]:
    """What a reader of the table should know of a trial."""
    name, told = trial.subset.name, []
    alone = int((trial.labels.bincount() == 1).sum())
    if trial.sweep and alone:
        told.append(f"{name}: classes with a single image ({alone:,}) took no part in the choice of C.")
    if trial.sweep and trial.c in (min(costs), max(costs)):
        told.append(f"{name}: C = {trial.c:g} stands at an end of --c; one beyond it may do better.")
    if not trial.converged:
        told.append(f"{name}: the fit with C = {trial.c:g} ended before it had converged.")
    return told
