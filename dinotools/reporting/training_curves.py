"""Curves of training runs: several quantities in one picture, several runs in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dinotools.reporting.figures import COLOURS, GROUND, INK, plain
from dinotools.reporting.palette import marks

Points = Sequence[tuple[float, float]]

MOST_POINTS = 400  # of a curve; more would be a band of ink
FEW_POINTS = 20  # each is marked
ROW = 0.08  # height of a knee's name, as a share of the curves
NEAR = 0.03  # share of the width within which two knees share a line


@dataclass(frozen=True)
class Panel:
    """One quantity.

    Args:
        title: the quantity and its unit.
        lines: name of a curve -> its points (x, y).
        level: a value to compare with, and its name: a dashed line.
        knees: what happens during training -> where (x): dotted lines.
    """

    title: str
    lines: Mapping[str, Points]
    level: tuple[str, float] | None = None
    knees: Mapping[str, float] = field(default_factory=dict)


def draw(panels: Sequence[Panel], x_label: str) -> Figure:
    """Panels in rows of two. A name has the same colour in all of them; what all share is explained once, below.

    Args:
        panels: at least one; lines without points are left out.
        x_label: what x counts.
    """
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    colours = colours_of(panels)
    names = list(colours)
    figure = Figure(figsize=(5.4 * columns, 3.1 * rows + 0.3), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    same = all(len(panel.lines) == len(names) for panel in panels)
    for axes, panel in zip(grid, panels, strict=False):
        _draw_panel(axes, panel, colours, x_label)
        if len(panel.lines) > 1 and not same:
            axes.legend(fontsize=8, frameon=False)
    if same and len(names) > 1:
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(names)), fontsize=8, frameon=False)
    return figure


def draw_one(panel: Panel, x_label: str, colours: Mapping[str, str]) -> Figure:
    """A panel alone, small enough to be read on a phone; its title and the names of its lines stand elsewhere.

    Args:
        panel: the panel.
        x_label: what x counts.
        colours: of every line, as from ``colours_of``.
    """
    figure = Figure(figsize=(3.9, 2.55), layout="constrained")
    _draw_panel(figure.subplots(), replace(panel, title=""), colours, x_label)
    return figure


def described(panel: Panel, x_label: str) -> str:
    """What a panel shows, in words: where every line begins and ends."""
    lines = [
        f"{name + ': ' if len(panel.lines) > 1 else ''}from {points[0][1]:.3g} at {x_label} {points[0][0]:.3g} "
        f"to {points[-1][1]:.3g} at {x_label} {points[-1][0]:.3g}"
        for name, points in panel.lines.items()
        if points
    ]
    level = [f"dashed line: {panel.level[0]}, {panel.level[1]:.3g}"] if panel.level else []
    knees = [f"{name} at {x_label} {x:.3g}" for name, x in panel.knees.items()]
    return f"Curve of {panel.title}. {'; '.join([*lines, *level, *knees])}."


def colours_of(panels: Sequence[Panel]) -> dict[str, str]:
    """A colour for every name of a line, the same in all panels."""
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    return dict(zip(names, _colours(len(names)), strict=True))


def thinned(points: Points, most: int = MOST_POINTS) -> Points:
    """At most so many points: the means of neighbours."""
    if len(points) <= most:
        return points
    parts = np.array_split(np.asarray(points, dtype=float), most)
    return [(float(x), float(y)) for x, y in (part.mean(axis=0) for part in parts)]


def _colours(n: int) -> Sequence[str]:
    return COLOURS[:n] if n <= len(COLOURS) else [mark.colour for mark in marks(n)]


def _draw_panel(axes: Axes, panel: Panel, colours: Mapping[str, str], x_label: str) -> None:
    for name, points in panel.lines.items():
        if not points:
            continue
        x, y = zip(*thinned(points), strict=True)
        marker = "o" if len(x) < FEW_POINTS else None
        axes.plot(x, y, color=colours[name], linewidth=1.6, label=plain(name), marker=marker, markersize=3)
    if panel.level is not None:
        name, level = panel.level
        axes.axhline(level, color=INK, linewidth=0.9, linestyle="--", alpha=0.7)
        axes.annotate(
            name,
            (1, level),
            (-2, 1),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=8,
            color=INK,
        )
    axes.set_title(plain(panel.title), loc="left", fontsize=10, color=INK)
    axes.set_xlabel(x_label, fontsize=9, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(labelsize=8, colors=INK)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    _draw_knees(axes, panel.knees)


def _draw_knees(axes: Axes, knees: Mapping[str, float]) -> None:
    """Dotted lines with their names beside them; those that would lie on one another share a line."""
    low, high = axes.get_xlim()
    drawn: dict[float, list[str]] = {}
    for name, x in sorted(knees.items(), key=lambda knee: knee[1]):
        if low <= x <= high:
            near = next((other for other in drawn if abs(other - x) <= NEAR * (high - low)), x)
            drawn.setdefault(near, []).append(name)
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top + ROW * len(drawn) * (top - bottom))  # the names stand above the curves
    for row, (x, names) in enumerate(drawn.items()):
        left = x > (low + high) / 2
        axes.axvline(x, color=INK, linewidth=0.9, linestyle=":", alpha=0.8)
        axes.annotate(
            ", ".join(names),
            (x, 1 - row * ROW / (1 + ROW * len(drawn))),
            (-3 if left else 3, -1),
            xycoords=axes.get_xaxis_transform(),
            textcoords="offset points",
            ha="right" if left else "left",
            va="top",
            fontsize=7,
            color=INK,
            bbox={"facecolor": GROUND, "edgecolor": "none", "pad": 0.5},
        )
