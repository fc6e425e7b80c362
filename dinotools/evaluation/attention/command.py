"""Attention maps: where the [CLS] token of the last block looks, head by head, in images and videos.

The image at its own size, but for half a patch at most that makes its sides whole patches (the official script crops),
normalised; the attention of the [CLS] query to every patch, per head; a mask keeps the patches that hold 60 % of it.
Only the [CLS] row of the last block's matrix is computed, so memory grows with the number of patches, not its square.
Paper: Figures 1 and 3, section 4.2.2; official files ``visualize_attention.py`` and ``video_generation.py``.

    dinotools attention photo.jpg holidays/ clip.mp4 --ckpt dino_vits8 --out attention
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader

from dinotools.configs import files
from dinotools.configs.attention import AttentionConfig
from dinotools.data.images import BadImages, ImageFiles, UnreadableImage
from dinotools.data.patch_grid import LARGEST
from dinotools.data.video import Video
from dinotools.evaluation.attention.films import write_film
from dinotools.evaluation.attention.inputs import DecodedImages, distinct_names, open_inputs
from dinotools.evaluation.attention.pictures import describe, draw, write_numbers, write_pictures
from dinotools.features.attention_maps import AttentionNetwork, open_attention
from dinotools.reporting import figures
from dinotools.runtime import device, run_directory
from dinotools.runtime.console import track
from dinotools.runtime.errors import require
from dinotools.runtime.results import Result

OVERVIEW = "overview.png"
IN_OVERVIEW = 12  # images
OVERVIEW_SIDE = 480  # longer side of an image in it
LISTED = 20  # inputs in the table; results.json has all


def run(config: AttentionConfig) -> Result:
    """Opens the inputs and the network, draws images, then films.

    Raises:
        DinotoolsError: an input, the checkpoint or an option cannot be used.
    """
    check_options(config)
    images, videos = open_inputs(config.inputs, config.fps)
    require(config.fps is None or bool(videos), "no input is a video", "fps", "Leave it out.")
    require(config.head is None or bool(videos), "no input is a video", "head", "Images show every head.")
    runtime = device.prepare(config.device, config.precision, config.workers, config.seed)
    network = open_attention(config, config.fit, config.imsize, runtime, config.seed)
    known = config.head is None or 1 <= config.head <= network.n_heads
    require(known, f"is {config.head}", "head", f"The network has heads 1 to {network.n_heads}.")
    run_directory.claim(
        config.out, files.dump(config), overwrite=config.overwrite, inputs=(config.ckpt, *config.inputs)
    )
    names = distinct_names([*images.paths, *(video.path.name for video in videos)])
    bad = BadImages(config.max_bad, len(images))
    drawn = list(draw_images(images, names, network, config, bad)) if len(images) else []
    drawn += [
        write_film(video, config.out / name, network, config)
        for video, name in zip(videos, names[len(images) :], strict=True)
    ]
    return Result(
        title=f"attention · {network.backbone.source}",
        rows=[as_row(of) for of in drawn[:LISTED]],
        metrics={"inputs": drawn},
        details={
            "checkpoint": network.backbone.describe(),
            "data": {"images": len(images) - len(bad.names), "skipped": bad.names, "videos": len(videos)},
            **runtime.describe(),
        },
        notes=tuple(remarks(config, drawn, videos)),
    )


def check_options(config: AttentionConfig) -> None:
    """Refuses numbers that mean nothing.

    Raises:
        DinotoolsError: of which option.
    """
    require(0 < config.threshold <= 1, f"is {config.threshold:g}", "threshold", "It must be above 0 and at most 1.")
    for name in ("imsize", "fps"):
        value = getattr(config, name)
        require(value is None or value > 0, f"is {value}", name, "It must be above 0.")
    require(0 <= config.max_bad <= 1, f"is {config.max_bad}", "max_bad", "It must lie between 0 and 1.")


def draw_images(
    images: ImageFiles, names: list[str], network: AttentionNetwork, config: AttentionConfig, bad: BadImages
) -> Iterator[dict[str, Any]]:
    """Writes what there is to see in every image, and the first ones side by side.

    Args:
        images: the images; those that cannot be read go to bad.
        names: of their outputs.
        network: whose attention.
        config: how to draw, and where.
        bad: those that could not be read.

    Yields:
        What results.json says of each.
    """
    workers = min(network.runtime.workers, len(images) - 1)
    loader = DataLoader(DecodedImages(images), batch_size=None, num_workers=workers)
    overview: list[list[np.ndarray]] = []
    for position, image in enumerate(track(loader, "attention", total=len(images))):
        if isinstance(image, UnreadableImage):
            bad.add(image)
            continue
        size = (image.height, image.width)
        maps = network.maps(image, images.name(position))
        if config.format == "npz":
            path = config.out / f"{names[position]}.npz"
            write_numbers(path, size, maps, network.grid, config.threshold)
        else:
            drawn = draw(np.asarray(image), maps, network.grid, config.threshold, smooth=config.smooth)
            write_pictures(config.out / names[position], drawn)
            if len(overview) < IN_OVERVIEW:
                overview.append([shrunk(picture) for picture in (drawn.image, drawn.over, *drawn.heads)])
        yield describe(images.name(position), size, network)
    if len(overview) > 1:
        titles = figures.attention_titles(network.n_heads)
        figures.save(figures.picture_rows(overview, {0: titles}), config.out / OVERVIEW)


def shrunk(picture: np.ndarray) -> np.ndarray:
    """The picture (H, W, 3) uint8, no larger than the overview shows it."""
    image = Image.fromarray(picture)
    image.thumbnail((OVERVIEW_SIDE, OVERVIEW_SIDE))
    return np.asarray(image)


def as_row(found: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table."""
    (height, width), (rows, columns) = found["size"], found["grid"]
    row = {"input": Path(found["name"]).name, "size": f"{width} x {height}", "patches": f"{columns} x {rows}"}
    return row | {"heads": found["heads"]} | ({"frames": found["frames"]} if "frames" in found else {})


def remarks(config: AttentionConfig, found: Sequence[Mapping[str, Any]], videos: Sequence[Video]) -> Iterator[str]:
    """What to know about the pictures, and where they are."""
    large = sum(max(of["size"]) > LARGEST for of in found)
    if config.imsize is None and large:
        yield f"Shrunk to {LARGEST:,} pixels before the network saw them: {large:,}; --imsize takes another size."
    silent = [video.path.name for video in videos if video.has_audio]
    if silent and config.format == "pictures":
        yield f"Without the sound of {', '.join(silent)}."
    if len(found) > LISTED:
        yield f"{len(found) - LISTED:,} more are listed in {config.out / 'results.json'}."
    overview = config.out / OVERVIEW
    yield f"See {overview if overview.exists() else config.out}."
