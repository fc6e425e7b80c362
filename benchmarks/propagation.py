"""A step of label propagation on the grids of ViT-S/16 and ViT-S/8 at 480p, in time and memory.

    python benchmarks/propagation.py [--grids 30x52,60x104 --repeats 3]

The plain method is the usual one, and that of the official code: the affinity of every target patch with every
context patch, times the mask of the neighbourhood, the k-th largest by ``topk``, the rest set to 0, then one product
with the labels. Each method runs in a process of its own, in turns, on the same random features that resemble one
another as neighbouring frames do; the first step of each is for warming up and not timed, medians are printed. The
features and the plain method's mask are there before the clock starts and memory is measured; that mask, written
element by element as officially, is timed apart, on the smallest grid. Memory is read from /proc, so this runs on
Linux. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dinotools.evaluation.davis.propagation import propagate, unit

METHODS = ("plain", "ours")
CLASSES, DIM, TOPK, TEMPERATURE = 3, 384, 5, 0.1


def task(height: int, width: int, context: int) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Target features, context features and context labels, always the same."""
    random = torch.Generator().manual_seed(0)
    common = torch.randn(height, width, DIM, generator=random)
    target, *sources = (unit(common + torch.randn(common.shape, generator=random)) for _ in range(context + 1))
    labels = [torch.randn(CLASSES, height, width, generator=random).softmax(dim=0) for _ in sources]
    return target, sources, labels


def neighbourhood(height: int, width: int, radius: int) -> Tensor:
    """1 where two patches are near, else 0: (h w, h w)."""
    rows, columns = torch.arange(height * width) // width, torch.arange(height * width) % width
    near = ((axis[:, None] - axis).abs() <= radius for axis in (rows, columns))
    return torch.mul(*near).float()


def neighbourhood_by_element(height: int, width: int, radius: int) -> Tensor:
    """The same, one element after the other."""
    mask = torch.zeros(height, width, height, width)
    for i in range(height):
        for j in range(width):
            for other_i in range(max(0, i - radius), min(height, i + radius + 1)):
                for other_j in range(max(0, j - radius), min(width, j + radius + 1)):
                    mask[i, j, other_i, other_j] = 1
    return mask.view(height * width, height * width)


def plain(target: Tensor, sources: list[Tensor], labels: list[Tensor], near: Tensor) -> Tensor:
    """The affinity of all with all, (context, targets)."""
    height, width, _ = target.shape
    context = torch.stack([source.flatten(0, 1) for source in sources])
    affinity = torch.exp(torch.bmm(context, target.flatten(0, 1).T.expand(len(sources), -1, -1)) / TEMPERATURE)
    affinity *= near
    affinity = affinity.flatten(0, 1)
    least = affinity.topk(TOPK, dim=0).values.amin(dim=0)
    affinity[affinity < least] = 0
    affinity = affinity / affinity.sum(dim=0, keepdim=True)
    of_context = torch.cat([one.flatten(1) for one in labels], dim=1)
    return (of_context @ affinity).unflatten(1, (height, width))


def memory(field: str) -> float:
    """A line of /proc/self/status in MB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def measure(method: str, options: argparse.Namespace) -> dict[str, float]:
    """One method on the task, in this process; its answer goes to a file."""
    height, width = map(int, options.grids.split("x"))
    target, sources, labels = task(height, width, options.context)
    near = neighbourhood(height, width, options.radius) if method == "plain" else None
    before = memory("VmRSS")
    seconds = []
    for _ in range(options.steps + 1):
        started = time.perf_counter()
        if near is None:
            found = propagate(target, sources, labels, radius=options.radius, topk=TOPK, temperature=TEMPERATURE)
        else:
            found = plain(target, sources, labels, near)
        seconds.append(time.perf_counter() - started)
    np.save(options.answer, found.numpy())
    return {"seconds": round(statistics.median(seconds[1:]), 4), "peak_mb": round(memory("VmHWM") - before, 1)}


def compare(grid: str, options: argparse.Namespace) -> dict[str, Any]:
    """Both methods in turns on a grid, each time in a new process, and how far their answers are apart."""
    runs: dict[str, list[dict[str, float]]] = {method: [] for method in METHODS}
    answers = {}
    with tempfile.TemporaryDirectory() as folder:
        for i in range(options.repeats):
            for method, found in runs.items():
                answer = Path(folder) / f"{method}.npy"
                command = [sys.executable, __file__, "--method", method, "--grids", grid, "--answer", str(answer)]
                command += [f"--{name}={getattr(options, name)}" for name in ("context", "radius", "steps")]
                printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                found.append(json.loads(printed.splitlines()[-1]))
                answers[method] = np.load(answer)
                print(f"{grid}, round {i + 1}, {method}: {found[-1]}", flush=True)
    medians = {
        name: {method: statistics.median(run[name] for run in found) for method, found in runs.items()}
        for name in ("seconds", "peak_mb")
    }
    return {
        **medians,
        "times_faster": round(medians["seconds"]["plain"] / medians["seconds"]["ours"], 2),
        "share_of_memory": round(medians["peak_mb"]["ours"] / medians["peak_mb"]["plain"], 3),
        "largest_difference": float(np.abs(answers["plain"] - answers["ours"]).max()),
    }


def main() -> None:
    """Prints progress, then the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grids", default="30x52,60x104")
    parser.add_argument("--context", type=int, default=8)
    parser.add_argument("--radius", type=int, default=12)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--method", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.method:
        print(json.dumps(measure(options.method, options)))
        return
    grids = options.grids.split(",")
    found = {grid: compare(grid, options) for grid in grids}
    height, width = map(int, grids[0].split("x"))
    started = time.perf_counter()
    by_element = neighbourhood_by_element(height, width, options.radius)
    seconds = time.perf_counter() - started
    assert torch.equal(by_element, neighbourhood(height, width, options.radius))
    sizes = {name: getattr(options, name) for name in ("context", "radius", "repeats")}
    report = {**sizes, "dim": DIM, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "grids": found}
    print(json.dumps({**report, "neighbourhood_by_element_s": round(seconds, 2)}))


if __name__ == "__main__":
    main()
