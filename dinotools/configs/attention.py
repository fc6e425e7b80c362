"""Options of the commands that look at attention."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from dinotools.configs.option import Opt
from dinotools.configs.shared import BackboneOptions, ResultOptions, RuntimeOptions

Fit = Literal["crop", "pad", "resize"]


@dataclass(frozen=True, kw_only=True)
class AttentionConfig(BackboneOptions, RuntimeOptions):
    """Draw where the [CLS] token of a ViT looks, head by head, in images and videos.

    For example: dinotools attention photo.jpg holidays/ clip.mp4 --ckpt dino_vits8 --out attention
    """

    inputs: Annotated[
        tuple[str, ...], Opt("images, folders of images, videos; photos are three that come along", positional=True)
    ]
    out: Annotated[Path, Opt("folder for the pictures and the numbers", "Output")]
    overwrite: Annotated[bool, Opt("replace a non-empty --out", "Output")] = False
    format: Annotated[
        Literal["pictures", "npz"], Opt("PNG and MP4, or the numbers of every patch as NumPy arrays", "Output")
    ] = "pictures"
    smooth: Annotated[bool, Opt("interpolate between patches rather than show them as they are", "Output")] = False
    fps: Annotated[float | None, Opt("frames a second of a video, in place of its own", "Output")] = None
    head: Annotated[int | None, Opt("of a video: this head, from 1, rather than the mean of all", "Output")] = None
    threshold: Annotated[float, Opt("share of the attention that the masks keep", "Protocol")] = 0.6
    imsize: Annotated[
        int | None, Opt("longer side after resizing, in pixels; the default is an image's own, up to 1,920", "Protocol")
    ] = None
    fit: Annotated[
        Fit, Opt("what makes whole patches: resize by up to half a patch, pad, or crop (the official way)", "Protocol")
    ] = "resize"
    max_bad: Annotated[float, Opt("share of unreadable images to skip before giving up", "Data")] = 0.01
    skip_bad_frames: Annotated[bool, Opt("repeat the frame before one that cannot be decoded", "Data")] = False


@dataclass(frozen=True, kw_only=True)
class JaccardConfig(ResultOptions, BackboneOptions, RuntimeOptions):
    """Compare the attention of the best head with the masks of objects (PASCAL VOC 2012).

    For example: dinotools jaccard --ckpt dino_vits16 --data /datasets/VOCdevkit/VOC2012
    """

    data: Annotated[Path, Opt("folder with JPEGImages, SegmentationObject or SegmentationClass, and ImageSets", "Data")]
    split: Annotated[str, Opt("which list of ImageSets/Segmentation", "Data")] = "val"
    masks: Annotated[
        Literal["auto", "objects", "classes"],
        Opt("every object by itself, or all of a class as one; auto is objects where the data have them", "Protocol"),
    ] = "auto"
    threshold: Annotated[
        tuple[float, ...],
        Opt("shares of the attention that the masks keep; Fig. 4 says 0.6, appendix D 0.8", "Protocol"),
    ] = (0.6, 0.8)
    imsize: Annotated[
        int | None, Opt("longer side after resizing, in pixels; the default is an image's own", "Protocol")
    ] = None
    fit: Annotated[
        Fit, Opt("what makes whole patches: resize by up to half a patch, pad, or crop (the official way)", "Protocol")
    ] = "resize"
