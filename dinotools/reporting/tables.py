"""Results as Rich tables."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dinotools.runtime.results import Result

SHORT = 20  # characters of a name that is not broken; where space lacks, headings are


def print_result(result: Result, console: Console) -> None:
    """Prints the table of a result under its title, and its notes."""
    console.print(result.title, style="bold", highlight=False, markup=False, soft_wrap=True)
    if result.rows:
        console.print(as_table(result))
    for note in result.notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)


def as_table(result: Result) -> Table:
    """The rows as a table; numbers stand to the right."""
    table = Table(header_style="bold")
    columns = list(dict.fromkeys(column for row in result.rows for column in row))
    for column in columns:
        numeric = all(isinstance(row.get(column), (int, float, type(None))) for row in result.rows)
        longest = max(len(cell(row.get(column))) for row in result.rows)
        table.add_column(
            column,
            justify="right" if numeric else "left",
            overflow="fold",
            no_wrap=longest <= SHORT and not numeric,
            min_width=longest if numeric else None,  # a number broken in two is another number
        )
    for row in result.rows:
        table.add_row(*(escape(cell(row.get(column))) for column in columns))
    return table


def cell(value: Any) -> str:
    """A value as a person reads it: percentages to two places, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) >= 0.01 or value == 0 else f"{value:.2g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
