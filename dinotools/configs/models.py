"""Commands that look at networks and their files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from dinotools.configs.option import Opt


@dataclass(frozen=True, kw_only=True)
class ListConfig:
    """List the networks that --ckpt knows by name, with the paper's ImageNet numbers."""


@dataclass(frozen=True, kw_only=True)
class InfoConfig:
    """Say what a checkpoint holds: kind of file, architecture, patch size, keys, sha256."""

    ckpt: Annotated[str, Opt("a run directory, a checkpoint file or a name of `models list`", positional=True)]
