"""Feature extraction against a bare ``model(x)`` loop over tensors that are decoded already.

    python benchmarks/extraction.py [--arch vit_small --patch-size 16 --images 192]

The images are JPEG files of 500 x 375 pixels (an ImageNet photo's usual size), cut from the two photographs that come
with scikit-learn. Both sides run the same network on the same device; the bare loop tries several batch sizes and keeps
its best. The last line on stdout is JSON: images/s of both, their ratio and the share of time spent waiting for data.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from dinotools.data.images import ImageFiles
from dinotools.data.transforms import EvalImages, EvalTransform, normalize
from dinotools.features.extraction import Extractor, View
from dinotools.models.zoo import build_backbone
from dinotools.runtime import device

BATCH_SIZES = (8, 32, 128)


def write_photos(folder: Path, count: int) -> None:
    """Random cuts of 500 x 375 pixels as JPEG files."""
    random = np.random.default_rng(0)
    photos = load_sample_images().images
    for i in range(count):
        photo = photos[i % len(photos)]
        top, left = random.integers(photo.shape[0] - 375), random.integers(photo.shape[1] - 500)
        Image.fromarray(photo[top : top + 375, left : left + 500]).save(folder / f"{i:05d}.jpg", quality=90)


def main() -> None:
    """Times both sides in turn, so that a change of the machine's mood meets both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="vit_small")
    parser.add_argument("--patch-size", type=int, default=16)
    parser.add_argument("--images", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=-1)
    options = parser.parse_args()

    runtime = device.prepare(options.device, "auto", options.workers, 0)
    network, _ = build_backbone(options.arch, options.patch_size)
    network = network.eval().to(runtime.device)
    with tempfile.TemporaryDirectory() as folder:
        write_photos(Path(folder), options.images)
        images = ImageFiles.in_folder(folder)
        samples = EvalImages(images, EvalTransform())
        decoded = torch.stack([normalize(samples[i].image) for i in range(len(images))]).to(runtime.device)  # type: ignore[union-attr]
        bare: dict[int, list[float]] = {size: [] for size in BATCH_SIZES}
        ours, waits = [], []
        for _ in range(options.rounds):
            for size in BATCH_SIZES:
                bare[size].append(bare_loop(network, decoded, size))
            extractor = Extractor(network, images, runtime, View(EvalTransform()))
            started = time.perf_counter()
            for _ in extractor.run([range(len(images))], 128, "photos"):
                pass
            ours.append(time.perf_counter() - started)
            waits.append(extractor.data_wait)
    times = {size: statistics.median(found) for size, found in bare.items()}
    best = min(times, key=times.__getitem__)
    report = {
        "arch": f"{options.arch}/{options.patch_size}",
        "device": str(runtime.device),
        "cores": len(os.sched_getaffinity(0)),
        "workers": runtime.workers,
        "bare_images_per_s": {size: round(options.images / seconds, 1) for size, seconds in times.items()},
        "bare_best_batch": best,
        "ours_images_per_s": round(options.images / statistics.median(ours), 1),
        "ours_over_bare": round(times[best] / statistics.median(ours), 3),
        "data_wait_percent": round(statistics.median(waits), 1),
    }
    print(json.dumps(report))


@torch.inference_mode()
def bare_loop(network: torch.nn.Module, images: torch.Tensor, batch_size: int) -> float:
    """Seconds of the plainest loop."""
    started = time.perf_counter()
    for batch in images.split(batch_size):
        network(batch).cpu()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
