"""Masks and maps of numbers laid over the frame that they belong to, as pixels."""

from __future__ import annotations

from functools import cache

import numpy as np
from matplotlib import colormaps
from PIL import Image

from dinotools.data.masks import palette

ALPHA = 0.5  # of a mask over its frame
HEAT_ALPHA = 0.6
HEAT_COLOURS = "magma"  # equal steps look equal, and dark is little, in grey print too
LINES_PER_PIXEL = 480  # a contour is a pixel wide for every so many lines of the frame


def overlay(frame: np.ndarray, mask: np.ndarray, alpha: float = ALPHA, contour: bool = True) -> np.ndarray:
    """Lays the objects of a mask over a frame, each in its colour of the DAVIS palette.

    Args:
        frame: RGB (H, W, 3) uint8.
        mask: (H, W) uint8; where it is 0 the frame stays as it is.
        alpha: weight of the colours, from 0 to 1.
        contour: draw the edge of every object, inside it, in a lighter shade of its colour.

    Returns:
        (H, W, 3) uint8, a new array.
    """
    weights = Image.fromarray((mask > 0) * np.uint8(round(255 * alpha)))
    blended = np.array(Image.composite(_coloured(mask, palette()), Image.fromarray(frame), weights))
    if contour:
        edge = _edge(mask, width=max(1, round(len(mask) / LINES_PER_PIXEL)))
        blended[edge] = _light_palette()[mask[edge]]
    return blended


def heat(
    frame: np.ndarray,
    values: np.ndarray,
    highest: float | None = None,
    colours: str = HEAT_COLOURS,
    alpha: float = HEAT_ALPHA,
) -> np.ndarray:
    """Lays a map of numbers over a frame.

    Args:
        frame: RGB (H, W, 3) uint8.
        values: (H, W) from 0 up, such as attention.
        highest: what the last colour stands for, and all above it; the highest value unless given. Frames of a clip
            are compared by one for all of them.
        colours: name of a colour map of Matplotlib.
        alpha: weight of the colours, from 0 to 1; 1 hides the frame.

    Returns:
        (H, W, 3) uint8, a new array.
    """
    top = float(values.max()) if highest is None else highest
    steps = np.clip(values * (255 / top if top > 0 else 0) + 0.5, 0, 255).astype(np.uint8)  # rounded
    return np.array(Image.blend(Image.fromarray(frame), _coloured(steps, _table(colours)), alpha))


def _coloured(indices: np.ndarray, table: bytes) -> Image.Image:
    image = Image.fromarray(indices)
    image.putpalette(table)
    return image.convert("RGB")


def _edge(mask: np.ndarray, width: int) -> np.ndarray:
    """Pixels of an object that have another, or the background, so near above, below, left or right."""
    edge = np.zeros(mask.shape, bool)
    for pixels, marked in ((mask, edge), (mask.T, edge.T)):  # along the rows of the transposed are columns
        differs = pixels[width:] != pixels[:-width]
        marked[width:] |= differs
        marked[:-width] |= differs
    return edge & (mask > 0)


@cache
def _light_palette() -> np.ndarray:
    """The palette half way to white: seen on dark and on bright frames, where many of its colours are dark."""
    return 128 + np.frombuffer(palette(), np.uint8).reshape(256, 3) // 2


@cache
def _table(colours: str) -> bytes:
    """256 colours of a map of Matplotlib, red, green and blue of each."""
    return colormaps[colours](np.arange(256), bytes=True)[:, :3].tobytes()
