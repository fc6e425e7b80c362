"""What attention leaves on disk for a video: a film with the attention laid over every frame, or numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from dinotools.configs.attention import AttentionConfig
from dinotools.data.patch_grid import PatchGrid
from dinotools.data.video import Video
from dinotools.data.video_writing import VideoWriter
from dinotools.evaluation.attention.pictures import describe, write_numbers
from dinotools.features.attention_maps import AttentionNetwork
from dinotools.reporting.figures import brightest
from dinotools.reporting.overlay import heat
from dinotools.runtime.console import track

MEMORY = 0.9  # of the colour scale from frame to frame: one that starts anew with every frame flickers


def write_film(video: Video, path: Path, network: AttentionNetwork, config: AttentionConfig) -> dict[str, Any]:
    """Looks at a video frame by frame, and writes what there is to see; memory does not grow with its length.

    Args:
        video: what to look at.
        path: where, without ending: a film of the video's size, or a folder with an .npz for every frame.
        network: whose attention.
        config: how to draw.

    Returns:
        What results.json says of it.

    Raises:
        DinotoolsError: a frame cannot be read, or the film cannot be written.
    """
    size = (video.height, video.width)
    seen = track(look(video, network, config.skip_bad_frames), video.path.name, total=video.n_frames)
    n_frames = 0
    if config.format == "npz":
        for n_frames, (_, maps) in enumerate(seen, start=1):
            target = path / f"{n_frames - 1:05}.npz"
            write_numbers(target, size, maps, network.grid, config.threshold)
    else:
        with VideoWriter(path.with_name(f"{path.name}.mp4"), video.fps, video.width, video.height) as film:
            for picture in heated(seen, network.grid, config):
                film.write(picture)
        n_frames = film.n_frames
    return describe(video.path, size, network) | {"frames": n_frames}


def look(video: Video, network: AttentionNetwork, skip_bad: bool) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Every frame (H, W, 3) uint8 and its attention (heads, rows, columns); a bad one repeats the one before."""
    seen = None
    for frame in video.frames(skip_bad):
        if frame is not None:
            seen = frame, network.maps(Image.fromarray(frame), video.path)
        assert seen is not None  # the first frame is good
        yield seen


def heated(seen: Iterable[tuple[np.ndarray, Tensor]], grid: PatchGrid, config: AttentionConfig) -> Iterator[np.ndarray]:
    """Lays the attention of one head, or of their mean, over every frame: (H, W, 3) uint8."""
    top = None
    for frame, maps in seen:
        chosen = maps.mean(0) if config.head is None else maps[config.head - 1]
        of_frame = brightest(chosen.numpy())
        top = of_frame if top is None else MEMORY * top + (1 - MEMORY) * of_frame
        large = grid.enlarge(chosen[None], *frame.shape[:2], smooth=config.smooth)[0]
        yield heat(frame, large.numpy(), top)
