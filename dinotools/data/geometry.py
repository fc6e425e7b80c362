"""A crop of an image in uint8: the box, its resizing, its mirroring. No pixel outside of the box has a part in it."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor


def pixels_of(image: Image.Image | Tensor) -> Tensor:
    """The values of an image, decoded once for all its crops.

    Args:
        image: RGB, or (channels, height, width) uint8 or float32.

    Returns:
        (channels, height, width); an RGB image keeps the three values of a pixel side by side in memory.
    """
    if isinstance(image, Tensor):
        return image
    pixels = torch.empty(image.height, image.width, 3, dtype=torch.uint8)
    pixels.numpy()[...] = np.asarray(image)
    return pixels.permute(2, 0, 1)


def cut(pixels: Tensor, box: tuple[int, int, int, int], size: int, flip: bool) -> Tensor:
    """Cuts a box out and makes it a square, bicubic with antialiasing, as Pillow does up to rounding.

    Args:
        pixels: (channels, height, width) uint8 or float32.
        box: (left, top, width, height), inside the image.
        size: side of the square.
        flip: mirrored left to right.

    Returns:
        (channels, size, size) of the same type.
    """
    left, top, width, height = box
    inside = pixels[None, :, top : top + height, left : left + width]
    square = F.interpolate(inside, (size, size), mode="bicubic", antialias=True)[0]
    return (square.flip(-1) if flip else square).contiguous()
