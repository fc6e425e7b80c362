"""A page with a scatter of points and the image behind each: one file, no network."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from PIL import Image

from dinotools.reporting.html import document
from dinotools.reporting.palette import marks
from dinotools.reporting.thumbnails import jpeg

TILE = 64  # side of a thumbnail in pixels: whole JPEG blocks, so that none bleeds into the next
COLUMNS = 32
PER_SHEET = COLUMNS * COLUMNS  # thumbnails that share a JPEG: alone, each would carry 600 bytes of tables
QUALITY = 80

LAYOUT = """
body { max-width: 90rem; padding-bottom: 1rem; }
#frame { display: grid; grid-template-columns: 1fr minmax(9rem, 15rem); gap: 1rem; }
#stage { position: relative; height: 74vh; min-height: 18rem; }
#plot { width: 100%; height: 100%; display: block; background: var(--card); border: 1px solid var(--line);
  border-radius: 4px; touch-action: none; cursor: crosshair; box-sizing: border-box; }
#tip { position: absolute; pointer-events: none; padding: .4rem; max-width: 14rem; overflow-wrap: anywhere;
  background: var(--page); border: 1px solid var(--line); border-radius: 4px; box-shadow: 0 2px 8px #0004; }
#tip[hidden] { display: none; } #tip > * { display: block; } #tip > [hidden] { display: none; }
#tip small { color: var(--soft); line-height: 1.3; }
#legend { max-height: calc(74vh - 3rem); overflow-y: auto; display: flex; flex-wrap: wrap; gap: .2rem;
  align-content: start; }
button { font: inherit; font-size: .85rem; color: var(--ink); background: var(--card); border: 1px solid var(--line);
  border-radius: 4px; padding: .15rem .5rem; cursor: pointer; }
button:focus-visible, #plot:focus-visible { outline: 2px solid var(--soft); outline-offset: 1px; }
#legend button { display: flex; align-items: center; gap: .35rem; max-width: 100%; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; }
#legend canvas { width: 12px; height: 12px; flex: none; }
#legend button[aria-pressed=false] { opacity: .4; text-decoration: line-through; }
.tools { display: flex; flex-wrap: wrap; gap: .3rem; margin: .4rem 0; }
@media (max-width: 45rem) {
  body { padding: 1rem .7rem; } #frame { grid-template-columns: 1fr; } #stage { height: 58vh; }
  #legend { max-height: 9rem; }
}
"""


@dataclass(frozen=True)
class Cloud:
    """Points to be shown.

    Args:
        points: (N, 2) floats.
        labels: class of every point (N,).
        classes: names of the classes that points have; labels number them.
        names: of the image of every point.
        thumbnails: RGB (64, 64, 3) uint8 of every point, or None.
        labelled: whether names of classes stand beside the points: one per class.
    """

    points: np.ndarray
    labels: np.ndarray
    classes: Sequence[str]
    names: Sequence[str]
    thumbnails: Sequence[np.ndarray | None]
    labelled: bool


def page(title: str, lead: str, cloud: Cloud, footer: str) -> str:
    """The page as one HTML document, thumbnails inside."""
    described = html.escape(
        f"Scatter of {len(cloud.points):,} points in {len(cloud.classes):,} classes. The arrow keys move it, + and - "
        "zoom, 0 shows all. Names and coordinates are in embedding.csv.",
        quote=True,
    )
    script = resources.files("dinotools.reporting").joinpath("scatter.js").read_text(encoding="utf-8")
    body = f"""<noscript><p>A script in this file draws the points; embedding.png shows them without it.</p></noscript>
<div id="frame">
<div>
<div id="stage"><canvas id="plot" tabindex="0" role="img" aria-label="{described}"></canvas>
<div id="tip" hidden><canvas width="128" height="128"></canvas><strong></strong><small></small></div></div>
<div class="tools"><button id="closer" aria-label="zoom in">+</button>
<button id="farther" aria-label="zoom out">&minus;</button><button id="fit">fit</button></div>
</div>
<div>
<div class="tools"><button id="all">show all</button><button id="none">hide all</button></div>
<div id="legend" role="group" aria-label="classes"></div>
</div>
</div>
<script type="application/json" id="data">{_json(_data(cloud))}</script>
<script>{script}</script>"""
    return document(title, lead, body, footer, style=LAYOUT)


def _json(value: Any) -> str:
    """JSON that cannot end the element it stands in."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _data(cloud: Cloud) -> dict[str, Any]:
    found = [thumbnail for thumbnail in cloud.thumbnails if thumbnail is not None]
    has_one = np.array([thumbnail is not None for thumbnail in cloud.thumbnails])
    extent = np.ptp(cloud.points, axis=0).max() or 1.0
    x, y = np.round((cloud.points - cloud.points.mean(axis=0)) / extent, 4).T.tolist()
    return {
        "x": x,
        "y": y,
        "labels": cloud.labels.tolist(),
        "classes": [
            {"name": name, **mark._asdict()}
            for name, mark in zip(cloud.classes, marks(len(cloud.classes)), strict=True)
        ],
        "names": list(cloud.names),
        "thumbnails": np.where(has_one, np.cumsum(has_one) - 1, -1).tolist(),
        "sheets": [_sheet(found[start : start + PER_SHEET]) for start in range(0, len(found), PER_SHEET)],
        "tile": TILE,
        "columns": COLUMNS,
        "perSheet": PER_SHEET,
        "labelled": cloud.labelled,
    }


def _sheet(thumbnails: Sequence[np.ndarray]) -> str:
    """Thumbnails row by row in one JPEG, as a data URI."""
    rows = -(-len(thumbnails) // COLUMNS)
    sheet = np.zeros((rows, TILE, COLUMNS, TILE, 3), np.uint8)
    for i, thumbnail in enumerate(thumbnails):
        sheet[i // COLUMNS, :, i % COLUMNS] = thumbnail
    return jpeg(Image.fromarray(sheet.reshape(rows * TILE, COLUMNS * TILE, 3)), QUALITY)
