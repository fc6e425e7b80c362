"""Options of the report on pre-training runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from dinotools.configs.option import Opt


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Draw how pre-training runs went, or are going: loss, entropy and KL, k-NN, schedules; several are compared.

    For example: dinotools report runs/momentum runs/student-copy --out fig6
    """

    runs: Annotated[tuple[Path, ...], Opt("run directories of `dinotools pretrain`", positional=True)]
    out: Annotated[
        Path | None, Opt("folder for index.html and the pictures; default: report/ in the first run", "Output")
    ] = None
