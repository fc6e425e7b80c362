"""Options of the demonstration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from dinotools.configs.option import Opt
from dinotools.configs.shared import RuntimeOptions


@dataclass(frozen=True, kw_only=True)
class DemoConfig(RuntimeOptions):
    """Pre-train a very small ViT on embedded data, measure it and look at it: offline, a few minutes on two cores."""

    out: Annotated[Path, Opt("directory for the run, its pictures and index.html", "Output")] = Path("demo")
    overwrite: Annotated[bool, Opt("replace a non-empty --out", "Output")] = False
