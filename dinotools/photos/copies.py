"""The near-copies among the photos of an index, and which of them to keep.

Of a group the photo with the most pixels comes first, of equal ones that in the largest file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from dinotools.data.images import FORMATS
from dinotools.photos.grouping import similar_photos, stars
from dinotools.photos.storage import Index

Found = list[dict[str, Any]]  # the photos of a group: path, similarity, width, height, bytes, identical


def find_groups(index: Index, threshold: float, device: torch.device) -> list[Found]:
    """The groups of an index, those first whose copies take the most room.

    Args:
        index: up to date.
        threshold: the least similarity of a copy to the photo that is to be kept.
        device: where to compute.

    Returns:
        Of each group its photos, the one to keep first; ``identical`` says that an earlier file has the same bytes.
    """
    photos = index.photos
    neighbours = similar_photos(index.shards(), threshold, device)
    sizes = {row: image_size(index.path(photos[row])) for row in neighbours}

    def rank(row: int) -> tuple[int, int, str]:
        width, height = sizes[row]
        return -width * height, -photos[row].bytes, photos[row].path

    groups = []
    for star in stars(neighbours, sorted(neighbours, key=rank)):
        identical = _repeats([index.path(photos[row]) for row, _ in star], [photos[row].bytes for row, _ in star])
        groups.append(
            [
                {"path": index.path(photos[row]), "similarity": round(similarity, 6)}
                | dict(zip(("width", "height"), sizes[row], strict=True))
                | {"bytes": photos[row].bytes, "identical": repeat}
                for (row, similarity), repeat in zip(star, identical, strict=True)
            ]
        )
    return sorted(groups, key=lambda group: -sum(copy["bytes"] for copy in group[1:]))


def image_size(path: str) -> tuple[int, int]:
    """Width and height of an image file in pixels, from its header; (0, 0) if it cannot be read any more."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.size
    except Exception:  # on damaged files Pillow's parsers raise almost anything
        return 0, 0


def _repeats(paths: Sequence[str], sizes: Sequence[int]) -> list[bool]:
    """Whether an earlier file has the same bytes; only files of one size are read."""
    seen: set[str] = set()
    repeats = []
    for path, size in zip(paths, sizes, strict=True):
        digest = _sha256(path) if sizes.count(size) > 1 else None
        repeats.append(digest in seen)
        seen |= {digest} if digest else set()
    return repeats


def _sha256(path: str) -> str | None:
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()
