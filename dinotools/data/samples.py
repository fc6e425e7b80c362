"""Real images that come with packages dinotools depends on: something to run on without a network."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from dinotools.data.images import ImageFiles

DIGITS_TRAIN = 1400  # of 1,797; the others are the test images
DIGITS_SIZE = 32
DIGITS_SEED = 0


class Digits:
    """scikit-learn's handwritten digits (8 x 8 pixels, 16 grays), as RGB images of 32 x 32; an ``ImageSource``.

    Source: UCI "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998), its test part.

    Args:
        split: 1,400 images or the other 397, the same ones always.
    """

    classes = tuple("0123456789")

    def __init__(self, split: Literal["train", "val"]) -> None:
        pixels, labels = _digits()
        # the stream of RandomState is frozen by NumPy's compatibility policy
        order = np.random.RandomState(DIGITS_SEED).permutation(len(labels))
        chosen = order[:DIGITS_TRAIN] if split == "train" else order[DIGITS_TRAIN:]
        self.indices = np.sort(chosen)  # in scikit-learn's numbering
        self.labels = labels[self.indices].tolist()
        self._pixels = pixels[self.indices]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def name(self, index: int) -> str:
        """``digits/`` and the number in scikit-learn's set."""
        return f"digits/{self.indices[index]}"

    def load(self, index: int) -> Image.Image:
        """The image, bicubically enlarged."""
        small = Image.fromarray(self._pixels[index])
        return small.resize((DIGITS_SIZE, DIGITS_SIZE), Image.Resampling.BICUBIC).convert("RGB")


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    """All images (1797, 8, 8) uint8 with values up to 255, and their classes (1797,)."""
    from sklearn.datasets import load_digits  # takes a second, and only the digits need it

    digits = load_digits()
    return np.round(digits.images * (255 / 16)).astype(np.uint8), digits.target


def photos() -> ImageFiles:
    """Three photographs without classes: china.jpg and flower.jpg (scikit-learn), grace_hopper.jpg (Matplotlib)."""
    import matplotlib  # here, since most commands draw nothing

    from_sklearn = [str(resources.files("sklearn.datasets.images") / name) for name in ("china.jpg", "flower.jpg")]
    from_matplotlib = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    return ImageFiles([*from_sklearn, str(from_matplotlib)])
