"""Options of multi-crop augmentation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from dinotools.configs.option import Opt
from dinotools.runtime.errors import DinotoolsError

N_GLOBAL = 2  # the teacher's views


@dataclass(frozen=True, kw_only=True)
class CropOptions:
    """Which crops of an image there are, and where they are made."""

    global_crop_size: Annotated[int, Opt("side of the two global crops in pixels", "Crops")] = 224
    global_crops_scale: Annotated[
        tuple[float, float], Opt("area of a global crop, as a share of the image", "Crops")
    ] = (0.4, 1.0)
    local_crops_number: Annotated[
        int, Opt("local crops per image; with 0, --global-crops-scale 0.14,1 is advised", "Crops")
    ] = 8
    local_crop_size: Annotated[int, Opt("side of a local crop in pixels", "Crops")] = 96
    local_crops_scale: Annotated[tuple[float, float], Opt("area of a local crop, as a share of the image", "Crops")] = (
        0.05,
        0.4,
    )
    crops: Annotated[
        str | None,
        Opt("free list of numbers and sizes, such as 2x224+4x128+6x96, in place of the three options above", "Crops"),
    ] = None
    blur_radius: Annotated[tuple[float, float], Opt("range of the Gaussian blur's radius in pixels", "Crops")] = (
        0.1,
        2.0,
    )
    augment_on: Annotated[
        Literal["auto", "device", "workers"],
        Opt("where colours and blur are computed; auto is the device if that is an accelerator", "Crops"),
    ] = "auto"

    @property
    def crop_sizes(self) -> tuple[int, ...]:
        """Side of every crop in pixels, the two global ones first.

        Raises:
            DinotoolsError: --crops cannot be read, or does not begin with two crops.
        """
        if self.crops is None:
            return (self.global_crop_size,) * N_GLOBAL + (self.local_crop_size,) * self.local_crops_number
        terms = [re.fullmatch(r"(\d+)x(\d+)", term.strip()) for term in self.crops.split("+")]
        groups = [(int(term[1]), int(term[2])) for term in terms if term]
        if len(groups) < len(terms) or groups[0][0] != N_GLOBAL or not all(n and size for n, size in groups):
            raise DinotoolsError(
                f"is {self.crops!r}",
                "--crops",
                f"Write numbers and sizes such as 2x224+10x96; the first {N_GLOBAL} are the global ones.",
            )
        return tuple(size for n, size in groups for _ in range(n))
