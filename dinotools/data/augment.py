"""Multi-crop augmentation: two global views and several local ones of every image.

Source: DINO, section 3.1 and appendix ("Data augmentation"; BYOL's colours, SwAV's crops); official
``DataAugmentationDINO`` in ``main_dino.py``. The random choices of a crop are drawn first, as data
(``CropParameters``), and carried out afterwards: box, size and mirroring where the image is read (``geometry``),
colours and blur there or, a batch at a time, on the device (``photometric``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from dinotools.configs.crops import CropOptions
from dinotools.data import photometric
from dinotools.data.geometry import cut, pixels_of

FLIP_P = 0.5
JITTER_P = 0.8
GRAY_P = 0.2
GLOBAL_BLUR_P = (1.0, 0.1)  # first and second global view
GLOBAL_SOLARIZE_P = (0.0, 0.2)
LOCAL_BLUR_P = 0.5
ASPECT = (3 / 4, 4 / 3)  # width / height of a crop before it becomes square
BOX_TRIES = 10
JITTER_RANGES = {"brightness": (0.6, 1.4), "contrast": (0.6, 1.4), "saturation": (0.8, 1.2), "hue": (-0.1, 0.1)}


@dataclass(frozen=True)
class View:
    """How one kind of crop is drawn: side in pixels, share of the image's area, probabilities."""

    size: int
    scale: tuple[float, float]
    blur_p: float
    solarize_p: float


@dataclass(frozen=True)
class CropParameters:
    """Everything that chance decides about one crop, in the order in which it is carried out.

    Args:
        size: side of the finished crop in pixels.
        box: (left, top, width, height) in the image.
        flip: mirrored left to right.
        jitter: (operation, factor) pairs in their order; empty for no colour jitter.
        gray: without colour.
        blur_radius: of the Gaussian blur in pixels, or None.
        solarize: values of 128 and above are inverted.
    """

    size: int
    box: tuple[int, int, int, int]
    flip: bool
    jitter: tuple[tuple[str, float], ...]
    gray: bool
    blur_radius: float | None
    solarize: bool


def draw_box(width: int, height: int, scale: tuple[float, float], rng: Random) -> tuple[int, int, int, int]:
    """A random crop, as ``RandomResizedCrop``: uniform area, log-uniform aspect ratio, uniform place.

    Where ten tries find no box that fits, it is the largest central one of an allowed aspect ratio.

    Args:
        width: of the image.
        height: of the image.
        scale: smallest and largest area as a share of the image's.
        rng: source of chance.

    Returns:
        (left, top, width, height), inside the image and at least one pixel wide and high.
    """
    log_aspect = (math.log(ASPECT[0]), math.log(ASPECT[1]))
    for _ in range(BOX_TRIES):
        area = width * height * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(*log_aspect))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = rng.randint(0, height - h)
            return rng.randint(0, width - w), top, w, h
    w, h = width, height
    if width / height < ASPECT[0]:
        h = round(width / ASPECT[0])
    elif width / height > ASPECT[1]:
        w = round(height * ASPECT[1])
    return (width - w) // 2, (height - h) // 2, w, h


def draw_jitter(rng: Random) -> tuple[tuple[str, float], ...]:
    """The four colour operations in random order, each with a random factor."""
    pairs = [(name, rng.uniform(*limits)) for name, limits in JITTER_RANGES.items()]
    rng.shuffle(pairs)
    return tuple(pairs)


class Unfinished(NamedTuple):
    """Crops whose colours and blur are still to be computed.

    Args:
        crops: of one image, each (channels, size, size).
        photometrics: (crops, photometric.COLUMNS) float64, a ``photometric.row`` each.
    """

    crops: list[Tensor]
    photometrics: Tensor


class MultiCrop:
    """Cuts an image into two global and several local crops.

    Args:
        sizes: side of every crop in pixels, the two global ones first.
        global_crops_scale: area of a global crop as a share of the image.
        local_crops_scale: area of a local crop.
        blur_radius: range of the Gaussian blur's radius in pixels.
        colors: whether there are colours to change; without, jitter, gray and solarize fall away.
        finish: whether the crops are finished here, or are ``Unfinished``.
    """

    def __init__(
        self,
        sizes: Sequence[int] = (224,) * 2 + (96,) * 8,
        global_crops_scale: tuple[float, float] = (0.4, 1.0),
        local_crops_scale: tuple[float, float] = (0.05, 0.4),
        blur_radius: tuple[float, float] = (0.1, 2.0),
        *,
        colors: bool = True,
        finish: bool = True,
    ) -> None:
        self.blur_radius, self.colors, self.finish = blur_radius, colors, finish
        n_global = len(GLOBAL_BLUR_P)
        self.views = [
            View(size, global_crops_scale, blur_p, solarize_p)
            for size, blur_p, solarize_p in zip(sizes[:n_global], GLOBAL_BLUR_P, GLOBAL_SOLARIZE_P, strict=True)
        ]
        self.views += [View(size, local_crops_scale, LOCAL_BLUR_P, 0.0) for size in sizes[n_global:]]

    @classmethod
    def of(cls, config: CropOptions, device: torch.device, *, colors: bool = True) -> MultiCrop:
        """The crops that the options ask for; ``--augment-on auto`` is the device if that is not a CPU."""
        on_device = config.augment_on == "device" or (config.augment_on == "auto" and device.type != "cpu")
        return cls(
            config.crop_sizes,
            config.global_crops_scale,
            config.local_crops_scale,
            config.blur_radius,
            colors=colors,
            finish=not on_device,
        )

    def draw(self, width: int, height: int, rng: Random) -> list[CropParameters]:
        """Draws the parameters of all crops of an image of width x height pixels, global crops first."""
        return [self._draw_view(view, width, height, rng) for view in self.views]

    def _draw_view(self, view: View, width: int, height: int, rng: Random) -> CropParameters:
        crop = CropParameters(
            size=view.size,
            box=draw_box(width, height, view.scale, rng),
            flip=rng.random() < FLIP_P,
            jitter=draw_jitter(rng) if rng.random() < JITTER_P else (),
            gray=rng.random() < GRAY_P,
            blur_radius=rng.uniform(*self.blur_radius) if rng.random() < view.blur_p else None,
            solarize=rng.random() < view.solarize_p,
        )
        return crop if self.colors else replace(crop, jitter=(), gray=False, solarize=False)

    def __call__(self, image: Image.Image | Tensor, rng: Random) -> list[Tensor] | Unfinished:
        """Draws and cuts all crops of an image, global ones first.

        Args:
            image: RGB; or (channels, height, width) uint8 or float32, with colors=False unless they are RGB.
            rng: source of all chance.

        Returns:
            Each crop (channels, size, size) of the type of the image's values, uint8 for RGB.
        """
        pixels = pixels_of(image)
        drawn = self.draw(pixels.shape[2], pixels.shape[1], rng)
        crops = [cut(pixels, crop.box, crop.size, crop.flip) for crop in drawn]
        table = [photometric.row(crop.jitter, crop.gray, crop.blur_radius, crop.solarize) for crop in drawn]
        if not self.finish:
            return Unfinished(crops, torch.tensor(table, dtype=torch.float64))
        # one after the other: a crop fits into a processor's cache, all of them do not
        return [photometric.apply(crop[None], [row])[0] for crop, row in zip(crops, table, strict=True)]
