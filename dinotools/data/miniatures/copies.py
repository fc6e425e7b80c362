"""A miniature of Copydays: eight originals, and all of its blocks, attacked as ``dinotools copydays-make`` does."""

from __future__ import annotations

from pathlib import Path

from numpy.random import RandomState

from dinotools.data import attacks
from dinotools.data.copydays import CROPS, JPEGQUAL, ORIGINAL, STRONG
from dinotools.data.copydays_making import FIRST, QUALITIES, REMOVED
from dinotools.data.miniatures.cuttings import cut, places, save

ORIGINALS = 8  # of nine places; the ninth is what an original may be pasted into
COPIES = 2  # strong attacks of an original
SIZE = (192, 160)


def write(folder: Path, random: RandomState) -> None:
    """Writes original/, strong/, jpegqual/3 to jpegqual/75 and crops/10 to crops/80."""
    pictures = [cut(places()[position], SIZE) for position in random.permutation(len(places())).tolist()]
    page = pictures[ORIGINALS]
    for number, original in enumerate(pictures[:ORIGINALS]):
        name = f"{FIRST + number}00.jpg"
        save(original, folder / ORIGINAL / name)
        for quality in QUALITIES:
            save(attacks.sixteenth(original), folder / JPEGQUAL / str(quality) / name, quality)
        for percent in REMOVED:
            save(attacks.crop(original, percent, random), folder / CROPS / str(percent) / name)
        for copy in range(COPIES):
            kind = attacks.KINDS[(COPIES * number + copy) % len(attacks.KINDS)]
            copied = attacks.attack(original, attacks.draw_strong(kind, random), random, page)
            save(copied, folder / STRONG / f"{FIRST + number}{copy + 1:02d}.jpg")
