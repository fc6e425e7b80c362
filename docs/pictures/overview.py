"""Draws overview.png out of what dinotools' commands write: the network that ships with it, and images of libraries.

    python docs/pictures/overview.py docs/pictures/overview.png

Its panels: ``attention photos``; the digits of scikit-learn nearest to four others by ``features``; ``davis --video``
over a pan across a photograph, whose first mask is cut out by colour; k-NN in the log of the network's training.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_sample_image

from dinotools.configs.attention import AttentionConfig
from dinotools.configs.features import FeaturesConfig
from dinotools.configs.video import DavisConfig
from dinotools.data.samples import Digits
from dinotools.evaluation.attention import command as attention
from dinotools.evaluation.davis import command as davis
from dinotools.features import command as features
from dinotools.features.files import read_features
from dinotools.models import zoo

CKPT = zoo.SHIPPED
RIGHT, WRONG, CURVE = "#2e9e5b", "#d0483e", "#3f6fb5"


def grid(panel: SubFigure, title: str, rows: int, columns: int) -> list[Axes]:
    """A panel of bare pictures."""
    panel.suptitle(title, fontsize=11)
    axes = list(panel.subplots(rows, columns, gridspec_kw={"wspace": 0.05, "hspace": 0.05}).flat)
    for each in axes:
        each.set(xticks=[], yticks=[])
        each.spines[:].set_visible(False)
    return axes


def draw_attention(panel: SubFigure, folder: Path) -> None:
    """A photograph, and the maps of three heads."""
    words = {"inputs": ("photos",), "ckpt": CKPT, "imsize": 256, "smooth": True, "workers": 0}
    attention.run(AttentionConfig(out=folder / "a", **words))
    axes = grid(panel, "where its heads look", 2, 2)
    photo = Image.fromarray(load_sample_image("flower.jpg"))
    heads = [Image.open(path) for path in sorted((folder / "a" / "flower").glob("head-?.png"))[:3]]
    for each, picture in zip(axes, [photo, *heads], strict=True):
        each.imshow(picture.resize((320, 213)), cmap="inferno")


def draw_neighbours(panel: SubFigure, folder: Path, nearest: int = 5) -> None:
    """Four test digits, and the nearest training digits of each: green where the class is the same."""
    words = {"ckpt": CKPT, "data": "digits", "resize_size": 32, "crop_size": 32, "workers": 0}
    features.run(FeaturesConfig(out=folder / "f", **words))
    known, asked = (F.normalize(read_features(folder / "f" / split).tensor(), dim=1) for split in ("train", "val"))
    train, val = Digits("train"), Digits("val")
    axes = iter(grid(panel, "a digit, and the nearest of 1,400", 4, nearest + 1))
    for query in (0, 100, 200, 300):
        found = (known @ asked[query]).topk(nearest).indices.tolist()
        first = next(axes)
        first.imshow(val.load(query))
        for position, each in zip(found, axes, strict=False):
            each.imshow(train.load(position))
            each.spines[:].set(
                visible=True, lw=2, color=RIGHT if train.labels[position] == val.labels[query] else WRONG
            )
            if position == found[-1]:
                break


def draw_video(panel: SubFigure, folder: Path, frames: int = 16) -> None:
    """Four frames of a pan, with the mask that was followed through it."""
    photo = load_sample_image("flower.jpg")
    petals = (photo[..., 0] > 110) & (photo[..., 1] < 0.9 * photo[..., 0])
    parts, _ = ndimage.label(ndimage.binary_opening(petals, iterations=3))
    flower = ndimage.binary_fill_holes(parts == np.bincount(parts.flat)[1:].argmax() + 1)
    (folder / "clip").mkdir()
    for i in range(frames):
        top, left = 2 * i, 60 + 8 * i
        view = slice(top, top + 360), slice(left, left + 420)
        Image.fromarray(photo[view]).save(folder / "clip" / f"{i:05d}.png")
        if i == 0:
            mask = Image.fromarray(flower[view].astype(np.uint8), mode="P")
            mask.putpalette([0, 0, 0, 200, 60, 60])
            mask.save(folder / "mask.png")
    words = {"video": folder / "clip", "mask": folder / "mask.png", "short_side": 256, "workers": 0}
    davis.run(DavisConfig(ckpt=CKPT, out=folder / "v", **words))
    axes = grid(panel, "a mask, given once, followed", 2, 2)
    for each, i in zip(axes, (0, 5, 10, frames - 1), strict=True):
        found = np.asarray(Image.open(sorted((folder / "v" / "masks").rglob("*.png"))[i])) > 0
        picture = np.asarray(Image.open(folder / "clip" / f"{i:05d}.png")).copy()
        picture[found] = picture[found] // 2 + np.array([20, 60, 127], dtype=np.uint8)
        each.imshow(picture)


def draw_curve(panel: SubFigure) -> None:
    """k-NN accuracy of the teacher by epoch."""
    log = Path(zoo.__file__).parent / "weights" / f"{CKPT}.jsonl"
    records = [json.loads(line) for line in log.read_text().splitlines()]
    points = [(record["epoch"], record["knn_teacher"]) for record in records if "knn_teacher" in record]
    panel.suptitle("learns without labels", fontsize=11)
    axes = panel.subplots()
    axes.plot(*zip(*points, strict=True), color=CURVE, lw=2)
    axes.axhline(39.1, color="0.6", lw=1, ls="--")
    axes.annotate("raw pixels", (70, 38.6), ha="right", va="top", color="0.4", fontsize=9)
    axes.set_xlabel("epochs", fontsize=9)
    axes.set_title("k-NN on CIFAR-10, %", fontsize=9, loc="left")
    axes.tick_params(labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def main(target: Path) -> None:
    """Draws all panels into a file."""
    figure = plt.figure(figsize=(12, 2.8), dpi=120)
    panels = figure.subfigures(1, 4, width_ratios=[1.25, 1.2, 1, 1.05], wspace=0.01)
    with tempfile.TemporaryDirectory() as folder:
        draw_attention(panels[0], Path(folder))
        draw_neighbours(panels[1], Path(folder))
        draw_video(panels[2], Path(folder))
        draw_curve(panels[3])
    for panel in panels[:3]:
        panel.subplots_adjust(left=0.02, right=0.98, bottom=0.03, top=0.88)
    panels[3].subplots_adjust(left=0.13, right=0.97, bottom=0.17, top=0.78)
    figure.savefig(target)


if __name__ == "__main__":  # readers are processes of their own
    main(Path(sys.argv[1]))
