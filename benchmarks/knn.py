"""The k-NN vote against the plain method, in time and memory, and the vote at the size of ImageNet.

    python benchmarks/knn.py [--train 50000 --test 10000 --dim 384 --classes 1000 --repeats 3]
    python benchmarks/knn.py --imagenet-size DIR [--train 1281167 --test 50000]

The plain method is that of the official ``knn_classifier``: the test split in 100 parts; for each part one product with
all training features, a full ``topk``, and for every k a one-hot tensor of all votes and a sort of all classes. Both
methods vote in processes of their own, in turns, on the same clustered random features; medians are printed. Where the
machine has other work, OMP_WAIT_POLICY=passive keeps threads that wait from holding a core and times steady.

The second form writes half-precision features of 1000 classes to DIR, in the order of their classes, as an image folder
is read, and lets them vote from the disk. Memory is read from /proc, so this runs on Linux. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dinotools.evaluation.knn import QUERIES, knn_predict

KS = (10, 20, 100, 200)
TEMPERATURE = 0.07
SHARDS = 10
SPREAD = 0.25  # length of a class's centre beside the noise around it: a hard task
IMAGENET = {"train": 1_281_167, "test": 50_000}
COMPARISON = {"train": 50_000, "test": 10_000}


def write_features(path: Path, labels: np.ndarray, dim: int, classes: int, dtype: type, seed: int) -> None:
    """Features around the centre of each label's class, as an .npy file."""
    centres = SPREAD * np.random.default_rng(0).standard_normal((classes, dim), dtype=np.float32)
    random = np.random.default_rng(seed)
    features = np.lib.format.open_memmap(path, "w+", dtype, (len(labels), dim))
    for start in range(0, len(labels), 8192):
        part = labels[start : start + 8192]
        features[start : start + 8192] = centres[part] + random.standard_normal((len(part), dim), dtype=np.float32)
    features.flush()


def write_task(folder: Path, train: int, test: int, dim: int, classes: int, dtype: type, shards: int) -> None:
    """train-0.npy, train-1.npy, ..., test.npy and the labels of both splits."""
    random = np.random.default_rng(1)
    labels = {"train": random.integers(classes, size=train), "test": random.integers(classes, size=test)}
    if shards > 1:
        labels["train"].sort()
    for split, values in labels.items():
        np.save(folder / f"{split}-labels.npy", values)
    for i, part in enumerate(np.array_split(labels["train"], shards)):
        write_features(folder / f"train-{i}.npy", part, dim, classes, dtype, seed=10 + i)
        print(f"wrote training shard {i + 1} of {shards}", flush=True)
    write_features(folder / "test.npy", labels["test"], dim, classes, dtype, seed=2)


def read(folder: Path, name: str, *, mapped: bool = False) -> Tensor:
    """A tensor in memory, or over the mapped file."""
    return torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c" if mapped else None))


def plain_predict(
    train: Tensor, train_labels: Tensor, test: Tensor, ks: tuple[int, ...], temperature: float, classes: int
) -> dict[int, Tensor]:
    """Class of every test sample, for every k, the plain way, from normalised features."""
    predictions: dict[int, list[Tensor]] = {k: [] for k in ks}
    for part in test.split(max(1, len(test) // 100)):
        similarities, rows = (part @ train.T).topk(max(ks), largest=True, sorted=True)
        labels = train_labels[rows]
        for k in ks:
            one_hot = torch.zeros(len(part) * k, classes).scatter_(1, labels[:, :k].reshape(-1, 1), 1)
            weights = (similarities[:, :k] / temperature).exp()[:, :, None]
            votes = (one_hot.view(len(part), k, classes) * weights).sum(dim=1)
            predictions[k].append(votes.sort(dim=1, descending=True).indices[:, 0])
    return {k: torch.cat(parts) for k, parts in predictions.items()}


def memory(field: str) -> float:
    """VmHWM (peak), VmRSS or RssAnon (without mapped files) of this process, in MB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1000


def vote(folder: Path, method: str, classes: int) -> dict[str, Any]:
    """One method on the task of a folder, in this process; its predictions go to the folder."""
    train, labels, test = (read(folder, name) for name in ("train-0", "train-labels", "test"))
    if method == "plain":  # its features come normalised
        F.normalize(train, dim=1, out=train)
        F.normalize(test, dim=1, out=test)
    before, started, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
    if method == "plain":
        predictions = plain_predict(train, labels, test, KS, TEMPERATURE, classes)
    else:
        rankings = knn_predict(train, labels, test, KS, TEMPERATURE, classes)
        predictions = {k: ranking[:, 0] for k, ranking in rankings.items()}
    found = {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
        "growth_mb": memory("VmHWM") - before,
        "peak_mb": memory("VmHWM"),
    }
    np.save(folder / f"{method}.npy", torch.stack(list(predictions.values())).numpy())
    return found


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Both methods in turns, each time in a new process, and how far their predictions agree."""
    runs: dict[str, list[dict[str, float]]] = {"plain": [], "ours": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_task(folder, options.train, options.test, options.dim, options.classes, np.float32, shards=1)
        for i in range(options.repeats):
            for method, found in runs.items():
                flags = ["--method", method, "--folder", name, "--classes", str(options.classes)]
                command = [sys.executable, __file__, *flags, "--threads", str(options.threads)]
                answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                found.append(json.loads(answer.splitlines()[-1]))
                print(f"round {i + 1}, {method}: {found[-1]}", flush=True)
        agreement = float((read(folder, "plain") == read(folder, "ours")).float().mean())
    medians = {
        method: {field: round(statistics.median(run[field] for run in found), 2) for field in found[0]}
        for method, found in runs.items()
    }
    plain, ours = medians["plain"], medians["ours"]
    return {
        **medians,
        "times_faster": round(plain["seconds"] / ours["seconds"], 2),
        "times_less_cpu": round(plain["cpu_seconds"] / ours["cpu_seconds"], 2),
        "growth_ratio": round(ours["growth_mb"] / plain["growth_mb"], 2),
        "peak_ratio": round(ours["peak_mb"] / plain["peak_mb"], 2),
        "same_top1": agreement,
    }


def imagenet_size(options: argparse.Namespace) -> dict[str, Any]:
    """The vote over half-precision features on the disk."""
    folder: Path = options.imagenet_size
    folder.mkdir(parents=True, exist_ok=True)
    write_task(folder, options.train, options.test, options.dim, options.classes, np.float16, SHARDS)
    shards = [read(folder, f"train-{i}", mapped=True) for i in range(SHARDS)]
    labels, truth = read(folder, "train-labels"), read(folder, "test-labels")
    test = read(folder, "test", mapped=True)

    peak_anonymous, done = [memory("RssAnon")], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            peak_anonymous[0] = max(peak_anonymous[0], memory("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    started, right, voted = time.perf_counter(), dict.fromkeys(KS, 0), 0
    for part in test.split(QUERIES):  # as knn_predict would by itself; this way it can be watched
        rankings = knn_predict(shards, labels, part, KS, TEMPERATURE, options.classes)
        for k, ranking in rankings.items():
            right[k] += int((ranking[:, 0] == truth[voted : voted + len(part)]).sum())
        voted += len(part)
        print(f"{voted} of {len(test)} after {time.perf_counter() - started:.0f} s", flush=True)
    seconds = time.perf_counter() - started
    done.set()
    watcher.join()
    return {
        "seconds": round(seconds, 1),
        "top1": {k: round(100 * count / voted, 2) for k, count in right.items()},
        "peak_mb": round(memory("VmHWM")),
        "peak_without_mapped_files_mb": round(peak_anonymous[0]),
        "features_on_disk_mb": round(sum(path.stat().st_size for path in folder.glob("*.npy")) / 1e6),
    }


def main() -> None:
    """Prints progress, then the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, help="training samples")
    parser.add_argument("--test", type=int, help="test samples")
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--imagenet-size", type=Path, metavar="DIR", help="where the features are written")
    parser.add_argument("--method", choices=("plain", "ours"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.method:
        print(json.dumps(vote(options.folder, options.method, options.classes)))
        return
    for split, size in (IMAGENET if options.imagenet_size else COMPARISON).items():
        if getattr(options, split) is None:
            setattr(options, split, size)
    found = imagenet_size(options) if options.imagenet_size else compare(options)
    sizes = {name: getattr(options, name) for name in ("train", "test", "dim", "classes", "threads")}
    print(json.dumps({**sizes, "k": KS, "cores": os.cpu_count(), **found}))


if __name__ == "__main__":
    main()
