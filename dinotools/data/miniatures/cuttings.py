"""Cuttings of three photographs: what miniatures are made of where they need pictures.

The photographs are divided like a chessboard. White fields are places, which queries and originals show; cuttings of
black fields show none of them, so that distractors of one miniature are wrong in every other.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from numpy.random import RandomState
from PIL import Image

from dinotools.data import samples

COLUMNS, ROWS = 3, 2  # fields of a photograph; an odd number of columns makes every second field a chessboard
QUALITY = 95  # of JPEG files that are not to suffer from compression

Field = tuple[int, tuple[float, float, float, float]]  # number of the photograph; x1, y1, x2, y2 in its pixels


@cache
def photographs() -> tuple[Image.Image, ...]:
    """The three photographs, in mode RGB."""
    source = samples.photos()
    return tuple(source.load(index) for index in range(len(source)))


def places() -> list[Field]:
    """The white fields, nine in all."""
    return _fields()[::2]


def elsewhere() -> list[Field]:
    """The black fields, nine in all."""
    return _fields()[1::2]


def _fields() -> list[Field]:
    found: list[Field] = []
    for number, photo in enumerate(photographs()):
        width, height = photo.width / COLUMNS, photo.height / ROWS
        for row in range(ROWS):
            for column in range(COLUMNS):
                x, y = column * width, row * height
                found.append((number, (x, y, x + width, y + height)))
    return found


def cut(field: Field, size: tuple[int, int]) -> Image.Image:
    """A part of a photograph, resized to that width and height."""
    number, box = field
    return photographs()[number].resize(size, Image.Resampling.BICUBIC, box=box)


def draw_cutting(field: Field, size: tuple[int, int], random: RandomState) -> Image.Image:
    """A random part of a field, mirrored or not, of that width and height."""
    number, (x1, y1, x2, y2) = field
    share = random.uniform(0.4, 1)
    scale = share * min((x2 - x1) / size[0], (y2 - y1) / size[1])
    width, height = scale * size[0], scale * size[1]
    x, y = random.uniform(x1, x2 - width), random.uniform(y1, y2 - height)
    cutting = cut((number, (x, y, x + width, y + height)), size)
    return cutting.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.rand() < 0.5 else cutting


def save(image: Image.Image, path: Path, quality: int = QUALITY) -> None:
    """Writes a JPEG file; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, "JPEG", quality=quality)
