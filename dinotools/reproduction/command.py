"""``dinotools report``: results beside the paper's numbers, and how pre-training went, as a page and as tables.

Everything is read from what commands left behind: results.json of any of them, log.jsonl and steps.jsonl of
`dinotools pretrain`. Nothing is measured.

    dinotools report results/ --out report
"""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dinotools.configs.report import ReportConfig
from dinotools.reproduction import curves, training, writing
from dinotools.reproduction.collecting import RESULTS, Collected, collect, read
from dinotools.reproduction.comparison import Cell, Comparison, TableComparison, compare
from dinotools.reproduction.page import write_page
from dinotools.runtime import run_directory
from dinotools.runtime.errors import DinotoolsError
from dinotools.runtime.results import Result
from dinotools.runtime.run_log import LOG

PAGE, MARKDOWN, CSV = "index.html", "report.md", "report.csv"
WIDTH = 80  # of a terminal, at least


def run(config: ReportConfig) -> Result:
    """Collects, compares, and writes page and tables.

    Raises:
        DinotoolsError: nothing is there to report; --out is a run or cannot be written.
    """
    collected = collect(config.sources)
    if not collected.results and not collected.runs:
        raise DinotoolsError(
            "no results.json and no run that has logged something",
            ", ".join(map(str, config.sources)),
            "Name what a command wrote to its --out.",
        )
    out = out_folder(config)
    for name in (PAGE, MARKDOWN, CSV):
        run_directory.check_writable(out / name, "--out")
    runs = training.read_runs(collected.runs)
    comparison = without_runs(compare(collected.results), collected)
    for name, text in ((MARKDOWN, writing.as_markdown(comparison)), (CSV, writing.as_csv(comparison))):
        content = text.encode("utf-8", "replace")  # names of files may hold bytes that are no text
        run_directory.write_atomically(out / name, lambda path, content=content: path.write_bytes(content))  # type: ignore[misc]
    write_page(out / PAGE, comparison, runs)
    curves.save_pictures(runs, out)
    return result_of(comparison, runs, out)


def out_folder(config: ReportConfig) -> Path:
    """Where the report goes.

    Raises:
        DinotoolsError: that is the folder of a run or of other results, which a report would overwrite.
    """
    first = config.sources[0].expanduser()
    out = config.out or (first if first.is_dir() else first.parent) / "report"
    if (out / LOG).exists():
        raise DinotoolsError("is a run directory", out, "Choose another --out.")
    if (out / RESULTS).is_file() and read(out / RESULTS) is not None:
        raise DinotoolsError("holds the results of another command", out, "Choose another --out.")
    return out


def without_runs(comparison: Comparison, collected: Collected) -> Comparison:
    """The comparison, but for results of pre-training whose runs are told of by themselves."""
    runs = {folder.resolve() for folder in collected.runs}
    others = tuple(found for found in comparison.others if found.folder.resolve() not in runs)
    return dataclasses.replace(comparison, others=others)


def result_of(comparison: Comparison, runs: list[training.Run], out: Path) -> Result:
    """The terminal's table, a row per number of ours; and for machines everything."""
    cells = [cell for table in comparison.tables for cell in table.measured]
    collapses = [f"{each.name}: {found.message}" for each in runs for found in each.collapses]
    trained = training.without_empty_columns([training.summary(each) for each in runs]) if runs else []
    rows = [as_row(cell) for cell in cells]
    verdicts = [cell.verdict for cell in cells]
    what = _count(runs, "run") if runs else _count(comparison.others, "result")
    counted = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))
    return Result(
        title=f"report · {_count(cells, 'number')} beside the paper: {counted}" if cells else f"report · {what}",
        rows=rows or trained or other_rows(comparison),
        metrics={
            "tables": {table.table.name: [described(cell) for cell in table.cells] for table in comparison.tables},
            "others": [
                writing.provenance(found) | {"metrics": found.document["metrics"]} for found in comparison.others
            ],
            "runs": {row["run"]: row for row in trained},
        },
        details={"runs": [str(each.folder) for each in runs], "collapses": collapses, "notes": list(comparison.notes)},
        notes=(*remarks(comparison, len(runs), bool(rows)), *collapses, f"Page: {out / PAGE}"),
    )


def described(cell: Cell) -> dict[str, Any]:
    """A cell for machines, with where its number comes from."""
    origin = None if cell.result is None else writing.provenance(cell.result)
    return writing.cell_values(cell) | {"conditions that differ": list(cell.differing), "provenance": origin}


def as_row(cell: Cell) -> dict[str, Any]:
    """A cell as a row of the terminal's table, which has few columns: a terminal may have no more than WIDTH."""
    tolerance = "" if cell.paper is None else f" ± {cell.tolerance:.3g}"
    return {
        "number": name_of(cell).replace("/", " ", 1),  # where it may be broken
        "ours": cell.ours,
        "paper": f"{writing.published(cell)}{tolerance}",
        "difference": cell.difference,
        "verdict": cell.verdict,
    }


def name_of(cell: Cell) -> str:
    """Its row, as --paper-row calls it, and its column."""
    return f"{cell.row.path} {cell.column.name}"


def conditions_of(table: TableComparison) -> list[str]:
    """Which conditions differ, in lines: first those that do for all measured cells of a table, then those of some."""
    where: dict[str, list[Cell]] = {}
    for cell in table.measured:
        for difference in cell.differing:
            where.setdefault(difference, []).append(cell)
    told: dict[str, list[str]] = {"all": []}
    for difference, cells in where.items():
        names = "all" if len(cells) == len(table.measured) > 1 else ", ".join(map(name_of, cells))
        told.setdefault(names, []).append(difference)
    return [f"{names}: {'; '.join(differences)}" for names, differences in told.items() if differences]


def other_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Results that stand for no row of the paper, with their main numbers."""
    return [
        {"result": str(found.path), "command": found.document["command"], "numbers": numbers}
        for found in comparison.others
        if (numbers := writing.numbers_of(found))
    ]


def remarks(comparison: Comparison, n_runs: int, compared: bool) -> list[str]:
    """What the terminal's table does not show: which conditions differ, what is missing, and everything else found."""
    told = []
    for table in comparison.tables:
        told.append(f"{table.table.title}: {len(table.measured)} of {len(table.cells)} numbers are there.")
        told += [_indented(line) for line in conditions_of(table)]
    if compared and comparison.others:
        told += ["Results that stand for no row of the paper:"]
        told += [_indented(f"{row['result']}: {row['numbers']}") for row in other_rows(comparison)]
    if compared and n_runs:
        told.append(f"Pre-training runs: {n_runs}, drawn on the page.")
    if comparison.notes:
        told += ["Of several results for one number:", *map(_indented, comparison.notes)]
    return told


def _count(things: Sequence[object], name: str) -> str:
    return f"{len(things)} {name}{'s' * (len(things) != 1)}"


def _indented(line: str) -> str:
    """A line of a list, broken between words."""
    return textwrap.fill(
        line,
        WIDTH - 1,
        initial_indent="  ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
