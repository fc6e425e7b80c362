"""How long the two solvers of ``dinotools lowshot`` take for a sweep of C on the same subsets, and whether they agree.

Wants features on disk, since what makes logistic regression hard (a common direction, few wide axes) is a network's.
The sweeps are timed in turns and medians taken, since the machine may have other work.

    python benchmarks/lowshot.py --features DIR [--images 100,1000] [--repeats 3] [--threads 1]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from dinotools.configs.lowshot import LowshotConfig
from dinotools.data.subsets import draw_subset
from dinotools.features.extraction import Features
from dinotools.features.logistic import Solver, fit
from dinotools.features.opening import open_splits
from dinotools.metrics.classification import top_accuracy
from dinotools.runtime.device import prepare

SOLVERS: tuple[Solver, ...] = ("sklearn", "lbfgs")


def measure(train: Features, val: Features, n_images: int, repeats: int) -> dict[str, Any]:
    """Median seconds of a sweep by each solver, and how far their test accuracies (%) lie apart at any C."""
    rows = draw_subset(train.labels, n_images / len(train), seed=0)
    x, y = F.normalize(train.tensor()[rows], dim=1), train.labels[rows]
    test_x = F.normalize(val.tensor(), dim=1)
    seconds: dict[str, list[float]] = {solver: [] for solver in SOLVERS}
    accuracies: dict[str, list[float]] = {}
    iterations: dict[str, list[int]] = {}
    for number in range(repeats + 1):
        for solver in SOLVERS:
            started = time.perf_counter()
            fits = list(fit(x, y, LowshotConfig().c, solver))
            if number:  # the first round only warms up
                seconds[solver].append(time.perf_counter() - started)
            accuracies[solver] = [top_accuracy(found.predict(test_x, 1), val.labels, 1) for found in fits]
            iterations[solver] = [found.iterations for found in fits]
    apart = max(abs(a - b) for a, b in zip(*accuracies.values(), strict=True))
    return {
        "images": len(rows),
        "n_d_k": x.numel() * len(y.unique()),
        "seconds": {solver: round(statistics.median(times), 3) for solver, times in seconds.items()},
        "iterations": iterations,
        "largest_difference_top1": apart,
    }


def main() -> None:
    """Prints a line per size, and all of it as JSON on the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=Path, required=True, help="folder written by `dinotools features`")
    parser.add_argument("--images", default="100,1000", help="sizes of the class-balanced subsets")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    splits = open_splits(LowshotConfig(features=options.features), seed=0)
    train, val = splits.load(prepare("cpu", "auto", 0, 0))
    found = []
    for n_images in map(int, options.images.split(",")):
        found.append(measure(train, val, n_images, options.repeats))
        print({name: value for name, value in found[-1].items() if name != "iterations"}, flush=True)
    print(json.dumps({"benchmark": "lowshot", "threads": options.threads, "sizes": found}))


if __name__ == "__main__":
    main()
