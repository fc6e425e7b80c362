"""Options of the commands for videos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from dinotools.configs.option import Opt
from dinotools.configs.shared import ResultOptions


@dataclass(frozen=True, kw_only=True)
class DavisScoreConfig(ResultOptions):
    """Score masks of anybody's making as DAVIS-2017 does, semi-supervised: region similarity J, contour accuracy F.

    For example: dinotools davis-score masks --data /datasets/DAVIS
    """

    predictions: Annotated[Path, Opt("folder of masks, SEQUENCE/NNNNN.png, indexed PNGs", positional=True)]
    data: Annotated[Path, Opt("folder with ImageSets/2017 and Annotations/480p", "Data")]
    split: Annotated[str, Opt("which list of ImageSets/2017", "Data")] = "val"
