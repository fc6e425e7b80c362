"""Any video with a mask of its first frame: where the objects of the mask are in every frame.

Steps and numbers are those of DAVIS-2017 (`dinotools davis --data`). A frame is read, labelled and written before the
next one is read, so memory does not grow with the length of the video. An object that first appears later has no
label: it counts as what it resembles most, which is background as a rule.

    dinotools davis --ckpt dino_vits16 --video clip.mp4 --mask first.png --out followed
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from dinotools.configs import files
from dinotools.configs.video import DavisConfig
from dinotools.data.masks import read_first_mask, write_mask
from dinotools.data.video import Video, open_video
from dinotools.data.video_writing import VideoWriter
from dinotools.evaluation.davis import protocol
from dinotools.evaluation.davis.frames import WorkingSize, first_labels
from dinotools.evaluation.davis.tracking import Tracker
from dinotools.reporting.overlay import overlay
from dinotools.runtime import device, run_directory
from dinotools.runtime.console import track, warn
from dinotools.runtime.errors import DinotoolsError, RunFailed, require
from dinotools.runtime.results import Result

MASKS, SOFT, OVERLAY = "masks", "soft", "overlay.mp4"
UNFINISHED = f".clip{run_directory.TEMPORARY}"  # folder of the masks until all are there
LATER = "Objects that the first mask lacks are not followed: what appears later counts as what it resembles most."


@dataclass(frozen=True)
class Followed:
    """A frame and where the objects are in it.

    Args:
        frame: RGB (H, W, 3) uint8.
        mask: (H, W) uint8.
        labels: soft labels of its patches (C, rows, columns) float32.
        repeated: whether all of that is of the frame before, since this one cannot be decoded.
    """

    frame: np.ndarray
    mask: np.ndarray
    labels: Tensor
    repeated: bool = False


@dataclass
class Seen:
    """What masks amount to, counted one after the other.

    Args:
        frames: how many there were.
        repeated: numbers of those that could not be decoded.
        first: pixels of every index in the first mask (256,).
        last: likewise in the last one.
        present: masks in which an index has a pixel (256,).
    """

    frames: int = 0
    repeated: list[int] = field(default_factory=list)
    first: np.ndarray = field(default_factory=lambda: np.zeros(256, int))
    last: np.ndarray = field(default_factory=lambda: np.zeros(256, int))
    present: np.ndarray = field(default_factory=lambda: np.zeros(256, int))

    def add(self, found: Followed) -> None:
        """Counts the next mask."""
        self.last = np.bincount(found.mask.ravel(), minlength=256)
        self.first = self.first if self.frames else self.last
        self.present += self.last > 0
        self.repeated += [self.frames] * found.repeated
        self.frames += 1

    def rows(self) -> list[dict[str, Any]]:
        """A row of the table for every object of the first mask."""
        percent = 100 / self.first.sum()
        return [
            {
                "object": int(i),
                "% of first frame": float(self.first[i] * percent),
                "% of last frame": float(self.last[i] * percent),
                "in frames": int(self.present[i]),
            }
            for i in self.first.nonzero()[0]
            if i
        ]


def run_clip(config: DavisConfig) -> Result:
    """Follows the objects of --mask through --video.

    Raises:
        DinotoolsError: video, mask, checkpoint or an option cannot be used, or a frame cannot be decoded.
        RunFailed: the network's features are not finite, or the disk is full.
    """
    protocol.check_numbers(config)
    video, mask = open_clip(config)
    runtime = device.prepare(config.device, config.precision, config.workers, config.seed)
    backbone, tracker = protocol.open_tracker(config, runtime)
    working_size = WorkingSize(config.short_side, config.multiple)
    inputs = (config.ckpt, config.video, config.mask)
    run_directory.claim(config.out, files.dump(config), overwrite=config.overwrite, inputs=inputs)

    followed = follow(video, mask, tracker, working_size, config.skip_bad_frames)
    seen = write(track(followed, video.path.name, total=video.n_frames), video, config.out, soft=config.soft)
    where = f"Masks are in {config.out / MASKS}; see {config.out / OVERLAY}."
    silent = ("The overlay has no sound.",) * video.has_audio
    return Result(
        title=f"{video.path.name} · {backbone.source} · {protocol.protocol_name(config)}",
        rows=seen.rows(),
        metrics={"frames": seen.frames, "repeated_frames": seen.repeated, "objects": seen.rows()},
        details={
            **protocol.describe(config, backbone, tracker, runtime),
            "data": {"size": [video.height, video.width], "fps": float(video.fps), "frames": seen.frames},
            **runtime.describe(),
        },
        notes=(where, *silent, LATER),
    )


def open_clip(config: DavisConfig) -> tuple[Video, np.ndarray]:
    """The video, and the mask (height, width) uint8 of its first frame.

    Raises:
        DinotoolsError: one of them is not named or cannot be used, or they do not belong together.
    """
    if config.video is None or config.mask is None:
        named = "--mask" if config.mask is None else "--video"
        raise DinotoolsError("is missing", named, "Give --video with the --mask of its first frame.")
    require(config.data is None, "was given beside --video", "data", "Give one of them.")
    video, marked = open_video(config.video), config.mask.expanduser()
    masks = sorted(marked.glob("[!.]*.png")) if marked.is_dir() else [marked]
    if not masks:
        raise DinotoolsError("holds no .png files", marked, "Give a mask, or a folder with one for each object.")
    return video, read_first_mask(masks, video.height, video.width)


def follow(
    video: Video, mask: np.ndarray, tracker: Tracker, working_size: WorkingSize, skip_bad: bool
) -> Iterator[Followed]:
    """Every frame with its mask, the first with the one that is given.

    Args:
        video: the frames.
        mask: (H, W) uint8, of the first.
        tracker: what follows the objects.
        working_size: at which frames reach it.
        skip_bad: repeat the frame before one that cannot be decoded, with its mask.

    Raises:
        DinotoolsError: a frame cannot be decoded, or no object has a patch.
        RunFailed: the network's features are not finite.
    """
    found = None
    for frame in video.frames(skip_bad):
        if frame is None:
            assert found is not None  # the first frame is good
            found = replace(found, repeated=True)
        else:
            pixels = working_size(Image.fromarray(frame))
            if found is None:
                found = Followed(frame, mask, start(pixels, mask, tracker))
            else:
                labels = tracker.step(pixels)
                found = Followed(frame, tracker.mask(labels), labels)
        yield found


def start(pixels: Tensor, mask: np.ndarray, tracker: Tracker) -> Tensor:
    """Begins with the first frame, and names objects that cannot be followed.

    Args:
        pixels: at working size (3, height, width) uint8.
        mask: (H, W) uint8.
        tracker: what follows the objects.

    Returns:
        Labels of its patches (C, rows, columns) float32, 0 or 1.

    Raises:
        DinotoolsError: no object has a patch.
    """
    tracker.start(pixels, mask)
    labels = first_labels(mask, *(side // tracker.patch_size for side in pixels.shape[1:]))
    kept = {number for number, patches in enumerate(labels) if patches.any()}
    objects = set(np.unique(mask).tolist()) - {0}
    lost = f"{len(objects - kept)} of {len(objects)} objects are too small to have a patch of their own"
    if not objects & kept:
        raise DinotoolsError(lost, "--mask", "Make --short-side larger, or take a network of smaller patches.")
    if objects - kept:
        warn(f"{lost} and are lost: {', '.join(map(str, sorted(objects - kept)))}")
    return labels


def write(followed: Iterable[Followed], video: Video, out: Path, *, soft: bool) -> Seen:
    """Writes masks/NNNNN.png, overlay.mp4 and, if asked, soft/NNNNN.npz: all frames or none.

    Args:
        followed: the frames.
        video: which they are of.
        out: folder for all that.
        soft: whether soft labels are written too.

    Raises:
        DinotoolsError: as from ``follow``, or something cannot be written.
        RunFailed: likewise.
    """
    seen, unfinished = Seen(), out / UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
    try:
        with VideoWriter(out / OVERLAY, video.fps, video.width, video.height) as film:
            for number, found in enumerate(followed):
                write_mask(unfinished / MASKS / f"{number:05}.png", found.mask)
                if soft:
                    write_labels(unfinished / SOFT / f"{number:05}.npz", found.labels)
                film.write(overlay(found.frame, found.mask))
                seen.add(found)
        for folder in unfinished.iterdir():
            folder.rename(out / folder.name)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return seen


def write_labels(path: Path, labels: Tensor) -> None:
    """Writes an .npz whose ``labels`` are the shares of every class in every patch, (C, rows, columns) float32.

    Class 0 is the background, i is object i; the shares of a patch sum to 1.

    Raises:
        RunFailed: it cannot be written.
    """

    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:  # NumPy would add an ending to a name
            np.savez_compressed(file, labels=labels.cpu().numpy())

    try:
        run_directory.write_atomically(path, save)
    except OSError as error:
        raise RunFailed(f"cannot be written ({error.strerror})", path, "Is the disk full?") from error
