"""Copies of photos as people make them, to see how similar a network finds copies."""

from __future__ import annotations

import io
from collections.abc import Sequence

from numpy.random import RandomState
from PIL import Image

from dinotools.data import attacks
from dinotools.data.attacks import Attack
from dinotools.data.images import decode

LONGER_SIDE = 1024  # pixels of a photo before it is attacked; no descriptor looks at more


def _crop(percent: float) -> Attack:
    return lambda image, random, other: attacks.crop(image, percent, random)


def _jpeg(quality: int) -> Attack:
    def attack(image: Image.Image, random: RandomState, other: Image.Image) -> Image.Image:
        file = io.BytesIO()
        attacks.sixteenth(image).save(file, "JPEG", quality=quality)
        return Image.open(file)

    return attack


def _strong(kind: str) -> Attack:
    return lambda image, random, other: attacks.attack(image, attacks.draw_strong(kind, random), random, other)


MILD = "JPEG 75"  # a sixteenth of the pixels, hardly compressed: a preview
ATTACKS: dict[str, Attack] = {
    MILD: _jpeg(75),
    "JPEG 10": _jpeg(10),
    "crop 20 %": _crop(20),
    "crop 50 %": _crop(50),
    **{kind: _strong(kind) for kind in attacks.KINDS},
}
KINDS = tuple(ATTACKS)


class AttackedPhotos:
    """Every attack on every photo; an ``ImageSource``. Image ``i`` is the attack ``i % len(KINDS)`` on a photo.

    Args:
        paths: the photos, two or more: each is also pasted into the next.
        seed: of all chance.
    """

    labels = None
    classes = None

    def __init__(self, paths: Sequence[str], seed: int) -> None:
        self.paths, self.seed = paths, seed
        self._last: dict[str, Image.Image] = {}

    def __len__(self) -> int:
        """Photos times kinds of attack."""
        return len(self.paths) * len(KINDS)

    def name(self, index: int) -> str:
        """The path of the photo that is attacked."""
        return self.paths[index // len(KINDS)]

    def load(self, index: int) -> Image.Image:
        """The attacked photo in mode RGB. Raises UnreadableImage."""
        photo, kind = divmod(index, len(KINDS))
        pair = [self.paths[photo], self.paths[(photo + 1) % len(self.paths)]]
        # consecutive images are of the same two photos, whose decoding takes longer than most attacks
        self._last = {path: self._last.get(path) or _read(path) for path in pair}
        return ATTACKS[KINDS[kind]](self._last[pair[0]], RandomState([self.seed, index]), self._last[pair[1]])


def _read(path: str) -> Image.Image:
    image = decode(path)
    image.thumbnail((LONGER_SIDE, LONGER_SIDE))
    return image
