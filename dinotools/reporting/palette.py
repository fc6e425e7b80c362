"""Colours and shapes that tell classes apart, on white and on black."""

from __future__ import annotations

import math
from typing import NamedTuple

HUES = 20
SHAPES = ("circle", "square", "triangle", "diamond", "cross")
LIGHTNESS = (0.56, 0.74)  # neighbours on the wheel differ in it too
CHROMA = 0.15
FIRST_HUE = 25.0  # degrees: red


class Mark(NamedTuple):
    """How a class is drawn: a colour such as ``#c0563f``, and one of SHAPES."""

    colour: str
    shape: str


def marks(n: int) -> list[Mark]:
    """Marks of n classes: up to 20 have each their own colour; beyond, shapes too tell them apart, up to 100."""
    hues = min(n, HUES)
    return [
        Mark(
            oklch(LIGHTNESS[i % hues % 2], CHROMA, FIRST_HUE + 360 * (i % hues) / hues), SHAPES[i // HUES % len(SHAPES)]
        )
        for i in range(n)
    ]


def oklch(lightness: float, chroma: float, hue: float) -> str:
    """A colour of a space in which equal steps look equal, as sRGB; out of gamut, channels are clipped.

    Source: Ottosson 2020, "A perceptual color space for image processing" (the matrices).

    Args:
        lightness: from 0 to 1.
        chroma: 0 is gray; 0.1 to 0.2 are lively.
        hue: in degrees.
    """
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    l, m, s = (  # noqa: E741
        (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3,
        (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3,
        (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3,
    )
    linear = (
        4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
        -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
        -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s,
    )
    return "#" + "".join(f"{_channel(value):02x}" for value in linear)


def _channel(linear: float) -> int:
    value = min(max(linear, 0.0), 1.0)
    encoded = 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055
    return round(255 * encoded)
