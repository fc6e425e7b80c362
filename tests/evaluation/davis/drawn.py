"""The drawn sequences that the official runs were fed with (tests/golden/README.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Sequence:
    """Textured rectangles over a moving background.

    Args:
        seed: of the textures.
        length: in frames.
        height: in pixels.
        width: likewise.
        objects: height, width, first row, first column, and rows and columns that it moves per frame.
    """

    seed: int
    length: int
    height: int
    width: int
    objects: tuple[tuple[int, int, int, int, int, int], ...]

    def frames(self) -> tuple[list[np.ndarray], np.ndarray]:
        """Frames (height, width, 3) uint8, and the mask (height, width) uint8 of the first."""
        random = np.random.RandomState(self.seed)
        background = texture(random, 24, self.height // 24 + 2, self.width // 24 + 2)
        surfaces = [texture(random, 12, h // 12 + 1, w // 12 + 1)[:h, :w] for h, w, *_ in self.objects]
        frames = [background[t : t + self.height, 2 * t : 2 * t + self.width].copy() for t in range(self.length)]
        mask = np.zeros((self.height, self.width), np.uint8)
        for number, ((h, w, top, left, down, right), surface) in enumerate(zip(self.objects, surfaces, strict=True), 1):
            mask[top : top + h, left : left + w] = number
            for t, frame in enumerate(frames):
                y, x = top + down * t, left + right * t
                frame[y : y + h, x : x + w] = surface[: self.height - y, : self.width - x]
        return frames, mask


def texture(random: np.random.RandomState, side: int, rows: int, columns: int) -> np.ndarray:
    """Squares of random colours."""
    colours = random.randint(0, 256, size=(rows, columns, 3)).astype(np.uint8)
    return colours.repeat(side, axis=0).repeat(side, axis=1)


@dataclass(frozen=True)
class Run:
    """An official run: what it was fed with, and the options that were not the defaults."""

    sequence: str
    arch: str
    patch_size: int
    short_side: int
    options: dict[str, Any] = field(default_factory=dict)


DRAWN = {
    "landscape": Sequence(1001, 6, 480, 854, ((150, 130, 100, 150, 8, 16), (120, 200, 280, 520, -6, -14))),
    "portrait": Sequence(1002, 5, 320, 240, ((90, 80, 60, 50, 9, 5),)),
}
RUNS = {
    "run0": Run("landscape", "vit_tiny", 16, 480),
    "run1": Run("landscape", "vit_small", 8, 240),
    "run2": Run("portrait", "vit_tiny", 16, 480),
    "run3": Run("landscape", "vit_tiny", 16, 240, {"n_last_frames": 2, "radius": 3, "topk": 7}),
}
