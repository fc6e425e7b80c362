"""Options of the commands for videos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from dinotools.configs.option import Opt
from dinotools.configs.shared import BackboneOptions, ComparisonOptions, ResultOptions, RuntimeOptions


@dataclass(frozen=True, kw_only=True)
class DavisConfig(BackboneOptions, RuntimeOptions, ComparisonOptions):
    """Follow the objects of a first mask through a video with frozen features: DAVIS-2017 (paper: Table 5), or yours.

    DAVIS is scored; if that was interrupted, it goes on where it stopped if it is repeated.

    What first appears later in a video is not followed.

    For example: dinotools davis --ckpt dino_vits16 --data /datasets/DAVIS --out davis
    Or: dinotools davis --ckpt dino_vits16 --video clip.mp4 --mask first.png --out followed
    """

    data: Annotated[Path | None, Opt("folder with ImageSets/2017, JPEGImages/480p and Annotations/480p", "Data")] = None
    split: Annotated[str, Opt("which list of ImageSets/2017", "Data")] = "val"
    video: Annotated[Path | None, Opt("a video, or a folder of its frames, in place of --data", "Video")] = None
    mask: Annotated[
        Path | None,
        Opt("objects of its first frame: a PNG that numbers them, or a folder with a PNG for each", "Video"),
    ] = None
    soft: Annotated[bool, Opt("also write the shares of every object in every patch, as NumPy arrays", "Video")] = False
    skip_bad_frames: Annotated[
        bool, Opt("repeat the frame before one that cannot be decoded, and its mask", "Video")
    ] = False
    short_side: Annotated[int, Opt("shorter side of a frame as the network sees it, in pixels", "Protocol")] = 480
    multiple: Annotated[int, Opt("the other side is rounded down to a multiple of this", "Protocol")] = 64
    n_last_frames: Annotated[int, Opt("previous frames to take labels from, beside the first", "Protocol")] = 7
    size_mask_neighborhood: Annotated[
        int, Opt("how far to look for similar patches, in patches to each side; 0: everywhere", "Protocol")
    ] = 12
    topk: Annotated[int, Opt("similar patches that a patch takes its label from", "Protocol")] = 5
    temperature: Annotated[float, Opt("of the softmax over their similarities", "Protocol")] = 0.1
    out: Annotated[Path, Opt("folder for the masks and results.json, and of a video overlay.mp4", "Output")]
    overwrite: Annotated[bool, Opt("replace a non-empty --out", "Output")] = False


@dataclass(frozen=True, kw_only=True)
class PcaVideoConfig(BackboneOptions, RuntimeOptions):
    """Show what looks alike to a ViT through a video: three principal components of its patches as colours.

    For example: dinotools pca-video clip.mp4 --ckpt dino_vits8 --beside --out pca
    """

    video: Annotated[Path, Opt("a video, or a folder of its frames", positional=True)]
    out: Annotated[Path, Opt("folder for pca.mp4 and results.json", "Output")]
    overwrite: Annotated[bool, Opt("replace a non-empty --out", "Output")] = False
    beside: Annotated[bool, Opt("show every frame beside its colours", "Output")] = False
    imsize: Annotated[
        int | None, Opt("longer side after resizing, in pixels; the default is a frame's own, up to 1,920", "Protocol")
    ] = None
    skip_bad_frames: Annotated[bool, Opt("repeat the frame before one that cannot be decoded", "Data")] = False


@dataclass(frozen=True, kw_only=True)
class DavisScoreConfig(ResultOptions):
    """Score masks of anybody's making as DAVIS-2017 does, semi-supervised: region similarity J, contour accuracy F.

    For example: dinotools davis-score masks --data /datasets/DAVIS
    """

    predictions: Annotated[Path, Opt("folder of masks, SEQUENCE/NNNNN.png, indexed PNGs", positional=True)]
    data: Annotated[Path, Opt("folder with ImageSets/2017 and Annotations/480p", "Data")]
    split: Annotated[str, Opt("which list of ImageSets/2017", "Data")] = "val"
