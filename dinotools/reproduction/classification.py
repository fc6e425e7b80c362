"""What classifiers leave: the grid of a linear probe as a heat map, and the classes that are hard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.colors import to_hex

from dinotools.reporting import html
from dinotools.reporting.figures import HEAT_RANGE
from dinotools.reproduction.provenance import Entry, drawn, side_by_side

HARDEST = 4  # classes at either end, and confusions
COLOURS = "Blues"
MIDDLE = 0.18  # luminance on which black and white words are read equally well


def sweeps(entries: Sequence[Entry]) -> str:
    """Accuracies held out of every classifier of ``linear --protocol cached``, as tables in colours; HTML."""
    with_grid = [entry for entry in entries if entry.section("metrics").get("grid")]
    return side_by_side(drawn(with_grid, lambda entry: f"{entry.heading()}\n{_heat_map(entry.section('metrics'))}"))


def _heat_map(metrics: Mapping[str, Any]) -> str:
    cells = {(cell["lr"], cell["pooling"]): cell["holdout_top1"] for cell in metrics["grid"]}
    rates, poolings = (list(dict.fromkeys(key[i] for key in cells)) for i in (0, 1))
    chosen = (metrics["chosen"]["lr"], metrics["chosen"]["pooling"])
    values = [value for value in cells.values() if value is not None]
    top, bottom = max(values), max(min(values), max(values) - HEAT_RANGE)
    head = "".join(f'<th scope="col">{html.text(pooling)}</th>' for pooling in poolings)
    body = "".join(
        f'<tr><th scope="row">{rate:g}</th>'
        + "".join(_heat(cells.get((rate, of)), bottom, top, chosen=(rate, of) == chosen) for of in poolings)
        + "</tr>"
        for rate in rates
    )
    caption = (
        "Top-1 % of training images held out, by learning rate for 256 images a step and by features; framed: the one "
        f"that was chosen, {metrics['chosen']['pooling']} at {chosen[0]:g}, with {metrics['top1']:.2f} % of the test "
        "images."
    )
    return (
        f'<figure><div class="scroll" tabindex="0" role="region" aria-label="sweep of linear classifiers">'
        f'<table class="heat"><thead><tr><th scope="col">learning rate</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div><figcaption>{html.text(caption)}</figcaption></figure>"
    )


def _heat(value: float | None, bottom: float, top: float, *, chosen: bool) -> str:
    if value is None:
        return "<td>diverged</td>"
    share = min(max((value - bottom) / ((top - bottom) or 1), 0), 1)
    colour = colormaps[COLOURS](0.05 + 0.9 * share)
    words = "#fff" if luminance(colour[:3]) < MIDDLE else "#000"
    kind = ' class="chosen"' if chosen else ""
    return f'<td{kind} style="background: {to_hex(colour)}; color: {words}">{value:.1f}</td>'


def luminance(colour: Sequence[float]) -> float:
    """Relative luminance of red, green and blue from 0 to 1 (WCAG 2.2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def classes(entries: Sequence[Entry]) -> str:
    """The classes that are recognised least often, and the mistakes made most often; HTML."""
    found = [entry for entry in entries if entry.section("metrics", "per_class").get("accuracy")]
    parts = drawn(found, lambda entry: f"{entry.heading()}\n{_hardest(entry.section('metrics', 'per_class'))}")
    return side_by_side(parts)


def _hardest(per_class: Mapping[str, Any]) -> str:
    accuracy = {name: value for name, value in per_class["accuracy"].items() if value is not None}
    ranked = sorted(accuracy, key=lambda name: accuracy[name])
    shown = ranked if len(ranked) <= 2 * HARDEST else [*ranked[:HARDEST], *ranked[-HARDEST:]]
    of_all = "" if shown is ranked else f", the {HARDEST} hardest and the {HARDEST} easiest of {len(ranked):,} classes"
    bars = "".join(
        f'<tr><th scope="row">{html.text(name)}</th><td class="number">{accuracy[name]:.1f}</td>'
        f'<td class="bar"><span style="width: {accuracy[name]:.1f}%"></span></td></tr>'
        for name in shown
    )
    mistakes = ", ".join(
        f"{pair['true']} as {pair['predicted']} ({pair['count']:,})" for pair in per_class["confusions"][:HARDEST]
    )
    k = f", with k = {per_class['k']}" if "k" in per_class else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="accuracy by class"><table class="classes">'
        f'<thead><tr><th scope="col">class</th><th scope="col">% right</th><td></td></tr></thead>'
        f"<tbody>{bars}</tbody></table></div>"
        f"<p>Share of each class's test images that is recognised{k}{of_all}. Taken most often for another: "
        f"{html.text(mistakes or 'none')}.</p>"
    )
