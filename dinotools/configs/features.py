"""Options of `dinotools features`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from dinotools.configs.option import Opt
from dinotools.configs.shared import BackboneOptions, LabelledDataOptions, RuntimeOptions


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig(BackboneOptions, LabelledDataOptions, RuntimeOptions):
    """Extract frozen features once, into memory-mapped files that every other command reads with --features.

    A command that was killed goes on where it stopped when it is repeated.

    For example: dinotools features --ckpt dino_vits16 --data /datasets/imagenet --out features/vits16
    """

    out: Annotated[Path, Opt("folder for the features: one subfolder per split", "Output")]
    overwrite: Annotated[bool, Opt("replace features of other settings in --out", "Output")] = False
    dtype: Annotated[Literal["float32", "float16"], Opt("number type on disk", "Output")] = "float32"
    pooling: Annotated[
        str, Opt("cls, cls4 (last four blocks), avg, gem, rmac, or several joined by +, such as cls4+avg", "Features")
    ] = "cls"
    gpus: Annotated[int, Opt("processes of this machine that share the work", "Runtime")] = 1
