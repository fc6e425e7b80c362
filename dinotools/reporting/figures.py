"""Pictures: attention montages, scatters and heat maps, as matplotlib figures."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dinotools.reporting import html
from dinotools.reporting.overlay import heat
from dinotools.reporting.palette import marks
from dinotools.runtime.run_directory import write_atomically

INK = "#3b3f46"  # reads on white and survives grey printing
LINE = "#d5d8db"  # of what frames a picture
GROUND = "#fefefe"  # what lies behind a picture, such as under a word that crosses a line
# told apart by people who see red and green alike (Okabe and Ito 2008, "Color universal design")
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
DPI = 130
HEAT_RANGE = 10  # percent points that the colours of a heat map spread over, at most
MARKERS = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D", "cross": "P"}  # by palette.SHAPES
LEGEND_CLASSES = 40  # more names than that are no help
MAX_ASPECT = 3  # height over width of a row of pictures, or width over height


def attention_montage(images: Sequence[np.ndarray], maps: Sequence[np.ndarray]) -> Figure:
    """One row per image: the image, the mean over heads, every head.

    Args:
        images: RGB (H, W, 3) uint8 each.
        maps: attention (heads, rows, columns) of each; every picture has its own colour scale.
    """
    rows = [
        [image, *(in_colours(attention, brightest(attention)) for attention in (heads.mean(axis=0), *heads))]
        for image, heads in zip(images, maps, strict=True)
    ]
    return picture_rows(rows, {0: attention_titles(len(maps[0]))})


def attention_titles(n_heads: int) -> list[str]:
    """What stands over an image, the mean over heads, and every head."""
    return ["image", "mean", *(f"head {i + 1}" for i in range(n_heads))]


def in_colours(values: np.ndarray, top: float) -> np.ndarray:
    """Numbers from 0 (black) to top (pale yellow) as RGB: (H, W) floats -> (H, W, 3) uint8."""
    return heat(np.zeros((*values.shape, 3), np.uint8), values, top, alpha=1)


def brightest(values: np.ndarray) -> float:
    """What the brightest colour should stand for: the 99th percentile, lest one patch leave all others dark."""
    return float(np.quantile(values, 0.99))


def picture_rows(
    rows: Sequence[Sequence[np.ndarray]], titles: Mapping[int, Sequence[str]], width: float = 1.35
) -> Figure:
    """Pictures in rows; those of a row show the same thing, and are as large as its first.

    Args:
        rows: RGB (H, W, 3) uint8 each; a row may be shorter than others.
        titles: number of a row -> what stands over each of its pictures.
        width: of a column, in inches.
    """
    # a strip of 1 x 100 pixels would make a figure that nothing can draw
    aspects = [float(np.clip(row[0].shape[0] / row[0].shape[1], 1 / MAX_ASPECT, MAX_ASPECT)) for row in rows]
    columns = max(len(row) for row in rows)
    figure = Figure(figsize=(width * columns, width * sum(aspects) + 0.3 * len(titles)), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False, height_ratios=aspects)
    for axes in grid.flat:
        axes.set_axis_off()
    for line, pictures in zip(grid, rows, strict=True):
        height, width_px = pictures[0].shape[:2]
        for axes, picture in zip(line, pictures, strict=False):
            axes.imshow(picture, extent=(0, width_px, height, 0))
    for number, texts in titles.items():
        for axes, text in zip(grid[number], texts, strict=False):
            axes.set_title(text, fontsize=8, color=INK)
    return figure


def scatter(
    points: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    *,
    labelled: bool,
    title: str = "",
    legend: bool = True,
    width: float = 8.4,
) -> Figure:
    """Points in the plane, coloured by class; the axes have the same scale and no ticks.

    Args:
        points: (N, 2) floats.
        labels: class of every point (N,).
        classes: names of the classes.
        labelled: whether every point stands for a class and bears its name; else up to 40 classes get a legend.
        title: heading.
        legend: whether they do; it may stand elsewhere.
        width: of the picture in inches.
    """
    across, up = np.ptp(points, axis=0)
    height = width * float(np.clip(0.83 * up / max(across, 1e-9), 0.48, 0.95))
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    area = float(np.clip(12_000 / len(points), 7, 30)) * width / 8.4
    for number, (name, mark) in enumerate(zip(classes, marks(len(classes)), strict=True)):
        x, y = points[labels == number].T
        axes.scatter(
            x,
            y,
            s=area,
            c=mark.colour,
            marker=MARKERS[mark.shape],
            linewidths=0.3,
            edgecolors=GROUND,
            label=plain(name),
        )
    if labelled:
        axes.margins(x=0.15)  # room for names
        _name_points(axes, points, [plain(classes[number]) for number in labels])
    elif legend and 1 < len(classes) <= LEGEND_CLASSES:
        columns = 1 + (len(classes) > LEGEND_CLASSES // 2)
        figure.legend(loc="outside right upper", fontsize=8, frameon=False, ncols=columns, markerscale=1.5)
    axes.set_title(plain(title), loc="left", fontsize=10, color=INK)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color(LINE)
    return figure


def _name_points(axes: Axes, points: np.ndarray, names: Sequence[str]) -> None:
    """Writes the name of each point beside it, on the side away from the nearest other point."""
    size = float(np.clip(60 / len(points) ** 0.5, 2.5, 9))
    for i, (point, name) in enumerate(zip(points, names, strict=True)):
        distances = np.linalg.norm(points - point, axis=1)
        distances[i] = np.inf
        left = points[distances.argmin(), 0] > point[0]
        axes.annotate(
            name,
            tuple(point),
            (-4 if left else 4, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            fontsize=size,
            color=INK,
        )


def plain(text: str) -> str:
    """Text that Matplotlib shows as it is: "$" would begin a formula, and "_" would hide it from a legend."""
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


def pairs(images: Sequence[np.ndarray], maps: Sequence[np.ndarray], across: int = 3) -> Figure:
    """Every image with its map beside it, several pairs in a row.

    Args:
        images: RGB (H, W, 3) uint8 each.
        maps: the same.
        across: pairs in a row.
    """
    across = min(across, len(images))
    pictures = [picture for pair in zip(images, maps, strict=True) for picture in pair]
    rows = -(-len(images) // across)
    figure = Figure(figsize=(3.6 * across, 1.8 * rows), layout="constrained")
    grid = figure.subplots(rows, 2 * across, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, picture in zip(grid, pictures, strict=False):
        axes.imshow(picture, interpolation="nearest")
    return figure


def heat_map(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    marked: tuple[int, int],
    title: str,
    labels: tuple[str, str, str],
) -> Figure:
    """A grid of percentages, each written into its cell, one of them framed.

    Args:
        values: (rows, columns); NaN is an empty cell.
        rows: their names, from top to bottom.
        columns: their names, from left to right.
        marked: row and column of the cell that is framed.
        title: heading.
        labels: what columns, rows and values are.
    """
    figure = Figure(figsize=(max(6.5, 1.9 + 0.78 * len(columns)), 2 + 0.5 * len(rows)), layout="constrained")
    axes = figure.subplots()
    # low accuracies would swallow the contrast among the good ones
    highest = np.nanmax(values)
    lowest = max(np.nanmin(values), highest - HEAT_RANGE)
    image = axes.imshow(values, cmap="Blues", vmin=lowest, vmax=highest, aspect="auto")
    axes.set_facecolor("#eceef0")  # of empty cells
    for (row, column), value in np.ndenumerate(values):
        empty, best = bool(np.isnan(value)), (row, column) == marked
        dark = value - lowest > 0.55 * (highest - lowest)
        axes.text(
            column,
            row,
            "–" if empty else f"{value:.1f}",
            ha="center",
            va="center",
            fontsize=9,
            color="white" if dark else INK,
            fontweight="bold" if best else "normal",
        )
    axes.add_patch(
        Rectangle((marked[1] - 0.47, marked[0] - 0.47), 0.94, 0.94, fill=False, edgecolor=COLOURS[1], linewidth=2.4)
    )
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks(np.arange(1, len(columns)) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, len(rows)) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="both", length=0, labelsize=9, colors=INK)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(labels[0], fontsize=9, color=INK)
    axes.set_ylabel(labels[1], fontsize=9, color=INK)
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    bar = figure.colorbar(image, pad=0.015, extend="min" if lowest > np.nanmin(values) else "neither")
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8, colors=INK)
    bar.set_label(labels[2], fontsize=9, color=INK)
    return figure


def svg(figure: Figure, label: str) -> str:
    """The figure as an <svg> of a page: its ink, ground and colours are the page's, in light and dark; text is text.

    Args:
        figure: drawn with INK, GROUND, LINE and COLOURS, which become the variables of ``html.STYLE``.
        label: what is to be seen, in words.
    """
    drawn, label = io.StringIO(), html.text(label)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": label}):
        figure.savefig(drawn, format="svg", transparent=True)
    text = drawn.getvalue().partition("<svg")[2]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<defs>\s*</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # figures of one page would share them
    text = re.sub(r"font-family:[^;\"]*;?", "", text)
    text = re.sub(r"font: ([^;\"]*?)([\d.]+px)[^;\"]*", r"font-size: \2", text)  # what older Matplotlib writes
    text = re.sub(r' (?:d|x|y)="[^"]*"', lambda found: re.sub(r"(\.\d)\d+", r"\1", found[0]), text)
    variables = {INK: "ink", "#000000": "ink", GROUND: "page", LINE: "line"}
    variables |= {colour: f"series-{i}" for i, colour in enumerate(COLOURS, start=1)}
    for colour, name in variables.items():
        text = text.replace(colour, f"var(--{name})")
    box = re.search(r'viewBox="[^"]*"', text)
    assert box is not None  # Matplotlib writes one
    inside = re.sub(r"\s+", " ", text.partition(">")[2])
    return f'<svg class="chart" role="img" aria-label="{label}" {box[0]}>{inside}'


def save(figure: Figure, path: Path) -> None:
    """Writes the figure as a PNG, atomically."""
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png", dpi=DPI, facecolor="white"))
