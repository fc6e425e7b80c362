"""Options of `dinotools doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from dinotools.configs.option import Opt


@dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """Say what this machine has: versions, devices, precisions, codecs, FAISS, disk, and what each extra would add."""

    results: Annotated[Path, Opt("folder whose disk is looked at, where results would go", "Runtime")] = Path()
