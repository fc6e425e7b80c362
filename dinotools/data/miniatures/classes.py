"""Miniatures of labelled sets: train/CLASS and val/CLASS, with handwritten digits as ten classes."""

from __future__ import annotations

from pathlib import Path

from numpy.random import RandomState

from dinotools.data.miniatures.cuttings import QUALITY
from dinotools.data.samples import Digits
from dinotools.data.sources import TRAIN, VAL

COUNTS = {TRAIN: 30, VAL: 10}  # images of a class: enough for 20 neighbours, and for a tenth of the labels


def write_imagenet(folder: Path, random: RandomState) -> None:
    """Writes classes and files that are called as in ImageNet, n00000007/000.JPEG."""
    _write(folder, random, "n0000000", ".JPEG")


def write_png(folder: Path, random: RandomState) -> None:
    """Writes PNG files."""
    _write(folder, random, "", ".png")


def write_jpg(folder: Path, random: RandomState) -> None:
    """Writes JPEG files."""
    _write(folder, random, "", ".jpg")


def _write(folder: Path, random: RandomState, prefix: str, extension: str) -> None:
    """300 training and 100 test images of 32 x 32 pixels, drawn from those parts of the digits."""
    for split, count in COUNTS.items():
        digits = Digits(split)
        for label, name in enumerate(digits.classes):
            own = folder / split / f"{prefix}{name}"
            own.mkdir(parents=True)
            positions = [position for position, digit in enumerate(digits.labels) if digit == label]
            for number, position in enumerate(random.permutation(positions)[:count].tolist()):
                digits.load(position).save(own / f"{number:03d}{extension}", quality=QUALITY)
