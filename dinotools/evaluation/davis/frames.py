"""What label propagation reads and writes: frames at working size, the first mask, and masks at full size.

Every step is that of the official ``eval_video_segmentation.py``, because every step is part of its numbers: frames
480 high, resized as OpenCV does it, normalised with a red deviation of 0.228; the first mask as nearest pixels; the
last labels enlarged by the patch size, stretched class by class, and the largest taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

DAVIS_STD = (0.228, 0.224, 0.225)  # 0.228, where ImageNet's is 0.229: no misprint of ours
WEIGHT_BITS = 11  # OpenCV's weights are multiples of 2 ** -11


@dataclass(frozen=True)
class WorkingSize:
    """The size at which a frame reaches the network.

    The shorter side becomes short_side; the other keeps the aspect and is rounded down to a multiple. A square counts
    as lying, 480 high and 448 wide, as officially; there its mask counts as upright and no longer fits, which is not
    repeated here.

    Args:
        short_side: in pixels.
        multiple: of the other side.
    """

    short_side: int = 480
    multiple: int = 64

    def of(self, height: int, width: int) -> tuple[int, int]:
        """Height and width for a frame of a height and width.

        Raises:
            ValueError: nothing is left of the longer side.
        """
        longer = int(self.short_side * max(height, width) / min(height, width) // self.multiple * self.multiple)
        if not longer:
            raise ValueError(f"a frame of {width} x {height} is not {self.multiple} pixels long at {self.short_side}")
        return (longer, self.short_side) if height > width else (self.short_side, longer)

    def __call__(self, image: Image.Image) -> Tensor:
        """Resizes an RGB image: (3, height, width) uint8."""
        resized = resize(np.asarray(image), *self.of(image.height, image.width))
        return torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))


def resize(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear without smoothing, in OpenCV's integers (INTER_LINEAR on 8 bits): equal to it in every pixel.

    Args:
        frame: (H, W, 3) uint8.
        height: of the result.
        width: likewise.

    Returns:
        (height, width, 3) uint8.
    """
    top, bottom, top_weight, bottom_weight = _taps(len(frame), height)
    left, right, left_weight, right_weight = _taps(frame.shape[1], width)
    pixels = frame.astype(np.int32)
    pixels = pixels[:, left] * left_weight[:, None] + pixels[:, right] * right_weight[:, None]
    pixels >>= 4
    upper = pixels[top] * top_weight[:, None, None] >> 16
    lower = pixels[bottom] * bottom_weight[:, None, None] >> 16
    return (upper + lower + 2 >> 2).astype(np.uint8)


def _taps(before: int, after: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The two pixels that each new one lies between, and their weights: int64, int64, int32, int32."""
    position = ((np.arange(after) + 0.5) * (before / after) - 0.5).astype(np.float32)
    first = np.floor(position).astype(np.int64)
    share = position - first.astype(np.float32)
    one = np.float32(2**WEIGHT_BITS)
    weights = (np.rint(part * one).astype(np.int32) for part in (1 - share, share))
    return first.clip(0, before - 1), (first + 1).clip(0, before - 1), *weights


def first_labels(mask: np.ndarray, rows: int, columns: int) -> Tensor:
    """One-hot labels of the patch grid.

    Classes go up to the largest number left on the grid: later objects that are too small for it are lost, as
    officially.

    Args:
        mask: (H, W) uint8.
        rows: of the grid.
        columns: likewise.

    Returns:
        (C, rows, columns) float32.
    """
    small = np.array(Image.fromarray(mask).resize((columns, rows), Image.Resampling.NEAREST))
    return F.one_hot(torch.from_numpy(small).long()).permute(2, 0, 1).float()


def norm_mask(labels: Tensor) -> Tensor:
    """Stretches every class from its smallest and largest value to 0..1.

    A class that is nowhere above 0 stays as it is; one that is the same everywhere becomes nan, and nan is largest.

    Args:
        labels: (C, H, W) floats.
    """
    low, high = labels.amin(dim=(1, 2), keepdim=True), labels.amax(dim=(1, 2), keepdim=True)
    return torch.where(high > 0, (labels - low) / (high - low), labels)


def full_size_mask(labels: Tensor, patch_size: int, height: int, width: int) -> np.ndarray:
    """The mask that soft labels of the patch grid amount to.

    Args:
        labels: (C, h, w) float32.
        patch_size: in pixels of the frame as the network saw it.
        height: of the video.
        width: likewise.

    Returns:
        (height, width) uint8.
    """
    enlarged = F.interpolate(labels[None], scale_factor=patch_size, mode="bilinear", align_corners=False)[0]
    mask = norm_mask(enlarged).argmax(dim=0).byte().cpu().numpy()
    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
