"""The paper's published numbers: one TOML file per table, here beside its reader.

Source: Caron et al. 2021, arXiv 2104.14294, and where a row says so the README of its official implementation. Values
stand as they were printed.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from dinotools.runtime.errors import DinotoolsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table, and where results.json has its number.

    Paths are dotted and begin at the document's root but for ``metric``. ``reproduction.documents`` says how they are
    compared with what they should be.

    Args:
        name: heading, as in the paper.
        unit: of the values.
        command: whose results it is read from, such as ``knn``; None where no command measures it.
        metric: path in their metrics; one that begins with a dot, at the root. Several are joined by ``|``.
        factor: what the measured number is multiplied with to have the unit.
        tolerance: how far a reproduction may lie from the value; the table says why.
        retrained: the same for a network trained anew, where the row's is a released one.
        relative: whether these are shares of the value rather than in its unit.
        where: path -> value: only results that have it are read.
        data_set: name of the data set in data_manifests/, where a table has columns of several.
        data: path -> value: which data set it is; of a result that names its row, these are conditions.
        conditions: path -> value: what else makes the numbers comparable. A difference is told, and no number with one
            counts as reproduced.
    """

    name: str
    unit: str
    tolerance: float
    command: str | None = None
    metric: str = ""
    factor: float = 1.0
    retrained: float | None = None
    relative: bool = False
    where: Mapping[str, Any] = field(default_factory=dict)
    data_set: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    conditions: Mapping[str, Any] = field(default_factory=dict)

    def tolerance_of(self, value: float, *, retrained: bool) -> float:
        """How far from a published value a number may lie, in the column's unit."""
        tolerance = self.retrained if retrained and self.retrained is not None else self.tolerance
        return abs(value) * tolerance if self.relative else tolerance


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table.

    Args:
        table: name of the table.
        name: of the row; --paper-row is ``TABLE/NAME``.
        label: what the paper calls it.
        values: name of a column -> published number, as printed. A row may lack some, or all: a figure's points.
        released: network of ``models list`` whose results stand for the row without --paper-row.
        same_as: path of the row, of this table or another, that is the same run: results of one stand for both. Of
            several, all but one name that one.
        source: of the values, where it is not the paper.
        note: what is not published of its settings.
        conditions: as of a column.
        training: option of ``pretrain`` -> value, compared unless the network is the released one.
    """

    table: str
    name: str
    label: str
    values: Mapping[str, float] = field(default_factory=dict)
    released: str | None = None
    same_as: str | None = None
    source: str | None = None
    note: str | None = None
    conditions: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """What --paper-row calls it."""
        return f"{self.table}/{self.name}"

    @property
    def run(self) -> str:
        """Path of the row that stands for all that are the same run."""
        return self.same_as or self.path


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """A table or figure of the paper.

    Args:
        name: of its file, such as ``table3``.
        title: what it is.
        section: of the paper.
        tolerance_source: why the tolerances are what they are.
        columns: its columns.
        rows: its rows.
        note: what to know of the published numbers.
        conditions: of every cell, as of a column.
        training: of every row, as of a row; the row's own win.
    """

    name: str
    title: str
    section: str
    tolerance_source: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str | None = None
    conditions: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    def published(self, network: str, column: str) -> float | None:
        """The number of a released network; None where there is none."""
        return next((each.values.get(column) for each in self.rows if each.released == network), None)


@cache
def tables() -> dict[str, PaperTable]:
    """All tables by name, in the paper's order."""
    found = [_read(path) for path in FOLDER.glob("*.toml")]
    return {table.name: table for table in sorted(found, key=_order)}


@cache
def rows() -> dict[str, Row]:
    """The rows of all tables by path."""
    return {row.path: row for table in tables().values() for row in table.rows}


def row(path: str) -> Row:
    """The row that ``TABLE/ROW`` names.

    Raises:
        DinotoolsError: there is no such table or row.
    """
    if path in rows():
        return rows()[path]
    name = path.partition("/")[0]
    if name in tables():
        remedy = f"{name} has {', '.join(each.name for each in tables()[name].rows)}."
    else:
        close = difflib.get_close_matches(path, rows(), n=3)
        remedy = f"Did you mean {' or '.join(close)}?" if close else f"There are tables {', '.join(tables())}."
    raise DinotoolsError(f"the paper's tables have no row {path!r}", "--paper-row", remedy)


def _read(path: Path) -> PaperTable:
    text = tomllib.loads(path.read_text(encoding="utf-8"))
    columns = tuple(Column(**values) for values in text.pop("columns"))
    found = tuple(Row(table=path.stem, **values) for values in text.pop("rows"))
    return PaperTable(name=path.stem, columns=columns, rows=found, **text)


def _order(table: PaperTable) -> tuple[int, int, str]:
    """Tables by number, figures by number, then what has none."""
    kind = next((i for i, start in enumerate(("table", "fig")) if table.name.startswith(start)), 2)
    digits = "".join(c for c in table.name if c.isdigit())
    return kind, int(digits or 0), table.name
