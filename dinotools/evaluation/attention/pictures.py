"""What attention leaves on disk for an image: pictures of every head, or numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from dinotools.data.patch_grid import PatchGrid
from dinotools.features.attention_maps import AttentionNetwork, keep_mass
from dinotools.reporting import figures
from dinotools.reporting.overlay import heat
from dinotools.runtime.run_directory import write_atomically

DIMMED = 4  # times darker is what a mask leaves out
COLUMN = 1.9  # inches, in the montage of one image
ACROSS = 8  # pictures in its rows: six heads fit into one


@dataclass(frozen=True)
class Drawn:
    """An image and where the network looks in it, all (H, W, 3) uint8.

    Args:
        image: RGB.
        mean: attention, the mean over heads, in colours.
        over: the same laid over the image.
        heads: attention of each head in colours.
        masks: the image, bright where each head looks most and dark elsewhere.
    """

    image: np.ndarray
    mean: np.ndarray
    over: np.ndarray
    heads: list[np.ndarray]
    masks: list[np.ndarray]


def draw(image: np.ndarray, maps: Tensor, grid: PatchGrid, threshold: float, *, smooth: bool) -> Drawn:
    """Draws the attention of an image in its own pixels.

    Args:
        image: RGB (H, W, 3) uint8.
        maps: (heads, rows, columns) of the image's patches.
        grid: how it became patches.
        threshold: share of a head's attention that its mask keeps.
        smooth: interpolate between patches; masks always show patches as they are.
    """
    height, width = image.shape[:2]

    def large(of_patches: Tensor) -> np.ndarray:
        return grid.enlarge(of_patches[None], height, width, smooth=smooth)[0].numpy()

    mean = maps.mean(0)
    top = figures.brightest(mean.numpy())
    heads, masks = [], []
    for of_head, kept in zip(maps, keep_mass(maps, threshold), strict=True):  # one at a time: they may be large
        heads.append(figures.in_colours(large(of_head), figures.brightest(of_head.numpy())))
        mask = grid.enlarge(kept[None].float(), height, width)[0].numpy()
        masks.append(np.where(mask[..., None] > 0, image, image // DIMMED))
    return Drawn(image, figures.in_colours(large(mean), top), heat(image, large(mean), top), heads, masks)


def write_pictures(folder: Path, drawn: Drawn) -> None:
    """Writes each picture as a PNG of the image's size, and all of them together as montage.png."""
    pictures = {"mean": drawn.mean, "mean-overlay": drawn.over}
    for number, (of_head, mask) in enumerate(zip(drawn.heads, drawn.masks, strict=True), start=1):
        pictures |= {f"head-{number}": of_head, f"head-{number}-mask": mask}
    for name, pixels in pictures.items():
        save(pixels, folder / f"{name}.png")
    figures.save(montage(drawn), folder / "montage.png")


def montage(drawn: Drawn) -> Figure:
    """All pictures of an image: maps, and below each what it does to the image."""
    titles = figures.attention_titles(len(drawn.heads))
    maps, images = [drawn.image, drawn.mean, *drawn.heads], [drawn.image, drawn.over, *drawn.masks]
    starts = range(0, len(titles), ACROSS)
    rows = [pictures[start : start + ACROSS] for start in starts for pictures in (maps, images)]
    return figures.picture_rows(rows, {2 * i: titles[start : start + ACROSS] for i, start in enumerate(starts)}, COLUMN)


def save(pixels: np.ndarray, path: Path) -> None:
    """Writes a picture (H, W, 3) uint8 as a PNG, atomically."""
    write_atomically(path, lambda temporary: Image.fromarray(pixels).save(temporary, format="PNG"))


def write_numbers(path: Path, size: tuple[int, int], maps: Tensor, grid: PatchGrid, threshold: float) -> None:
    """Writes an .npz: ``attention`` (heads, rows, columns) float32 of the patches, ``masks`` of the same shape, bool.

    Args:
        path: the file.
        size: height and width of the image, in the file ``image_size``; ``resized`` is the size to which it was
            brought before it was cut into patches of ``patch_size`` from its top left corner.
        maps: attention.
        grid: how the image became patches.
        threshold: share of a head's attention that its mask keeps.
    """
    arrays = {
        "attention": maps.numpy(),
        "masks": keep_mass(maps, threshold).numpy(),
        "threshold": np.array(threshold),
        "image_size": np.array(size),
        "resized": np.array(grid.resized(*size)),
        "patch_size": np.array(grid.patch_size),
    }

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # NumPy would add an ending to a name
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type] # NumPy's own says bool of allow_pickle

    write_atomically(path, write)


def describe(name: object, size: tuple[int, int], network: AttentionNetwork) -> dict[str, Any]:
    """What results.json says of an image, or of every frame of a video, of this size (height, width)."""
    grid = network.grid.shape(*size)
    return {"name": str(name), "size": list(size), "grid": list(grid), "heads": network.n_heads}
