"""``dinotools data stats``: mean and deviation of every channel, in the units that pre-training normalises by.

dinotools data stats --data microscopy/ --in-chans 5 --images 10000
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dinotools.configs.data import DataStatsConfig
from dinotools.data.images import ImageSource, UnreadableImage
from dinotools.data.sources import open_images
from dinotools.data.transforms import to_uint8_tensor
from dinotools.runtime import device
from dinotools.runtime.console import track, warn
from dinotools.runtime.errors import DinotoolsError, require
from dinotools.runtime.results import Result

NAMED = 3  # unreadable images that are named one by one


@dataclass(frozen=True)
class Moments:
    """What mean and deviation are made of; NumPy arrays, since a tensor from a reader process holds a file open.

    Args:
        pixels: their number.
        mean: of each channel (C,) float64.
        squares: sum of the squared distances to it (C,) float64.
    """

    pixels: int
    mean: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, image: Tensor) -> Moments:
        """Of an image (C, H, W): uint8 counts from 0 to 1, other numbers as they are."""
        values = image.flatten(1).double() / (255 if image.dtype == torch.uint8 else 1)
        mean = values.mean(dim=1)
        return cls(values.shape[1], mean.numpy(), (values - mean[:, None]).square().sum(dim=1).numpy())

    def __add__(self, other: Moments) -> Moments:
        """Of the pixels of both; plain sums of squares would cancel where values lie far from 0."""
        pixels = self.pixels + other.pixels
        apart = other.mean - self.mean
        return Moments(
            pixels,
            self.mean + apart * (other.pixels / pixels),
            self.squares + other.squares + apart**2 * (self.pixels * other.pixels / pixels),
        )

    @property
    def std(self) -> np.ndarray:
        """Deviation of each channel (C,) float64."""
        return np.sqrt(self.squares / self.pixels)


@dataclass(frozen=True)
class Measured:
    """Of some images: the moments of all their pixels, the sides of each in pixels, and what could not be read."""

    moments: Moments
    heights: Sequence[int]
    widths: Sequence[int]
    bad: Sequence[UnreadableImage]


Item = tuple[Moments, int, int]  # of one image: its moments, height and width


class MeasuredImages(Dataset["Item | UnreadableImage"]):
    """The moments and sides of some images of a source; of one that cannot be read, its UnreadableImage."""

    def __init__(self, source: ImageSource, positions: Sequence[int]) -> None:
        self.source, self.positions = source, positions

    def __len__(self) -> int:
        """Number of images."""
        return len(self.positions)

    def __getitem__(self, item: int) -> Item | UnreadableImage:
        """One image, measured."""
        try:
            image = self.source.load(self.positions[item])
        except UnreadableImage as error:
            return UnreadableImage(*error.args)  # a traceback does not travel between processes
        pixels = image if isinstance(image, Tensor) else to_uint8_tensor(image)
        return Moments.of(pixels), pixels.shape[1], pixels.shape[2]


def run(config: DataStatsConfig) -> Result:
    """Looks once at every image, or at those that are drawn.

    Raises:
        DinotoolsError: the data cannot be used, or none of the images can be read.
    """
    require(config.in_chans > 0, f"is {config.in_chans}", "in_chans", "It must be above 0.")
    require(config.images is None or config.images > 0, f"is {config.images}", "images", "It must be above 0.")
    source = open_images(config.data, "train", download=config.download, in_chans=config.in_chans)
    positions = drawn(len(source), config.images, config.seed)
    workers = device.prepare("cpu", "fp32", config.workers, config.seed).workers
    found = measure(source, positions, workers)
    mean, std = found.moments.mean.tolist(), found.moments.std.tolist()
    counts = {"images": len(found.heights), "unreadable": len(found.bad), "in_all": len(source)}
    sizes = {"height": _spread(found.heights), "width": _spread(found.widths)}
    return Result(
        title=f"data stats · {config.data}",
        rows=[
            {"channel": i, "mean": _words([m]), "std": _words([s])}
            for i, (m, s) in enumerate(zip(mean, std, strict=True))
        ],
        metrics={"mean": mean, "std": std, **counts, **sizes},
        details={"data": {**counts, "skipped": [image.path for image in found.bad]}},
        notes=(
            f"{len(found.heights):,} of {len(source):,} images measured, {len(found.bad):,} unreadable",
            *(f"{side}: {of['min']} to {of['max']} pixels, median {of['median']:g}" for side, of in sizes.items()),
            f"For pretrain: --channel-mean {_words(mean)} --channel-std {_words(std)}",
        ),
    )


def drawn(n_images: int, wanted: int | None, seed: int) -> Sequence[int]:
    """Ascending positions of all images, or of as many as are wanted."""
    if wanted is None or wanted >= n_images:
        return range(n_images)
    return np.sort(np.random.default_rng(seed).choice(n_images, wanted, replace=False)).tolist()


def measure(source: ImageSource, positions: Sequence[int], workers: int) -> Measured:
    """Measures images one by one.

    Raises:
        DinotoolsError: none can be read.
    """
    loader: DataLoader[Any] = DataLoader(
        MeasuredImages(source, positions),
        batch_size=None,
        num_workers=workers,
        collate_fn=_unchanged,
        generator=torch.Generator(),
    )
    moments: Moments | None = None
    heights, widths, bad = array("l"), array("l"), []
    for item in track(loader, "images", len(positions)):
        if isinstance(item, UnreadableImage):
            bad.append(item)
            if len(bad) <= NAMED:
                warn(f"skipping {item}")
            continue
        of_image, height, width = item
        moments = of_image if moments is None else moments + of_image
        heights.append(height)
        widths.append(width)
    if moments is None:
        raise DinotoolsError(f"{bad[0].reason}; none of {len(bad):,} images can be read", bad[0].path, "Repair them.")
    return Measured(moments, heights, widths, bad)


def _unchanged(item: Any) -> Any:
    return item


def _spread(values: Sequence[int]) -> dict[str, float]:
    return {"min": min(values), "median": float(np.median(values)), "max": max(values)}


def _words(values: Sequence[float]) -> str:
    """As the command line takes them."""
    return ",".join(f"{value:.5g}" for value in values)
