"""A comparison as Markdown for people and as CSV for programs, with where every number comes from."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from dinotools.reporting.paper import PaperTable
from dinotools.reproduction.collecting import Found
from dinotools.reproduction.comparison import Cell, Comparison
from dinotools.reproduction.documents import lookup, main_numbers
from dinotools.runtime.results import LIBRARIES, versions

NONE = "–"
PROVENANCE = (
    *("path", "date", "command", "checkpoint", "checkpoint sha256", "device", "precision", "seed", "wall time s"),
    *("dinotools", *LIBRARIES),
)
HEADINGS = ("row", "column", "ours", "paper", "difference", "tolerance", "unit", "verdict", "conditions that differ")


def provenance(found: Found) -> dict[str, Any]:
    """Where a number comes from: file, date (UTC), checkpoint, device and versions; None for what nobody wrote down."""
    paths = {
        "command": "command",
        "checkpoint": "details.checkpoint.source",
        "checkpoint sha256": "details.checkpoint.sha256",
        "device": "details.device_name",
        "precision": "details.precision",
        "seed": "config.seed",
        "wall time s": "wall_time_s",
    } | {name: f"versions.{name}" for name in ("dinotools", *LIBRARIES)}
    date = datetime.fromtimestamp(found.written, timezone.utc).isoformat(timespec="seconds")
    told = {name: lookup(found.document, path) for name, path in paths.items()}
    return {"path": str(found.path), "date": date, **told}


def as_csv(comparison: Comparison) -> str:
    """One line per cell, measured or not, then one per main number of each result that stands for none."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ["table", *HEADINGS, *PROVENANCE], lineterminator="\n")
    writer.writeheader()
    for table in comparison.tables:
        for cell in table.cells:
            origin = {} if cell.result is None else provenance(cell.result)
            writer.writerow({"table": table.table.name, **cell_values(cell)} | origin)
    for found in comparison.others:
        for name, value in main_numbers(found.document).items():
            writer.writerow({"column": name, "ours": value} | provenance(found))
    return text.getvalue()


def cell_values(cell: Cell) -> dict[str, Any]:
    """A cell by HEADINGS, numbers as numbers."""
    return {
        "row": cell.row.name,
        "column": cell.column.name,
        "ours": cell.ours,
        "paper": cell.paper,
        "difference": cell.difference,
        "tolerance": cell.tolerance,
        "unit": cell.column.unit,
        "verdict": cell.verdict,
        "conditions that differ": "; ".join(cell.differing),
    }


def as_markdown(comparison: Comparison) -> str:
    """A part per table, then the results that stand for no cell, then where every number comes from."""
    lines = ["# Results beside the paper's", ""]
    sources = _sources(comparison)
    for table in comparison.tables:
        lines += [f"## {table.table.title}", "", *_remarks(table.table), ""]
        rows = [_cell_row(cell, sources) for cell in table.cells]
        lines += _grid((*HEADINGS[:6], "verdict", "conditions that differ", "result"), rows)
    if comparison.others:
        lines += ["## Results that stand for no row of the paper", ""]
        others = [
            [_number(sources, found), found.document["command"], said]
            for found in comparison.others
            if (said := numbers_of(found))  # pictures have none
        ]
        lines += _grid(("result", "command", "numbers"), others)
    lines += [f"- {note}" for note in comparison.notes] + [""] * bool(comparison.notes)
    lines += ["## Where the numbers come from", ""]
    origins = [[str(i), *map(_text, provenance(found).values())] for i, found in enumerate(sources, start=1)]
    lines += _grid(("result", *PROVENANCE), origins)
    lines.append(f"Compared by dinotools {versions()['dinotools']}.")
    return "\n".join(lines) + "\n"


def _sources(comparison: Comparison) -> list[Found]:
    """Every result that is shown, once, in the order of appearance."""
    shown = [cell.result for table in comparison.tables for cell in table.measured if cell.result is not None]
    unique = {found.path: found for found in (*shown, *comparison.others)}
    return list(unique.values())


def _remarks(table: PaperTable) -> Iterator[str]:
    yield f"Where in the paper: {table.section}. Tolerance: {table.tolerance_source.strip()}"
    if table.note:
        yield ""
        yield table.note.strip()
    for row in table.rows:
        told = [*([f"numbers of the {row.source}"] if row.source else []), *([row.note.strip()] if row.note else [])]
        if told:
            yield ""
            yield f"{row.name}: {' '.join(told)}"


def _cell_row(cell: Cell, sources: list[Found]) -> list[str]:
    values = cell_values(cell)
    difference = NONE if cell.difference is None else f"{cell.difference:+,.2f}"
    numbers = [written(cell.ours), published(cell), difference, f"{cell.tolerance:g}"]
    result = "" if cell.result is None else _number(sources, cell.result)
    return [cell.row.label, cell.column.name, *numbers, cell.verdict, values["conditions that differ"], result]


def _number(sources: list[Found], found: Found) -> str:
    return str(1 + [each.path for each in sources].index(found.path))


def written(value: float | None) -> str:
    """A number as people read it: two places, of whole or large ones none."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.2f}"


def published(cell: Cell) -> str:
    """The paper's number, as it was printed."""
    return NONE if cell.paper is None else f"{cell.paper:,}"


def numbers_of(found: Found) -> str:
    """The main numbers of a result in one line."""
    return ", ".join(f"{name} {written(value)}" for name, value in main_numbers(found.document).items())


def _text(value: Any) -> str:
    return NONE if value is None else str(value)


def _grid(headings: tuple[str, ...], rows: list[list[str]]) -> list[str]:
    """A Markdown table; what would end a cell or begin markup in it is escaped."""
    lines = [list(headings), ["---"] * len(headings), *([_escaped(cell) for cell in row] for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]


def _escaped(text: str) -> str:
    for sign in "\\|*_`<[":
        text = text.replace(sign, "\\" + sign)
    return " ".join(text.split())
