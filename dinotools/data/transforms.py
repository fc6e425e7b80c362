"""From an RGB image to what a frozen network sees: resize, perhaps crop, normalise.

``EvalTransform``: k-NN and linear evaluation (DINO, section 4.1; official ``eval_knn.py``). ``Shrink``: retrieval
(``eval_image_retrieval.py``). ``Square``: copy detection (``eval_copy_detection.py``). Images travel as uint8, a
quarter of the bytes of float32, and are normalised a batch at a time where the network is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import torchvision.transforms.functional as TF
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from dinotools.configs.normalization import IMAGENET_MEAN, IMAGENET_STD
from dinotools.data.images import ImageSource, UnreadableImage

MAX_ASPECT = 100  # a line of 1 x 20,000 pixels would become 256 x 5 million


def to_uint8_tensor(image: Image.Image) -> Tensor:
    """RGB image -> (3, height, width) uint8."""
    tensor = torch.empty(3, image.height, image.width, dtype=torch.uint8)
    tensor.numpy()[...] = np.asarray(image).transpose(2, 0, 1)
    return tensor


def normalize(images: Tensor, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD) -> Tensor:
    """(value / 255 - mean) / std per channel: (..., C, H, W) uint8 -> float32, on the device of the images.

    Floating-point values, whose range is the files' own, are not divided by 255; mean and std are in their units.
    """
    # one multiplication and one addition in place, and numbers instead of tensors: nothing to send to the device
    largest = 1 if images.is_floating_point() else 255
    normalized = images.to(torch.float32, copy=True)
    for channel, m, s in zip(normalized.unbind(-3), mean, std, strict=True):
        channel.mul_(1 / (largest * s)).sub_(m / s)
    return normalized


class ImageTransform(Protocol):
    """Turns an image into pixels; a frozen dataclass, whose fields say in ``index.json`` what was done."""

    def __call__(self, image: Any) -> Tensor:
        """RGB image of any size -> (3, height, width) uint8."""


@dataclass(frozen=True)
class EvalTransform:
    """Shorter side to resize_size (bicubic), then the centre; what is smaller than crop_size gets a black rim.

    Args:
        resize_size: shorter side after resizing, in pixels.
        crop_size: side of the centre crop.
    """

    resize_size: int = 256
    crop_size: int = 224

    def __call__(self, image: Image.Image | Tensor) -> Tensor:
        """RGB image of any size -> (3, crop_size, crop_size) uint8; (C, H, W) -> (C, crop_size, crop_size) likewise."""
        _, height, width = TF.get_dimensions(image)
        longest = MAX_ASPECT * min(height, width)
        if max(height, width) > longest:
            image = TF.center_crop(image, [min(height, longest), min(width, longest)])
        image = TF.resize(image, self.resize_size, TF.InterpolationMode.BICUBIC)
        image = TF.center_crop(image, self.crop_size)
        return image if isinstance(image, Tensor) else to_uint8_tensor(image)


@dataclass(frozen=True)
class Shrink:
    """The whole image, shrunk until its longer side fits (Lanczos); what is smaller stays as it is.

    Args:
        longer_side: after shrinking, in pixels, at most.
    """

    longer_side: int

    def __call__(self, image: Image.Image) -> Tensor:
        """RGB image of any size -> (3, height, width) uint8."""
        small = image.copy()
        small.thumbnail((self.longer_side, self.longer_side), Image.Resampling.LANCZOS)
        return to_uint8_tensor(small)


@dataclass(frozen=True)
class Square:
    """The whole image as a square (bicubic), whatever its shape.

    Args:
        square_side: in pixels.
    """

    square_side: int

    def __call__(self, image: Image.Image) -> Tensor:
        """RGB image of any size -> (3, square_side, square_side) uint8."""
        return to_uint8_tensor(image.resize((self.square_side, self.square_side), Image.Resampling.BICUBIC))


@dataclass(frozen=True)
class EvalSample:
    """One image (C, height, width), its label (-1 without classes) and its index in the source."""

    image: Tensor
    label: int
    index: int


class Alike(NamedTuple):
    """Images of one shape (B, C, height, width), B >= 1, and their labels and indices (B,) int64."""

    images: Tensor
    labels: Tensor
    indices: Tensor


class EvalBatch(NamedTuple):
    """The readable images of a batch, those of one shape side by side, and what could not be read.

    The pixels of all images are one tensor: many small ones would cost a file descriptor each on their way from a
    reader process.
    """

    pixels: Tensor  # (any number,) uint8, or float32 where the source has larger numbers
    shapes: list[torch.Size]  # (C, height, width) of each image
    labels: Tensor  # (B,) int64
    indices: Tensor  # (B,) int64
    bad: list[UnreadableImage]

    def by_shape(self) -> Iterator[Alike]:
        """Views of the pixels, one per shape."""
        image = pixel = 0
        for shape, group in groupby(self.shapes):
            count = len(list(group))
            images = self.pixels[pixel : pixel + count * shape.numel()].view(count, *shape)
            yield Alike(images, self.labels[image : image + count], self.indices[image : image + count])
            image, pixel = image + count, pixel + count * shape.numel()


class EvalImages(Dataset["EvalSample | UnreadableImage"]):
    """The images of a source, transformed; an item that cannot be read is its UnreadableImage.

    Args:
        source: the images.
        transform: what makes them a network's input.
        least: pixels that a side must have afterwards, for the network to see anything.
    """

    def __init__(self, source: ImageSource, transform: ImageTransform, least: int = 1) -> None:
        self.source, self.transform, self.least = source, transform, least

    def __len__(self) -> int:
        """Number of images."""
        return len(self.source)

    def __getitem__(self, index: int) -> EvalSample | UnreadableImage:
        """One sample, or why there is none."""
        try:
            image = self.transform(self.source.load(index))
        except UnreadableImage as error:
            return error
        height, width = image.shape[1:]
        if min(height, width) < self.least:
            too_small = f"{width} x {height} pixels after resizing, and the network needs {self.least} a side"
            return UnreadableImage(self.source.name(index), f"{too_small} (see --imsize)")
        label = -1 if self.source.labels is None else int(self.source.labels[index])
        return EvalSample(image, label, index)


def collate_by_shape(items: list[EvalSample | UnreadableImage]) -> EvalBatch:
    """Packs the samples, those of one shape side by side, and sets the unreadable images apart."""
    good = [item for item in items if not isinstance(item, UnreadableImage)]
    good.sort(key=lambda sample: sample.image.shape)
    pixels = [sample.image.flatten() for sample in good]
    return EvalBatch(
        pixels=torch.cat(pixels) if good else torch.empty(0, dtype=torch.uint8),
        shapes=[sample.image.shape for sample in good],
        labels=torch.tensor([sample.label for sample in good], dtype=torch.int64),
        indices=torch.tensor([sample.index for sample in good], dtype=torch.int64),
        bad=[item for item in items if isinstance(item, UnreadableImage)],
    )
