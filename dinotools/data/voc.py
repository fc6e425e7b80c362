"""PASCAL VOC segmentation: photos and masks of their objects.

::

    JPEGImages/NAME.jpg
    SegmentationObject/NAME.png   every object by itself
    SegmentationClass/NAME.png    all objects of a class as one
    ImageSets/Segmentation/val.txt
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from dinotools.data.images import UnreadableImage, decode
from dinotools.data.masks import read_mask
from dinotools.runtime.errors import DinotoolsError

OBJECTS, CLASSES = "SegmentationObject", "SegmentationClass"
FOLDERS: dict[str, tuple[str, ...]] = {"auto": (OBJECTS, CLASSES), "objects": (OBJECTS,), "classes": (CLASSES,)}
LAYOUT = "It holds JPEGImages, SegmentationObject or SegmentationClass, and ImageSets/Segmentation, as VOC2012 does."
SHOWN = 3  # missing files in an error


class VocSample(NamedTuple):
    """A photo in mode RGB, and its mask (H, W) uint8: 0 is background, 255 is void."""

    image: Image.Image
    mask: Tensor


@dataclass(frozen=True)
class VocImages(Dataset["VocSample | DinotoolsError"]):
    """A list of photos with masks; an item that cannot be read is its error, which survives a reader process.

    Args:
        images: the photos.
        masks: folder and name of the mask of each.
        kind: the folder of the masks, ``SegmentationObject`` or ``SegmentationClass``.
    """

    images: Sequence[Path]
    masks: Sequence[Path]
    kind: str

    def __len__(self) -> int:
        """Number of photos."""
        return len(self.images)

    def __getitem__(self, index: int) -> VocSample | DinotoolsError:
        """One sample, or why there is none."""
        path = self.masks[index]
        try:
            image, mask = decode(self.images[index]), read_mask(path)
        except UnreadableImage as error:
            return DinotoolsError(error.reason, error.path, "Every image counts: copy it again.")
        except DinotoolsError as error:
            return error
        if mask.shape != (image.height, image.width):
            sizes = f"is {mask.shape[1]} x {mask.shape[0]}, its image {image.width} x {image.height}"
            return DinotoolsError(sizes, path, "Copy both again.")
        return VocSample(image, torch.from_numpy(mask))


def open_voc(root: str | Path, split: str, masks: Literal["auto", "objects", "classes"]) -> VocImages:
    """Finds the photos of a list and their masks.

    Args:
        root: the folder, often called VOC2012.
        split: a file of ImageSets/Segmentation, without ending.
        masks: which; auto is objects where there is such a folder.

    Raises:
        DinotoolsError: the list, a photo or a mask is not there; of several, the first are named.
    """
    root = Path(root).expanduser()
    listed = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    kind = next((folder for folder in FOLDERS[masks] if (root / folder).is_dir()), None)
    if kind is None:
        raise DinotoolsError(f"has no {' or '.join(FOLDERS[masks])}", root, LAYOUT)
    try:
        names = [line.split()[0] for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise DinotoolsError(f"cannot be read ({reason})", listed, LAYOUT) from error
    if not names:
        raise DinotoolsError("names no image", listed, LAYOUT)
    found = VocImages(
        [root / "JPEGImages" / f"{name}.jpg" for name in names], [root / kind / f"{name}.png" for name in names], kind
    )
    missing = [str(path.relative_to(root)) for path in (*found.images, *found.masks) if not path.is_file()]
    if missing:
        shown = ", ".join(missing[:SHOWN]) + f" and {len(missing) - SHOWN:,} more" * (len(missing) > SHOWN)
        raise DinotoolsError(f"lacks {shown}, which {split}.txt lists", root, LAYOUT)
    return found
