"""Commands that look at networks and their files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from dinotools.configs.option import Opt
from dinotools.configs.shared import BackboneOptions, ResultOptions, RuntimeOptions


@dataclass(frozen=True, kw_only=True)
class ListConfig:
    """List the networks that --ckpt knows by name, with the paper's ImageNet numbers."""


@dataclass(frozen=True, kw_only=True)
class InfoConfig:
    """Say what a checkpoint holds: kind of file, architecture, patch size, keys, sha256."""

    ckpt: Annotated[str, Opt("a run directory, a checkpoint file or a name of `models list`", positional=True)]


@dataclass(frozen=True, kw_only=True)
class ThroughputConfig(BackboneOptions, RuntimeOptions, ResultOptions):
    """Measure how many images a second a network takes in, and count its parameters and tokens (paper: Table 1).

    For example: dinotools models throughput --ckpt dino_vits16 --batch-size 128
    """

    batch_size: Annotated[int, Opt("images per forward pass", "Protocol")] = 128
    size: Annotated[int, Opt("side of the images, in pixels", "Protocol")] = 224
    seconds: Annotated[float, Opt("how long to measure, after a warm-up", "Protocol")] = 10.0
