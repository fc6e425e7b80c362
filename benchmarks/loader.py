"""Images per second and core of the multi-crop loader, against the usual pipeline of torchvision and Pillow.

    python benchmarks/loader.py FOLDER [--images 60 --repeats 3]

The usual pipeline is the official composition: for each crop RandomResizedCrop (bicubic), flip, ColorJitter, gray,
GaussianBlur, solarize, ToTensor and Normalize. All ways decode each image once with Pillow, make 2 x 224 + 8 x 96
crops in one thread, and take turns; an image gets the same crops in every repeat. The measure is the processor time of
an image, its median over the repeats, then the mean over the images, since jitter and blur come to some of them only.
"device" is what a reader process does if colours and blur are left to the device; in "device_and_photometric" the
processor does the device's part as well, for information. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import torch
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor
from torchvision import transforms as T

from dinotools.configs.normalization import IMAGENET_MEAN, IMAGENET_STD
from dinotools.data import photometric
from dinotools.data.augment import MultiCrop, Unfinished
from dinotools.data.images import ImageFiles

N_LOCAL = 8


def official() -> list[Callable[[Image.Image], Tensor]]:
    """One pipeline per crop."""

    def blur(image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))

    def pipeline(size: int, scale: tuple[float, float], blur_p: float, solarize_p: float) -> T.Compose:
        return T.Compose(
            [
                T.RandomResizedCrop(size, scale=scale, interpolation=T.InterpolationMode.BICUBIC),
                T.RandomHorizontalFlip(0.5),
                T.RandomApply([T.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
                T.RandomGrayscale(0.2),
                T.RandomApply([T.Lambda(blur)], p=blur_p),
                T.RandomApply([T.Lambda(ImageOps.solarize)], p=solarize_p),
                T.ToTensor(),
                T.Normalize(IMAGENET_MEAN, IMAGENET_STD),
            ]
        )

    local = pipeline(96, (0.05, 0.4), 0.5, 0.0)
    return [pipeline(224, (0.4, 1.0), 1.0, 0.0), pipeline(224, (0.4, 1.0), 0.1, 0.2)] + [local] * N_LOCAL


def measure(ways: dict[str, Callable[[int], object]], images: int, repeats: int) -> dict[str, float]:
    """Mean over the images of each way's processor seconds, the median of its repeats; the ways take turns."""
    spent: dict[str, list[list[float]]] = {name: [[] for _ in range(images)] for name in ways}
    for repeat in range(repeats + 1):  # the first is for warming up
        for index in range(images):
            for name, way in ways.items():
                start = time.process_time()
                way(index)
                if repeat:
                    spent[name][index].append(time.process_time() - start)
    return {name: statistics.mean(map(statistics.median, seconds)) for name, seconds in spent.items()}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    files = ImageFiles.in_folder(args.folder)
    stride = max(1, len(files) // args.images)
    indices = range(0, len(files), stride)[: args.images]
    usual, finished, unfinished = official(), MultiCrop(), MultiCrop(finish=False)

    def left_over(index: int) -> Callable[[], object]:
        views = unfinished(files.load(indices[index]), Random(index))
        assert isinstance(views, Unfinished)
        return lambda: [
            photometric.apply(torch.stack(views.crops[part]), views.photometrics[part].tolist())
            for part in (slice(0, 2), slice(2, None))
        ]

    def plain(index: int) -> list[Tensor]:
        torch.manual_seed(index)
        random.seed(index)
        image = files.load(indices[index])
        return [make(image) for make in usual]

    seconds = measure(
        {
            "decode": lambda index: files.load(indices[index]),
            "official": plain,
            "workers": lambda index: finished(files.load(indices[index]), Random(index)),
            "device": lambda index: unfinished(files.load(indices[index]), Random(index)),
            "device_and_photometric": lambda index: left_over(index)(),
        },
        len(indices),
        args.repeats,
    )
    for name, value in seconds.items():
        ratio = seconds["official"] / value
        print(f"{name:24s}{1e3 * value:8.2f} ms{1 / value:8.1f} images/s per core{ratio:8.2f} x official")
    print(json.dumps({"images": len(indices), "seconds": seconds, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
