"""Colours and shapes of classes."""

import numpy as np
import pytest

from dinotools.reporting.palette import SHAPES, marks, oklch


def rgb(colour):
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


@pytest.mark.parametrize(
    ("lightness", "chroma", "hue", "expected"),
    [(0.628, 0.2577, 29.23, "#ff0000"), (0.8664, 0.2948, 142.5, "#00ff00"), (0.452, 0.3132, 264.05, "#0000ff"),
     (1, 0, 0, "#ffffff"), (0, 0, 0, "#000000")],
)  # fmt: skip
def test_the_primaries_of_srgb(lightness, chroma, hue, expected):
    assert np.abs(rgb(oklch(lightness, chroma, hue)) - rgb(expected)).max() <= 3


@pytest.mark.parametrize("n", [2, 10, 20])
def test_up_to_twenty_classes_have_colours_far_apart(n):
    colours = np.stack([rgb(mark.colour) for mark in marks(n)])
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=-1) + 1000 * np.eye(n)
    assert distances.min() > 30


def test_up_to_a_hundred_classes_differ_in_colour_or_shape():
    assert len(set(marks(100))) == 100
    assert {mark.shape for mark in marks(20)} == {"circle"}
    assert {mark.shape for mark in marks(100)} == set(SHAPES)
    assert len(marks(1000)) == 1000
