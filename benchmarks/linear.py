"""How long a grid of linear classifiers takes, as a multiple of training a single one the usual way.

The usual way is ``nn.Linear``, autograd and ``torch.optim.SGD`` over the same features in memory and the same batches.
The grid is 13 learning rates x 2 feature settings (the whole feature, and its last quarter: n_last_blocks 4 and 1).
A few epochs of each are timed in turns and medians taken, since the machine may have other work; an epoch costs what
the 99 others do, so that ratios of epochs are ratios of whole runs.

    python benchmarks/linear.py [--classes 10,100] [--images 50000] [--threads 1]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinotools.configs.linear import LinearConfig
from dinotools.evaluation.linear.grid import Heads, batches

WIDTH, EPOCHS = 1536, 100


def plain_epoch(features: Tensor, labels: Tensor, n_classes: int, batch_size: int) -> Callable[[int], None]:
    """One classifier the usual way."""
    layer = nn.Linear(features.shape[1], n_classes)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01, momentum=0.9)

    def epoch(number: int) -> None:
        for rows in batches(torch.arange(len(labels)), batch_size, 0, number):
            loss = F.cross_entropy(layer(features[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


def grid_epoch(
    features: Tensor, labels: Tensor, n_classes: int, batch_size: int, lrs: tuple[float, ...], columns: list[slice]
) -> Callable[[int], None]:
    """Classifiers of all learning rates on all columns, as the cached protocol trains them."""
    settings = [Heads(these, n_classes, lrs, seed=0) for these in columns]

    def epoch(number: int) -> None:
        for rows in batches(torch.arange(len(labels)), batch_size, 0, number):
            batch, wanted = features.index_select(0, rows), labels[rows]
            for heads in settings:
                heads.step(batch, wanted, decay=1.0)

    return epoch


def measure(n_images: int, n_classes: int, batch_size: int, repeats: int) -> dict[str, float]:
    """Median seconds of an epoch of each way, and medians of the ratios within one round."""
    features = torch.randn(n_images, WIDTH, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(n_images) % n_classes
    lrs, whole, quarter = LinearConfig().lrs, slice(0, WIDTH), slice(WIDTH - WIDTH // 4, WIDTH)
    task = (features, labels, n_classes, batch_size)
    ways = {
        "plain": plain_epoch(*task),
        "one head": grid_epoch(*task, lrs[5:6], [whole]),
        f"{len(lrs)} x 2 heads": grid_epoch(*task, lrs, [quarter, whole]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(repeats + 1):
        for name, epoch in ways.items():
            started = time.perf_counter()
            epoch(number)
            if number:  # the first round only warms up
                seconds[name].append(time.perf_counter() - started)
    found = {name: statistics.median(times) for name, times in seconds.items()}
    for name in list(ways)[1:]:
        ratios = [ours / plain for ours, plain in zip(seconds[name], seconds["plain"], strict=True)]
        found[f"{name} / plain"] = statistics.median(ratios)
    return found


def main() -> None:
    """Measures, prints a table, and the same as JSON in the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", default="10,100", help="numbers of classes, measured one after the other")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=5, help="epochs timed of each way")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.images:,} x {WIDTH} features, batch {options.batch_size}, {options.threads} thread(s)")
    results = {}
    for n_classes in map(int, options.classes.split(",")):
        found = measure(options.images, n_classes, options.batch_size, options.repeats)
        results[f"{n_classes} classes"] = found
        for name in [name for name in found if "/" not in name]:
            ratio = found.get(f"{name} / plain", 1.0)
            times = f"{found[name]:7.3f} s an epoch {EPOCHS * found[name]:7.1f} s for {EPOCHS}"
            print(f"{n_classes:5} classes  {name:14} {times} {ratio:6.2f} x")
    shape = {"images": options.images, "width": WIDTH, "batch_size": options.batch_size}
    print(json.dumps({"benchmark": "linear", **shape, "threads": options.threads, "cores": os.cpu_count(), **results}))


if __name__ == "__main__":
    main()
