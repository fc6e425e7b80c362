"""From an RGB image to what a frozen network sees: resize, centre crop, normalise.

Source: DINO, section 4.1 (k-NN and linear evaluation); official ``eval_knn.py``. Images travel as uint8, a quarter of
the bytes of float32, and are normalised a batch at a time where the network is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
    """(value / 255 - mean) / std per channel: (..., 3, H, W) uint8 -> float32, on the device of the images."""
    # one multiplication and one addition in place, and numbers instead of tensors: nothing to send to the device
    normalized = images.to(torch.float32, copy=True)
    for channel, m, s in zip(normalized.unbind(-3), mean, std, strict=True):
        channel.mul_(1 / (255 * s)).sub_(m / s)
    return normalized


@dataclass(frozen=True)
class EvalTransform:
    """Shorter side to resize_size (bicubic), then the centre; what is smaller than crop_size gets a black rim.

    Args:
        resize_size: shorter side after resizing, in pixels.
        crop_size: side of the centre crop.
    """

    resize_size: int = 256
    crop_size: int = 224

    def __call__(self, image: Image.Image) -> Tensor:
        """RGB image of any size -> (3, crop_size, crop_size) uint8."""
        longest = MAX_ASPECT * min(image.size)
        if max(image.size) > longest:
            image = TF.center_crop(image, [min(image.height, longest), min(image.width, longest)])
        image = TF.resize(image, self.resize_size, TF.InterpolationMode.BICUBIC)
        return to_uint8_tensor(TF.center_crop(image, self.crop_size))


@dataclass(frozen=True)
class EvalSample:
    """One image (3, crop_size, crop_size) uint8, its label (-1 without classes) and its index in the source."""

    image: Tensor
    label: int
    index: int


class EvalBatch(NamedTuple):
    """Images (B, 3, crop_size, crop_size) uint8, labels (B,) and indices (B,) int64, and what could not be read.

    B may be smaller than the batch size, even 0, where images are unreadable.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    bad: list[UnreadableImage]


class EvalImages(Dataset["EvalSample | UnreadableImage"]):
    """The images of a source, resized and centre-cropped; an item that cannot be read is its UnreadableImage.

    Args:
        source: the images.
        resize_size: shorter side after resizing, in pixels.
        crop_size: side of the centre crop.
    """

    def __init__(self, source: ImageSource, resize_size: int = 256, crop_size: int = 224) -> None:
        self.source, self.transform = source, EvalTransform(resize_size, crop_size)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.source)

    def __getitem__(self, index: int) -> EvalSample | UnreadableImage:
        """One sample, or why there is none."""
        try:
            image = self.source.load(index)
        except UnreadableImage as error:
            return error
        label = -1 if self.source.labels is None else int(self.source.labels[index])
        return EvalSample(self.transform(image), label, index)


def collate_readable(items: list[EvalSample | UnreadableImage]) -> EvalBatch:
    """Stacks the samples and sets the unreadable images apart; without any sample, images are (0,)."""
    good = [item for item in items if not isinstance(item, UnreadableImage)]
    return EvalBatch(
        images=torch.stack([sample.image for sample in good]) if good else torch.empty(0, dtype=torch.uint8),
        labels=torch.tensor([sample.label for sample in good], dtype=torch.int64),
        indices=torch.tensor([sample.index for sample in good], dtype=torch.int64),
        bad=[item for item in items if isinstance(item, UnreadableImage)],
    )
