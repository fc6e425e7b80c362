"""Retrieval features at three scales: images of one shape batched, against one image after the other.

    python benchmarks/retrieval.py [--arch vit_small --patch-size 16 --imsize 224 --images 96]

The images are JPEG files of 1024 x 768 pixels, upright and lying, as those of Oxford and Paris are, cut and enlarged
from the two photographs that come with scikit-learn. Both sides run the same network on the same device and read with
as many processes. The plain side is the usual loop: every image alone through the network, at one scale after the
other; ``per_scale`` decodes it for each scale anew. The last line on stdout is JSON: images/s and their ratios.
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
import torch.nn.functional as F
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dinotools.data.images import ImageFiles
from dinotools.data.transforms import EvalImages, Shrink, normalize
from dinotools.features.extraction import View, extract
from dinotools.features.scales import SCALES, MultiScale
from dinotools.models.zoo import build_backbone
from dinotools.runtime import device


def write_photos(folder: Path, count: int) -> None:
    """Random cuts as JPEG files, every third one upright."""
    random = np.random.default_rng(0)
    photos = load_sample_images().images
    for i in range(count):
        photo = photos[i % len(photos)]
        top, left = random.integers(photo.shape[0] - 240), random.integers(photo.shape[1] - 320)
        cut = Image.fromarray(photo[top : top + 240, left : left + 320]).resize((1024, 768), Image.Resampling.BICUBIC)
        (cut.transpose(Image.Transpose.ROTATE_90) if i % 3 == 0 else cut).save(folder / f"{i:05d}.jpg", quality=92)


def main() -> None:
    """Times the sides in turn, so that a change of the machine's mood meets all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="vit_small")
    parser.add_argument("--patch-size", type=int, default=16)
    parser.add_argument("--imsize", type=int, default=224)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=-1)
    options = parser.parse_args()

    runtime = device.prepare(options.device, "auto", options.workers, 0)
    network = build_backbone(options.arch, options.patch_size)[0].eval().to(runtime.device)
    view = View(Shrink(options.imsize))
    seconds: dict[str, list[float]] = {"ours": [], "one_by_one": [], "per_scale": []}
    with tempfile.TemporaryDirectory() as folder:
        write_photos(Path(folder), options.images)
        images = ImageFiles.in_folder(folder)
        for _ in range(options.rounds):
            started = time.perf_counter()
            ours = extract(MultiScale(network), images, runtime, view, batch_size=32).tensor()
            seconds["ours"].append(time.perf_counter() - started)
            for name, scales_at_once in (("one_by_one", [SCALES]), ("per_scale", [(scale,) for scale in SCALES])):
                started = time.perf_counter()
                plain = sum(one_by_one(network, images, view, runtime, scales) for scales in scales_at_once)
                seconds[name].append(time.perf_counter() - started)
                assert isinstance(plain, Tensor)
                difference = (F.normalize(plain, dim=1) - ours).abs().max().item()
    rates = {name: options.images / statistics.median(times) for name, times in seconds.items()}
    report = {
        "arch": f"{options.arch}/{options.patch_size}",
        "imsize": options.imsize,
        "device": str(runtime.device),
        "cores": len(os.sched_getaffinity(0)),
        "workers": runtime.workers,
        "images_per_s": {name: round(rate, 2) for name, rate in rates.items()},
        "ours_over_one_by_one": round(rates["ours"] / rates["one_by_one"], 2),
        "ours_over_per_scale": round(rates["ours"] / rates["per_scale"], 2),
        "largest_difference": difference,
    }
    print(json.dumps(report))


@torch.inference_mode()
def one_by_one(
    network: nn.Module, images: ImageFiles, view: View, runtime: device.Runtime, scales: tuple[float, ...]
) -> Tensor:
    """The plain loop: (N, D), summed over the scales."""
    loader = DataLoader(EvalImages(images, view.transform), batch_size=None, num_workers=runtime.workers)
    rows = []
    for sample in loader:
        pixels = normalize(sample.image[None].to(runtime.device), view.mean, view.std)
        scaled = [pixels if s == 1 else F.interpolate(pixels, scale_factor=s, mode="bilinear") for s in scales]
        rows.append(torch.stack([network(one) for one in scaled]).sum(dim=0))
    return torch.cat(rows).cpu()


if __name__ == "__main__":
    main()
