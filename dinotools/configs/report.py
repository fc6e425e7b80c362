"""Options of the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from dinotools.configs.option import Opt


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Set results beside the paper's, and draw how pre-training went: one page, tables as Markdown and CSV.

    Folders are searched for results.json and for runs.

    A number is called reproduced only if it is within the tolerance and no condition differs.

    For example: dinotools report results/ --out report
    """

    sources: Annotated[
        tuple[Path, ...], Opt("run directories, results.json files, or folders of either", positional=True)
    ]
    out: Annotated[
        Path | None,
        Opt("folder for index.html, report.md, report.csv, curves as PNG; default: report/ in the first", "Output"),
    ] = None
