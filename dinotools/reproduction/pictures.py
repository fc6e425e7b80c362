"""What there is to look at: features in the plane, attention, masks laid over videos."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dinotools.data.images import UnreadableImage, decode
from dinotools.data.masks import read_mask
from dinotools.evaluation.attention.command import OVERVIEW
from dinotools.evaluation.davis.command import MASKS
from dinotools.evaluation.davis.layout import FRAMES
from dinotools.evaluation.embedding.command import PAGE, TABLE
from dinotools.reporting import figures, html
from dinotools.reporting.overlay import overlay
from dinotools.reporting.palette import marks
from dinotools.reporting.thumbnails import jpeg
from dinotools.reproduction.provenance import Entry, drawn, linked, side_by_side
from dinotools.runtime.errors import DinotoolsError

LONGER_SIDE = 1400  # pixels of a picture
WIDTH = 5.4  # inches of a scatter: its names can be read on a phone
FRAME_SIDE = 480  # of a frame among others
QUALITY = 78
PATCHES = "patches.png"  # of `embed --patches`
MONTAGES = 3  # of images, where there is no overview of them
SHAPES = {"circle": "●", "square": "■", "triangle": "▲", "diamond": "◆", "cross": "✚"}


def embedded(image: Image.Image, alternative: str, longer_side: int = LONGER_SIDE) -> str:
    """An image inside the page, as <img>.

    Args:
        image: of any size; shrunk in place.
        alternative: what stands for it where it cannot be seen.
        longer_side: in pixels, at most.
    """
    image.thumbnail((longer_side, longer_side), Image.Resampling.LANCZOS)
    size = f'width="{image.width}" height="{image.height}"'
    return f'<img src="{jpeg(image.convert("RGB"), QUALITY)}" alt="{html.text(alternative)}" {size}>'


def embeddings(entries: Sequence[Entry], page: Path) -> str:
    """Features in the plane, drawn from the table that ``dinotools embed`` leaves, and patches in colours; HTML."""

    def draw(entry: Entry) -> str:
        folder = entry.found.folder
        if (folder / TABLE).is_file():
            link = linked(folder / PAGE, "The image behind every point", page)
            return f"{entry.heading()}{_plane(entry)}{f'<p>{link}</p>' if link else ''}"
        if (folder / PATCHES).is_file():
            what = f"Patches of images in the colours of their principal components, {entry.network}."
            return entry.heading() + _file(folder / PATCHES, what)
        return ""

    return side_by_side(drawn(entries, draw))


def _plane(entry: Entry) -> str:
    with (entry.found.folder / TABLE).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    points = np.array([(float(row["x"]), float(row["y"])) for row in rows])
    classes, labels = np.unique([row["class"] for row in rows], return_inverse=True)
    names, config, metrics = [str(name) for name in classes], entry.section("config"), entry.section("metrics")
    labelled = config.get("of") == "classes"
    method = "PCA" if config.get("method") == "pca" else f"t-SNE, perplexity {metrics.get('perplexity', 0):g}"
    few = len(names) <= figures.LEGEND_CLASSES
    caption = f"{method}: {len(points):,} {config.get('of', 'points')}"
    caption += f", {len(names):,} classes" if len(names) > 1 and not labelled else ""
    if (kept := metrics.get("trustworthiness")) is not None:
        caption += f"; trustworthiness {kept:.3f} of 1 with {metrics.get('trustworthiness_neighbours')} neighbours"
    listed = f": {', '.join(names)}" if few and len(names) > 1 else ""
    scatter = figures.svg(
        figures.scatter(points, labels, names, labelled=labelled, legend=False, width=WIDTH),
        f"Scatter of the features of {entry.name}. {caption}{listed}.",
    )
    legend = "".join(
        f'<li><span class="mark" style="color: {mark.colour}">{SHAPES[mark.shape]}</span>{html.text(name)}</li>'
        for name, mark in zip(names, marks(len(names)), strict=True)
    )
    shown = f'<ul class="legend">{legend}</ul>' if listed and not labelled else ""
    return html.figure(scatter, f"{caption}.") + shown


def attention(entries: Sequence[Entry]) -> str:
    """The overview that ``dinotools attention`` leaves, or the montages of the first images; HTML."""
    return "\n".join(drawn([entry for entry in entries if entry.command == "attention"], _attended))


def _attended(entry: Entry) -> str:
    folder = entry.found.folder
    montages = sorted(folder.glob("*/montage.png"))[:MONTAGES]
    files = [folder / OVERVIEW] if (folder / OVERVIEW).is_file() else montages
    inputs = [Path(str(of["name"])).name for of in entry.section("metrics").get("inputs", [])]
    parts = []
    for file in files:
        of = ", ".join(inputs) if file.name == OVERVIEW else file.parent.name
        what = f"Where the [CLS] token of {entry.network} looks, the mean over heads and head by head: {of}."
        parts.append(_file(file, what))
    return "\n".join([entry.heading(), *parts]) if parts else ""


def _file(path: Path, what: str) -> str:
    """A picture that a command left, with what it shows."""
    try:
        return html.figure(embedded(decode(str(path)), what), what)
    except UnreadableImage:
        return f"<p>{html.text(str(path))} cannot be read.</p>"


def videos(entries: Sequence[Entry]) -> str:
    """A frame from the middle of every sequence of DAVIS, with the masks that were found laid over it; HTML."""
    followed = [entry for entry in entries if entry.command in ("davis", "davis-score")]
    return "\n".join(drawn([entry for entry in followed if entry.section("config").get("data")], _sequences))


def _sequences(entry: Entry) -> str:
    config = entry.section("config")
    masks = entry.found.folder / MASKS if entry.command == "davis" else Path(config["predictions"]).expanduser()
    frames = Path(config["data"]).expanduser() / FRAMES
    scores = entry.section("metrics", "sequences")
    tiles = [_tile(folder, frames / folder.name, scores) for folder in sorted(masks.glob("[!.]*/"))]
    parts = [f'<ul class="frames">{"".join(tiles)}</ul>'] if any(tiles) else []
    if absent := tiles.count(""):
        parts.append(f"<p>Sequences whose frames or masks are not there any more: {absent}.</p>")
    return "\n".join([entry.heading(), *parts]) if parts else ""


def _tile(masks: Path, frames: Path, scores: Mapping[str, Any]) -> str:
    """One sequence; "" where its frame or its mask cannot be read."""
    files = sorted(masks.glob("[!.]*.png"))
    middle = files[len(files) // 2] if files else masks / "none"
    try:
        frame, mask = np.asarray(decode(str(frames / f"{middle.stem}.jpg")).convert("RGB")), read_mask(middle)
    except (UnreadableImage, DinotoolsError):
        return ""
    score = scores.get(masks.name, {}).get("J&F-Mean")
    number = f", J&F {score:.1f}" if score is not None else ""
    objects = len(np.unique(mask[mask > 0]))
    what = f"{masks.name}, frame {middle.stem}: {objects} {'object' if objects == 1 else 'objects'}{number}"
    picture = embedded(Image.fromarray(overlay(frame, mask)), f"{what}; its mask in colours over the frame", FRAME_SIDE)
    return f"<li>{html.figure(picture, what)}</li>"
