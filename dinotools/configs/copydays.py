"""Options of copy detection."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from dinotools.configs.option import Opt
from dinotools.configs.shared import DescriptorOptions, ResultOptions, RuntimeOptions


@dataclass(frozen=True, kw_only=True)
class CopydaysConfig(DescriptorOptions, RuntimeOptions, ResultOptions):
    """Find the originals of attacked copies among distractors, on Copydays or a set like it (paper: Table 4).

    For example: dinotools copydays --ckpt dino_vitb8 --data /datasets/copydays --distractors yfcc10k --whiten yfcc20k
    """

    data: Annotated[Path, Opt("folder with original/, strong/ and perhaps jpegqual/ and crops/", "Data")]
    distractors: Annotated[
        Path | None, Opt("images to search among as well: a folder, one of --cache, or a .npy file", "Data")
    ] = None
    whiten: Annotated[
        Path | None, Opt("images to learn a whitening from, given likewise; neither those nor these", "Data")
    ] = None
    imsize: Annotated[int, Opt("side of the square that every image is resized to (bicubic)", "Protocol")] = 320
    pooling: Annotated[
        str, Opt("cls, avg, gem, rmac, or several joined by +, such as the paper's cls+gem", "Protocol")
    ] = "cls+gem"
    covariance: Annotated[
        Literal["official", "centred"],
        Opt("for --whiten: of features as they are (official), or of their differences from the mean", "Protocol"),
    ] = "official"


@dataclass(frozen=True, kw_only=True)
class CopydaysMakeConfig:
    """Make a copy-detection set in the layout of Copydays: originals, crops, JPEG copies and strong attacks.

    For example: dinotools copydays-make --images photos --out photos-attacked
    """

    images: Annotated[Path, Opt("folder of photographs, searched with its subfolders", "Data")]
    originals: Annotated[int, Opt("photographs to draw from it; of few, nine in ten", "Data")] = 157
    strong: Annotated[int, Opt("strong attacks of each; their kinds take turns", "Data")] = 2
    max_bad: Annotated[float, Opt("share of unreadable images to skip before giving up", "Data")] = 0.01
    seed: Annotated[int, Opt("seed of every random number", "Runtime")] = 0
    out: Annotated[Path, Opt("folder for the set", "Output")]
    overwrite: Annotated[bool, Opt("replace a non-empty --out", "Output")] = False
