"""Easy, Medium and Hard at the size of Revisited Oxford with a million distractors, in time and memory.

    python benchmarks/ranking.py [--queries 70 --database 5000 --distractors 1000000 --repeats 3]

The plain method writes every ranking out, as the official evaluation does: ``np.argsort(-similarity, axis=0)`` of
(images, queries), then per query and protocol ``np.isin`` of the whole ranking against positives and junk. The third
method is a thriftier one, which sorts one contiguous query at a time. Each runs in a process of its own, in turns, on
the same random similarities and ground truth (the mean list lengths of Revisited Oxford); medians are printed. The
similarities, 281 MB, are there before the clock starts and memory is measured. Memory is read from /proc, so this runs
on Linux. The last line is JSON.
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
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dinotools.metrics.ranking import PROTOCOLS, revisited

AT = (1, 5, 10)
LENGTHS = {"easy": 43, "hard": 36, "junk": 19}  # images a query lists, on average
METHODS = ("plain", "by-query", "ours")
CLOSER = {"easy": 2.5, "hard": 1.2, "junk": 1.5}  # added to their similarities: neither perfect nor chance
Lists = Sequence[Mapping[str, Sequence[int]]]


def task(queries: int, database: int, distractors: int) -> tuple[Lists, np.ndarray]:
    """Ground truth and similarities (queries, database + distractors) float32, always the same."""
    random = np.random.default_rng(0)
    similarity = random.standard_normal((queries, database + distractors), dtype=np.float32)
    ground_truth = []
    for row in similarity:
        lengths = [int(random.integers(1, 2 * mean)) for mean in LENGTHS.values()]
        listed = random.choice(database, sum(lengths), replace=False)
        lists = dict(zip(LENGTHS, np.split(listed, np.cumsum(lengths)[:-1]), strict=True))
        for name, rows in lists.items():
            row[rows] += CLOSER[name]
        bits = row.view(np.int32)
        bits &= ~1  # nothing listed equals anything else: argsort puts equals in any order
        bits[listed] |= 1
        ground_truth.append({name: rows.tolist() for name, rows in lists.items()})
    return ground_truth, similarity


def plain_average_precision(positions: np.ndarray, n_positives: int) -> float:
    """The trapezoid rule over ascending ranks."""
    area = 0.0
    for j, rank in enumerate(positions.tolist()):
        area += ((1.0 if rank == 0 else j / rank) + (j + 1) / (rank + 1)) / 2 / n_positives
    return area


def plain_scores(ground_truth: Lists, rankings: Iterable[np.ndarray]) -> dict[str, list[float]]:
    """mAP and mP@k of every protocol from the ranking of each query, written out."""
    values: dict[str, list[list[float]]] = {protocol: [] for protocol in PROTOCOLS}
    for lists, ranking in zip(ground_truth, rankings, strict=True):
        for protocol, (positive_lists, junk_lists) in PROTOCOLS.items():
            positives = np.concatenate([lists[name] for name in positive_lists])
            junk = np.concatenate([lists[name] for name in junk_lists])
            places = np.arange(len(ranking))[np.isin(ranking, positives)]
            junk_places = np.arange(len(ranking))[np.isin(ranking, junk)]
            places = places - np.searchsorted(junk_places, places)
            until = [min(k, int(places.max()) + 1) for k in AT]
            values[protocol].append(
                [plain_average_precision(places, len(positives)), *(float((places < k).sum() / k) for k in until)]
            )
    return {protocol: np.mean(rows, axis=0).tolist() for protocol, rows in values.items()}


def our_scores(ground_truth: Lists, similarity: np.ndarray) -> dict[str, list[float]]:
    """The same from counted ranks."""
    scores = revisited(ground_truth, torch.from_numpy(similarity), at=AT)
    return {
        protocol: [score.mean_average_precision, *score.mean_precision.values()] for protocol, score in scores.items()
    }


def memory(field: str) -> float:
    """VmHWM (peak) or VmRSS of this process, in MB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1.024e-3


def measure(method: str, folder: Path) -> dict[str, Any]:
    """One method on the task of a folder, in this process."""
    ground_truth = json.loads((folder / "truth.json").read_text(encoding="ascii"))
    similarity = np.load(folder / "similarity.npy")
    if method == "plain":
        similarity = np.ascontiguousarray(similarity.T)
    before, started = memory("VmRSS"), time.perf_counter()
    if method == "plain":
        scores = plain_scores(ground_truth, np.argsort(-similarity, axis=0).T)
    elif method == "by-query":
        scores = plain_scores(ground_truth, (np.argsort(-row) for row in similarity))
    else:
        scores = our_scores(ground_truth, similarity)
    return {
        "seconds": round(time.perf_counter() - started, 3),
        "growth_mb": round(memory("VmHWM") - before, 1),
        "scores": scores,
    }


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """All methods in turns, each time in a new process, and how far our scores are from the others."""
    runs: dict[str, list[dict[str, Any]]] = {method: [] for method in METHODS}
    with tempfile.TemporaryDirectory() as name:
        ground_truth, similarity = task(options.queries, options.database, options.distractors)
        (Path(name) / "truth.json").write_text(json.dumps(ground_truth), encoding="ascii")
        np.save(Path(name) / "similarity.npy", similarity)
        for i in range(options.repeats):
            for method, found in runs.items():
                command = [sys.executable, __file__, "--method", method, "--folder", name]
                answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                found.append(json.loads(answer.splitlines()[-1]))
                print(f"round {i + 1}, {method}: {found[-1]}", flush=True)
    seconds, growth = (
        {method: statistics.median(run[field] for run in found) for method, found in runs.items()}
        for field in ("seconds", "growth_mb")
    )
    scores = {method: np.array(list(found[0]["scores"].values())) for method, found in runs.items()}
    return {
        "seconds": seconds,
        "growth_mb": growth,
        "times_faster": {method: round(seconds[method] / seconds["ours"], 2) for method in METHODS[:-1]},
        "largest_difference": max(float(np.abs(other - scores["ours"]).max()) for other in scores.values()),
        "scores": runs["ours"][0]["scores"],
    }


def main() -> None:
    """Prints progress, then the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=70)
    parser.add_argument("--database", type=int, default=5000)
    parser.add_argument("--distractors", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--method", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.method:
        print(json.dumps(measure(options.method, options.folder)))
        return
    found = compare(options)
    sizes = {name: getattr(options, name) for name in ("queries", "database", "distractors", "repeats")}
    print(json.dumps({**sizes, "at": AT, "cores": os.cpu_count(), **found}))


if __name__ == "__main__":
    main()
