"""Multi-crop augmentation: two global views and several local ones of every image.

Source: DINO, section 3.1 and appendix ("Data augmentation"; BYOL's colours, SwAV's crops); official
``DataAugmentationDINO`` in ``main_dino.py``. The random choices of a crop are drawn first, as data
(``CropParameters``), and carried out afterwards (``apply``): whoever has the parameters can carry them out otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import torchvision.transforms.functional as TF
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor

from dinotools.data.transforms import to_uint8_tensor

FLIP_P = 0.5
JITTER_P = 0.8
GRAY_P = 0.2
GLOBAL_BLUR_P = (1.0, 0.1)  # first and second global view
GLOBAL_SOLARIZE_P = (0.0, 0.2)
LOCAL_BLUR_P = 0.5
SOLARIZE_THRESHOLD = 128
ASPECT = (3 / 4, 4 / 3)  # width / height of a crop before it becomes square
BOX_TRIES = 10
JITTER_RANGES = {"brightness": (0.6, 1.4), "contrast": (0.6, 1.4), "saturation": (0.8, 1.2), "hue": (-0.1, 0.1)}
JITTER_OPS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "brightness": TF.adjust_brightness,
    "contrast": TF.adjust_contrast,
    "saturation": TF.adjust_saturation,
    "hue": TF.adjust_hue,
}


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


def apply(image: Image.Image, crop: CropParameters) -> Image.Image:
    """Carries out one crop: RGB image of any size -> RGB image of crop.size x crop.size."""
    left, top, width, height = crop.box
    # not resize(box=...): that lets pixels outside of the box into the filter
    image = image.crop((left, top, left + width, top + height))
    image = image.resize((crop.size, crop.size), Image.Resampling.BICUBIC)
    if crop.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for operation, factor in crop.jitter:
        image = JITTER_OPS[operation](image, factor)
    if crop.gray:
        image = image.convert("L").convert("RGB")
    if crop.blur_radius is not None:
        image = image.filter(ImageFilter.GaussianBlur(crop.blur_radius))
    if crop.solarize:
        image = ImageOps.solarize(image, SOLARIZE_THRESHOLD)
    return image


class MultiCrop:
    """Cuts an image into two global and several local crops.

    Args:
        global_crop_size: side of the global crops in pixels.
        local_crop_size: side of the local crops.
        local_crops_number: how many local crops.
        global_crops_scale: area of a global crop as a share of the image.
        local_crops_scale: area of a local crop.
        blur_radius: range of the Gaussian blur's radius in pixels.
    """

    def __init__(
        self,
        global_crop_size: int = 224,
        local_crop_size: int = 96,
        local_crops_number: int = 8,
        global_crops_scale: tuple[float, float] = (0.4, 1.0),
        local_crops_scale: tuple[float, float] = (0.05, 0.4),
        blur_radius: tuple[float, float] = (0.1, 2.0),
    ) -> None:
        self.blur_radius = blur_radius
        self.views = [
            View(global_crop_size, global_crops_scale, blur_p, solarize_p)
            for blur_p, solarize_p in zip(GLOBAL_BLUR_P, GLOBAL_SOLARIZE_P, strict=True)
        ]
        self.views += [View(local_crop_size, local_crops_scale, LOCAL_BLUR_P, 0.0)] * local_crops_number

    def draw(self, width: int, height: int, rng: Random) -> list[CropParameters]:
        """Draws the parameters of all crops of an image of width x height pixels, global crops first."""
        return [self._draw_view(view, width, height, rng) for view in self.views]

    def _draw_view(self, view: View, width: int, height: int, rng: Random) -> CropParameters:
        return CropParameters(
            size=view.size,
            box=draw_box(width, height, view.scale, rng),
            flip=rng.random() < FLIP_P,
            jitter=draw_jitter(rng) if rng.random() < JITTER_P else (),
            gray=rng.random() < GRAY_P,
            blur_radius=rng.uniform(*self.blur_radius) if rng.random() < view.blur_p else None,
            solarize=rng.random() < view.solarize_p,
        )

    def __call__(self, image: Image.Image, rng: Random) -> list[Tensor]:
        """Draws and cuts: RGB image -> [global 1, global 2, local, ...], each (3, size, size) uint8."""
        return [to_uint8_tensor(apply(image, crop)) for crop in self.draw(*image.size, rng)]
