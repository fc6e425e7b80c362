"""Miniatures of Revisited Oxford and Paris: jpg/ and a ground truth, in which a place of a photograph is a building."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.random import RandomState
from PIL import Image, ImageEnhance

from dinotools.data.miniatures.cuttings import Field, cut, draw_cutting, elsewhere, photographs, places, save
from dinotools.runtime.run_directory import write_json

QUERIES = 6  # of nine places; the others, in views of their own, are as wrong as the distractors
VIEWS = {  # list of the ground truth -> views of every place, how far off in sides of the place, brightness at least
    "easy": (3, 0.1, 0.8),
    "hard": (3, 0.35, 0.35),
    "junk": (1, 0.7, 0.8),
}
OTHERS = 24  # database images that show no place
MARGIN = 0.15  # around the place of a query, in its sides
LONGEST = 128  # pixels of the longer side


def write_oxford(folder: Path, random: RandomState) -> None:
    """Writes a miniature with the names of Revisited Oxford."""
    _write(folder, "roxford5k", random)


def write_paris(folder: Path, random: RandomState) -> None:
    """Writes a miniature with the names of Revisited Paris."""
    _write(folder, "rparis6k", random)


def _write(folder: Path, dataset: str, random: RandomState) -> None:
    imlist: list[str] = []
    qimlist: list[str] = []
    gnd: list[dict[str, Any]] = []
    for number, position in enumerate(random.permutation(len(places())).tolist()):
        place = places()[position]
        lists: dict[str, list[int]] = {}
        for title, (count, off, dark) in VIEWS.items():
            lists[title] = list(range(len(imlist), len(imlist) + count))
            for view in range(count):
                imlist.append(f"place{number}_{title}{view}")
                save(draw_view(place, off, dark, random), folder / "jpg" / f"{imlist[-1]}.jpg")
        if number < QUERIES:
            image, box = _query(place)
            qimlist.append(f"place{number}_query")
            save(image, folder / "jpg" / f"{qimlist[-1]}.jpg")
            gnd.append({"bbx": box, **lists})
    for number in range(OTHERS):
        imlist.append(f"other{number:02d}")
        field = elsewhere()[number % len(elsewhere())]
        save(draw_cutting(field, (LONGEST, LONGEST * 3 // 4), random), folder / "jpg" / f"{imlist[-1]}.jpg")
    write_json(folder / f"gnd_{dataset}.json", {"imlist": imlist, "qimlist": qimlist, "gnd": gnd})


def draw_view(place: Field, off: float, dark: float, random: RandomState) -> Image.Image:
    """The place seen from elsewhere: moved, nearer or farther, lighter or darker.

    Args:
        place: what is seen.
        off: how far it may move and its sides may change, as a share of them.
        dark: the least brightness; the greatest is its inverse.
        random: where everything comes from.
    """
    number, (x1, y1, x2, y2) = place
    photo = photographs()[number]
    wider, higher = random.uniform(1 - off / 2, 1 + off / 2, 2).tolist()
    right, down = random.uniform(-off, off, 2).tolist()
    width, height = wider * (x2 - x1), higher * (y2 - y1)
    x = min(max(x1 + right * (x2 - x1), 0), photo.width - width)
    y = min(max(y1 + down * (y2 - y1), 0), photo.height - height)
    view = cut((number, (x, y, x + width, y + height)), _sized(width, height))
    return ImageEnhance.Brightness(view).enhance(random.choice((dark, 1 / dark)) ** random.rand())


def _query(place: Field) -> tuple[Image.Image, list[float]]:
    """The place with what is around it in the photograph, and the box of the place in that picture."""
    number, (x1, y1, x2, y2) = place
    photo = photographs()[number]
    x, y = MARGIN * (x2 - x1), MARGIN * (y2 - y1)
    left, top, right, bottom = max(x1 - x, 0), max(y1 - y, 0), min(x2 + x, photo.width), min(y2 + y, photo.height)
    image = cut((number, (left, top, right, bottom)), _sized(right - left, bottom - top))
    scale = image.width / (right - left)
    return image, [round(scale * side, 1) for side in (x1 - left, y1 - top, x2 - left, y2 - top)]


def _sized(width: float, height: float) -> tuple[int, int]:
    """Width and height of a picture of that shape."""
    scale = LONGEST / max(width, height)
    return round(scale * width), round(scale * height)
