"""From an image of any size to whole patches, and from numbers of patches back to the pixels of the image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from dinotools.configs.attention import Fit
from dinotools.data.transforms import to_uint8_tensor

LARGEST = 1920  # longer side unless another is asked for: the time of attention grows with its fourth power


@dataclass(frozen=True)
class PatchGrid:
    """Resizes an image (bilinear) and makes it whole patches.

    Args:
        patch_size: side of a patch in pixels.
        fit: what becomes of a last row or column that is no whole patch: ``crop`` leaves it out (as the official
            ``visualize_attention.py``), ``pad`` completes it with copies of the last pixels, ``resize`` stretches or
            squeezes the image by up to half a patch.
        longer_side: after resizing; None leaves images as they are, but for those beyond LARGEST.
    """

    patch_size: int
    fit: Fit = "resize"
    longer_side: int | None = None

    def __call__(self, image: Image.Image) -> Tensor:
        """RGB image -> (3, height, width) uint8, both multiples of the patch; 0 where ``crop`` leaves no patch."""
        height, width = self.resized(image.height, image.width)
        rows, columns = self.shape(image.height, image.width)
        if (height, width) != (image.height, image.width):
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        pixels = to_uint8_tensor(image)
        if self.fit == "pad":
            down, across = torch.arange(rows * self.patch_size), torch.arange(columns * self.patch_size)
            return pixels[:, down.clamp(max=height - 1)][:, :, across.clamp(max=width - 1)]
        return pixels[:, : rows * self.patch_size, : columns * self.patch_size]

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches of an image of this size."""
        extra = self.patch_size - 1 if self.fit == "pad" else 0
        rows, columns = ((side + extra) // self.patch_size for side in self.resized(height, width))
        return rows, columns

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of an image of this size after resizing, before it is cropped or padded."""
        scale = (self.longer_side or min(LARGEST, max(height, width))) / max(height, width)
        unit = self.patch_size if self.fit == "resize" else 1
        rows, columns = (max(1, round(side * scale / unit)) for side in (height, width))
        return rows * unit, columns * unit

    def enlarge(self, maps: Tensor, height: int, width: int, *, smooth: bool = False) -> Tensor:
        """Numbers of patches as numbers of an image's pixels.

        Args:
            maps: (n, rows, columns) floats of an image that went through this grid.
            height: of that image.
            width: likewise.
            smooth: interpolate between the centres of patches (bilinear), rather than show patches as they are.

        Returns:
            (n, height, width); 0 where ``crop`` left pixels out.
        """
        resized = self.resized(height, width)
        covered = [
            max(1, round(patches * self.patch_size * side / of))
            for patches, side, of in zip(maps.shape[1:], (height, width), resized, strict=True)
        ]
        large = F.interpolate(maps[None], covered, mode="bilinear" if smooth else "nearest-exact")[0]
        large = large[:, :height, :width]
        return F.pad(large, (0, width - large.shape[2], 0, height - large.shape[1]))
