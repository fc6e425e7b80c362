"""A million vectors: exact search beside a flat index and IVF-PQ, in time, memory and recall.

    python benchmarks/million.py DIR [--vectors 1000000 --dim 384 --centres 10000 --queries 1000 --k 100]

Writes seeded features to DIR, half precision in shards, each vector a random centre plus noise as long as the centre,
divided by its length; queries are made likewise. That is harder than real features, which have fewer dimensions than
coordinates: around a hundred vectors share a centre, and the rest of the hundred nearest are nearly equally far.

Every step runs in a process of its own, so that each has its own peak. The peak counts pages of mapped files, which the
system could take back at any time; ``anonymous_mb`` is what is left without them. Memory is read from /proc, so this
runs on Linux. DIR is left as it is at the end; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dinotools.search.approximate import Kind, build, open_index, recall
from dinotools.search.exact import nearest

SHARD = 50_000
STEPS = ("exact", "build-flat", "search-flat", "build-ivfpq", "search-ivfpq", "rescore-ivfpq")
NOISE = 1.0


def write_vectors(path: Path, n: int, centres: np.ndarray, dtype: type, seed: int) -> None:
    """n vectors around random centres (C, D), of length 1, as an .npy file."""
    random = np.random.default_rng(seed)
    noise = NOISE * random.standard_normal((n, centres.shape[1]), dtype=np.float32) / centres.shape[1] ** 0.5
    vectors = centres[random.integers(len(centres), size=n)] + noise
    np.save(path, (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(dtype))


def write(folder: Path, options: argparse.Namespace) -> None:
    """shard-00.npy, shard-01.npy, ... and queries.npy."""
    folder.mkdir(parents=True, exist_ok=True)
    centres = np.random.default_rng(0).standard_normal((options.centres, options.dim), dtype=np.float32)
    centres /= options.dim**0.5
    write_vectors(folder / "queries.npy", options.queries, centres, np.float32, seed=1)
    for i, start in enumerate(range(0, options.vectors, SHARD)):
        n = min(SHARD, options.vectors - start)
        write_vectors(folder / f"shard-{i:02}.npy", n, centres, np.float16, seed=2 + i)


def read(folder: Path) -> tuple[list[Tensor], Tensor]:
    """The mapped shards and the queries."""
    paths = sorted(folder.glob("shard-*.npy"))
    return [torch.from_numpy(np.load(path, mmap_mode="c")) for path in paths], torch.from_numpy(
        np.load(folder / "queries.npy")
    )


def memory(field: str) -> float:
    """VmHWM (peak) or RssAnon (without mapped files) of this process, in MB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1.024e-3


def take(step: str, folder: Path, k: int) -> dict[str, Any]:
    """One step in this process; rows that are found go to the folder."""
    shards, queries = read(folder)
    anonymous, done = [memory("RssAnon")], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            anonymous[0] = max(anonymous[0], memory("RssAnon"))

    watcher = threading.Thread(target=watch)
    before, own, started = memory("VmRSS"), anonymous[0], time.perf_counter()
    watcher.start()
    kind: Kind = "flat" if step.endswith("flat") else "ivfpq"
    path = folder / f"{kind}.index"
    if step.startswith("build"):
        build(shards, kind, path, device=torch.device("cpu"), seed=0)
    elif step == "exact":
        rows = nearest(queries, shards, k)[1]
    else:
        rows = open_index(path).search(queries, k, shards if step.startswith("rescore") else ())[1]
    found: dict[str, Any] = {"seconds": round(time.perf_counter() - started, 2)}
    done.set()
    watcher.join()
    peak = memory("VmHWM")
    found |= {"peak_mb": round(peak), "growth_mb": round(peak - before), "anonymous_mb": round(anonymous[0] - own)}
    if step.startswith("build"):
        return found | {"index_mb": round(path.stat().st_size / 1e6, 1)}
    np.save(folder / f"{step}.npy", rows.numpy())
    exact = torch.from_numpy(np.load(folder / "exact.npy"))
    return found | {"recall": round(recall(rows, exact), 4)}


def main() -> None:
    """Prints every step, then the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--centres", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder: Path = options.folder
    if options.step:
        print(json.dumps(take(options.step, folder, options.k)))
        return
    write(folder, options)
    results: dict[str, dict[str, Any]] = {}
    for step in STEPS:
        command = [sys.executable, __file__, str(folder), "--step", step, "--k", str(options.k)]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        results[step] = json.loads(answer.splitlines()[-1])
        print(f"{step}: {results[step]}", flush=True)
    features_mb = round(sum(path.stat().st_size for path in folder.glob("shard-*.npy")) / 1e6, 1)
    sizes = {name: getattr(options, name) for name in ("vectors", "dim", "centres", "queries", "k")}
    print(json.dumps({**sizes, "cores": os.cpu_count(), "features_mb": features_mb, **results}))


if __name__ == "__main__":
    main()
