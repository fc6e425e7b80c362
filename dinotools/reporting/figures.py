"""Pictures: curves and attention montages, as matplotlib figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dinotools.runtime.run_directory import write_atomically

INK = "#3b3f46"  # reads on white and survives grey printing
COLOURS = ("#2f6db5", "#d1652a", "#4a8f3c", "#8a5ab5")
DPI = 130


def curves(panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], x_label: str) -> Figure:
    """Line plots side by side.

    Args:
        panels: title (the quantity and its unit) -> name of a curve -> points (x, y).
        x_label: what x counts.
    """
    figure = Figure(figsize=(5.2 * len(panels), 3.4), layout="constrained")
    for axes, (title, lines) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels.items(), strict=True):
        for colour, (name, points) in zip(COLOURS, lines.items(), strict=False):
            x, y = zip(*points, strict=True)
            axes.plot(x, y, color=colour, linewidth=1.8, label=name, marker="o" if len(x) < 30 else None, markersize=3)
        axes.set_title(title, loc="left", fontsize=10, color=INK)
        axes.set_xlabel(x_label, fontsize=9, color=INK)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.tick_params(labelsize=8, colors=INK)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if len(lines) > 1:
            axes.legend(fontsize=8, frameon=False)
    return figure


def attention_montage(images: Sequence[np.ndarray], maps: Sequence[np.ndarray]) -> Figure:
    """One row per image: the image, the mean over heads, every head.

    Args:
        images: RGB (H, W, 3) uint8 each.
        maps: attention (heads, rows, columns) of each; every picture has its own colour scale.
    """
    n_heads = len(maps[0])
    aspect = max(image.shape[0] / image.shape[1] for image in images)
    figure = Figure(figsize=(1.35 * (n_heads + 2), 1.35 * aspect * len(images) + 0.3), layout="constrained")
    grid = figure.subplots(len(images), n_heads + 2, squeeze=False)
    titles = ["image", "mean", *(f"head {i + 1}" for i in range(n_heads))]
    for row, image, heads in zip(grid, images, maps, strict=True):
        height, width = image.shape[:2]
        row[0].imshow(image)
        for axes, attention in zip(row[1:], [heads.mean(axis=0), *heads], strict=True):
            axes.imshow(attention, cmap="magma", interpolation="nearest", extent=(0, width, height, 0))
        for axes in row:
            axes.set_axis_off()
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=8, color=INK)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes the figure as a PNG, atomically."""
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png", dpi=DPI, facecolor="white"))
