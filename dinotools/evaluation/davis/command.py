"""Video object segmentation on DAVIS-2017 with frozen features: labels spread from frame to frame, nothing is trained.

Frames 480 high reach the network in float32; every patch takes the weighted labels of the 5 most similar patches within
12 patches in the first and the 7 previous frames; soft labels, enlarged and stretched, become masks at full size.
Paper: section 4.2.2, Table 5; official file ``eval_video_segmentation.py``, its numbers are ``dino-v1`` here. J&F of
DINO ViT-S/16 61.8, ViT-B/16 62.3, ViT-S/8 69.9, ViT-B/8 71.4.

    dinotools davis --ckpt dino_vits16 --data /datasets/DAVIS --out davis
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from dinotools.configs import files
from dinotools.configs.video import DavisConfig
from dinotools.data.images import ImageFiles, UnreadableImage, decode
from dinotools.data.masks import read_first_mask, write_mask
from dinotools.data.transforms import EvalImages, EvalSample
from dinotools.evaluation.davis import clip, protocol, scoring
from dinotools.evaluation.davis.frames import WorkingSize
from dinotools.evaluation.davis.layout import ANNOTATIONS, FRAMES, find_files, read_split
from dinotools.evaluation.davis.tracking import Tracker
from dinotools.models.checkpoints import LoadedBackbone
from dinotools.reporting import paper
from dinotools.runtime import device, run_directory
from dinotools.runtime.console import say, track, warn
from dinotools.runtime.errors import DinotoolsError, require
from dinotools.runtime.results import Result

PAPER_OBJECTS = 61  # of DAVIS-2017 val
MASKS = "masks"  # folder of the masks in --out
MADE_OF = "masks.json"  # what they depend on: only the same command goes on with them
UNFINISHED = run_directory.TEMPORARY  # ends the name of a sequence's folder until it is whole


@dataclass(frozen=True)
class Video:
    """A sequence of DAVIS.

    Args:
        name: of its folder.
        frames: files, in order.
        annotation: the mask of the first frame.
    """

    name: str
    frames: tuple[Path, ...]
    annotation: Path


def run(config: DavisConfig) -> Result:
    """Labels every sequence that has no masks in --out yet, and scores all; with ``--video`` one's own.

    Raises:
        DinotoolsError: the data set, the checkpoint or an option cannot be used; a frame cannot be read.
        RunFailed: the network's features are not finite.
    """
    if config.video is not None:
        return clip.run_clip(config)
    for name in ("mask", "soft", "skip_bad_frames"):
        require(not getattr(config, name), "was given without --video", name, "Leave it out, or give --video.")
    if config.data is None:
        raise DinotoolsError("nothing to follow objects through", "--data", "Give --data, or --video and --mask.")
    protocol.check_numbers(config)
    runtime = device.prepare(config.device, config.precision, config.workers, config.seed)
    data = config.data.expanduser()
    videos, unscored = open_videos(data, config.split)
    backbone, tracker = protocol.open_tracker(config, runtime)
    made_of = protocol.describe(config, backbone, tracker, runtime)
    seed = config.seed if backbone.sha256 is None else None
    folder = claim(config, made_of | {"data": str(data.resolve()), "seed": seed})
    left = [video for video in videos if not (folder / video.name).is_dir()]
    if len(left) < len(videos):
        say(f"{folder}: {len(videos) - len(left)} of {len(videos)} sequences have their masks already")
    write_masks(left, tracker, WorkingSize(config.short_side, config.multiple), folder, runtime.workers)

    details = made_of | runtime.describe()
    title = f"DAVIS-2017 {config.split} · {backbone.source} · {protocol.protocol_name(config)} · percent"
    if unscored:
        note = f"Masks are in {folder}. They are not scored: {unscored[0]} has fewer than {scoring.LEAST} annotations."
        rows = [{"sequence": video.name, "frames": len(video.frames)} for video in videos]
        return Result(title, rows, details=details, notes=(note,))
    masks = scoring.find_masks(folder, data, config.split)
    metrics = scoring.in_percent(scoring.score_masks(masks))
    counts = scoring.describe(masks, metrics)
    rows = scoring.as_rows(metrics)
    if published := papers_means(config, backbone, counts["objects"]):
        rows.insert(1, {"sequence": "paper", **published})
    return Result(title, rows, metrics, details | {"data": counts}, (f"Masks are in {folder}.",))


def open_videos(data: Path, split: str) -> tuple[list[Video], list[str]]:
    """The sequences of a split.

    Returns:
        The sequences, and the names of those with too few annotations to be scored.

    Raises:
        DinotoolsError: a sequence has no frames or annotations, or a frame is missing that is annotated.
    """
    names = read_split(data, split)
    frames, annotations = find_files(data, FRAMES, names), find_files(data, ANNOTATIONS, names)
    for name in names:
        if annotations[name][0].stem != frames[name][0].stem:
            raise DinotoolsError(f"the first frame has no annotation {frames[name][0].stem}.png", annotations[name][0])
        lost = {path.stem for path in annotations[name]} - {path.stem for path in frames[name]}
        if lost:
            raise DinotoolsError(f"frame {min(lost)}.jpg is annotated and not there", data / FRAMES / name)
    videos = [Video(name, tuple(frames[name]), annotations[name][0]) for name in names]
    return videos, [name for name in names if len(annotations[name]) < scoring.LEAST]


def claim(config: DavisConfig, made_of: dict[str, Any]) -> Path:
    """The folder of the masks: a new one, or that of the same command which was interrupted.

    Raises:
        DinotoolsError: --out holds something else, or cannot be written.
    """
    stored = config.out / MADE_OF
    made_of = json.loads(json.dumps(made_of))  # tuples are lists there
    if stored.is_file() and not config.overwrite:
        try:
            same = json.loads(stored.read_text(encoding="utf-8")) == made_of
        except (OSError, ValueError):
            same = False
        if not same:
            remedy = "Choose another --out, or add --overwrite to replace it."
            raise DinotoolsError("holds masks of another data set or network, or of other settings", config.out, remedy)
    else:
        inputs = (config.ckpt, config.data)
        run_directory.claim(config.out, files.dump(config), overwrite=config.overwrite, inputs=inputs)
        run_directory.write_json(stored, made_of)
    return config.out / MASKS


def write_masks(
    videos: Sequence[Video], tracker: Tracker, working_size: WorkingSize, folder: Path, workers: int
) -> None:
    """Writes FOLDER/NAME/FRAME.png for every frame of every video; a video's folder is there once it is whole.

    Raises:
        DinotoolsError: a frame or a first mask cannot be used, or a mask cannot be written.
        RunFailed: the network's features are not finite.
    """
    frames = ImageFiles([str(path) for video in videos for path in video.frames])
    loader = DataLoader(
        EvalImages(frames, working_size, least=tracker.patch_size),
        batch_size=None,
        num_workers=workers,
        generator=torch.Generator(),
    )
    pixels = readable(track(loader, "Propagating", total=len(frames)))
    for video in videos:
        unfinished = folder / f".{video.name}{UNFINISHED}"
        try:
            for path, mask in follow(video, tracker, pixels):
                write_mask(unfinished / f"{path.stem}.png", mask)
            unfinished.rename(folder / video.name)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def follow(video: Video, tracker: Tracker, pixels: Iterator[Tensor]) -> Iterator[tuple[Path, np.ndarray]]:
    """Every frame of a video with its mask (H, W) uint8, the first with the one that is given.

    Args:
        video: the video.
        tracker: what follows its objects.
        pixels: from which its frames are taken, as many as it has.

    Raises:
        DinotoolsError: the first mask cannot be used, or frames differ in size.
    """
    first = next(pixels)
    width, height = decode(video.frames[0]).size
    mask = read_first_mask([video.annotation], height, width)
    n_classes = tracker.start(first, mask)
    if n_classes <= mask.max():
        lost = f"{n_classes} to {mask.max()}" if n_classes < mask.max() else str(n_classes)
        warn(f"{video.annotation}: object {lost} has no patch of its own and is lost, as officially")
    yield video.frames[0], mask
    for path in video.frames[1:]:
        frame = next(pixels)
        if frame.shape != first.shape:
            raise DinotoolsError(f"has another size than {video.frames[0].name}", path, "Give frames of one size.")
        yield path, tracker.mask(tracker.step(frame))


def readable(samples: Iterator[EvalSample | UnreadableImage]) -> Iterator[Tensor]:
    """The pixels of frames, (3, height, width) uint8.

    Raises:
        DinotoolsError: one cannot be read.
    """
    for sample in samples:
        if isinstance(sample, UnreadableImage):
            raise DinotoolsError(f"cannot be read ({sample.reason})", sample.path, "Unpack the data set again.")
        yield sample.image


def papers_means(config: DavisConfig, backbone: LoadedBackbone, n_objects: int) -> dict[str, float]:
    """The paper's J&F, J and F in percent, as columns, where network, protocol and data are those of the paper."""
    same = protocol.protocol_name(config) == "dino-v1" and config.split == "val" and n_objects == PAPER_OBJECTS
    published = {name: paper.tables()["table5"].published(backbone.source, name) for name in ("J&F", "J", "F")}
    return {f"{name} Mean": value for name, value in published.items() if same and value is not None}
