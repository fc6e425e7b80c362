"""Our numbers beside the paper's, as parts of the page: how many there are, and a table for each of its tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dinotools.reporting import html, paper
from dinotools.reproduction.comparison import Cell, Comparison, TableComparison, Verdict
from dinotools.reproduction.documents import main_numbers
from dinotools.reproduction.provenance import Entry
from dinotools.reproduction.training import without_empty_columns
from dinotools.reproduction.writing import written

SIGNS: dict[Verdict, str] = {  # what tells verdicts apart beside their colours
    "reproduced": "✓",
    "outside the tolerance": "✗",
    "other conditions": "≠",
    "no published number": "–",
}
NBSP = "\N{NO-BREAK SPACE}"  # before a unit
HEADLINES = 8  # numbers of a result that stands for no cell


def summary(comparison: Comparison) -> str:
    """How many of the paper's numbers there are here, and what became of them; HTML."""
    published = sum(len(row.values) for table in paper.tables().values() for row in table.rows)
    counts = Counter(cell.verdict for table in comparison.tables for cell in table.cells)
    tiles: dict[str, int] = {
        "numbers published": published,
        "measured here": sum(len(table.measured) for table in comparison.tables),
    }
    tiles |= {name: counts[name] for name in SIGNS if counts[name] or name != "no published number"}
    items = "".join(f"<div><dt>{name}</dt><dd>{number:,}</dd></div>" for name, number in tiles.items())
    rows = [
        {
            "table": html.Html(f'<a href="#{table.table.name}">{html.text(table.table.title)}</a>'),
            **{name: sum(cell.verdict == name for cell in table.cells) for name in (*SIGNS, "not measured")},
        }
        for table in comparison.tables
    ]
    text = (
        "A number under other conditions, such as fewer epochs or other data, neither confirms nor contradicts the "
        "paper's; each names what differs."
    )
    rows = without_empty_columns([{k: v or None for k, v in row.items()} for row in rows]) if rows else []
    notes = "".join(f"<p>{html.text(note)}</p>" for note in comparison.notes)
    listed = html.table(rows, "tables with numbers measured here", cards=True) if rows else ""
    return f'<dl class="tally">{items}</dl>\n<p>{text}</p>\n{listed}\n{notes}'


def section(table: TableComparison, entries: Mapping[Path, Entry]) -> str:
    """A table of the paper: numbers measured here, then, folded, those that were not; HTML.

    Args:
        table: with one number of ours at least.
        entries: results of the page by their files.
    """
    of = table.table
    where = f"Section {of.section}" if of.section[0].isdigit() else of.section.capitalize()
    remarks = " ".join([f"{where} of the paper.", *(of.note or "").split()])
    parts = [f"<p>{html.text(remarks)}</p>"]
    parts.append(html.table([_row(cell, entries) for cell in table.measured], of.title, cards=True))
    if missing := [cell for cell in table.cells if cell.ours is None]:
        words = "1 number is not measured" if len(missing) == 1 else f"{len(missing)} numbers are not measured"
        parts.append(html.details(f"{words} here", html.table(_published(missing), f"{of.title}, not measured")))
    parts.append(html.details("Where the tolerances come from", f"<p>{html.text(of.tolerance_source.strip())}</p>"))
    return "\n".join(parts)


def _row(cell: Cell, entries: Mapping[Path, Entry]) -> dict[str, Any]:
    unit = f"{NBSP}{cell.column.unit}" if cell.column.unit else ""
    entry = entries[cell.result.path] if cell.result else None
    ours = html.text(f"{written(cell.ours)}{unit}")
    difference = "" if cell.difference is None else f"{cell.difference:+,.2f}".replace("-", "\N{MINUS SIGN}")
    sign = SIGNS.get(cell.verdict, "")
    kind = cell.verdict.split()[0]
    return {
        "row": cell.row.label,
        "number": cell.column.name,
        "ours": html.Html(f'<a href="#{entry.anchor}">{ours}</a>' if entry else ours),
        "paper": "none" if cell.paper is None else f"{cell.paper:,g}{unit}",
        "difference": difference,
        "tolerance": f"±{NBSP}{cell.tolerance:,.3g}",
        "verdict": html.Html(f'<span class="verdict {kind}">{sign}{NBSP}{cell.verdict}</span>'),
        "conditions that differ": _conditions(cell.differing),
    }


def _conditions(differing: Sequence[str]) -> html.Html:
    """What differs; of much, the rest is folded."""
    shown, more = ("".join(f"<li>{html.text(each)}</li>" for each in part) for part in (differing[:3], differing[3:]))
    folded = html.details(f"{len(differing) - 3} more", f"<ul>{more}</ul>") if more else ""
    return html.Html(f'<div class="conditions"><ul>{shown}</ul>{folded}</div>' if shown else "none")


def _published(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """The paper's numbers, a row for each of its rows."""
    columns = list(dict.fromkeys(cell.column.name for cell in cells))
    rows = list(dict.fromkeys(cell.row.label for cell in cells))
    values = {(cell.row.label, cell.column.name): f"{cell.paper:,g}" for cell in cells if cell.paper is not None}
    return [{"the paper's": row, **{column: values.get((row, column), "") for column in columns}} for row in rows]


def others(entries: Sequence[Entry]) -> str:
    """Results that stand for no number of the paper, by their first numbers; HTML."""
    rows = [
        {
            "result": entry.link(),
            "of": entry.subject(),
            "numbers": "; ".join(f"{name.replace('_', ' ')} {written(value)}" for name, value in numbers.items()),
        }
        for entry in entries
        if (numbers := main_numbers(entry.found.document, HEADLINES))  # attention has pictures alone
    ]
    return html.table(rows, "results that stand for no number of the paper", cards=True) if rows else ""
