"""Results beside the paper's numbers: which cell of which table each stands for, and whether it may be compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dinotools.reporting import paper
from dinotools.reporting.paper import Column, PaperTable, Row
from dinotools.reproduction.collecting import Found
from dinotools.reproduction.documents import differences, is_of, lookup, matches, names_data, number_at

Verdict = Literal["reproduced", "outside the tolerance", "other conditions", "no published number", "not measured"]
UNTRAINED = ("models throughput",)  # commands to which it is all the same how a network was trained
ANY_PRECISION = ("pretrain", "finetune", *UNTRAINED)  # the paper does not tell theirs; all else is measured in fp32
TEACHER = {"details.checkpoint.key": "!student"}  # the paper measures teachers
FP32 = {"details.precision": "fp32", "details.features.precision": "!*16", "details.features.dtype": "!*16"}


@dataclass(frozen=True)
class Cell:
    """A number of ours beside a published one.

    Args:
        row: of the paper's table.
        column: of the paper's table.
        ours: what was measured, in the column's unit; None where nothing was.
        paper: as published; None where there is no number, as of points that are only drawn.
        tolerance: how far apart they may lie, in the column's unit.
        differing: conditions in which the result is not like the paper's, in words.
        result: what it was read from.
    """

    row: Row
    column: Column
    ours: float | None
    paper: float | None
    tolerance: float
    differing: tuple[str, ...]
    result: Found | None

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's; None without either."""
        return None if self.ours is None or self.paper is None else self.ours - self.paper

    @property
    def verdict(self) -> Verdict:
        """What may be said of it: a number of other conditions is never called reproduced."""
        if self.ours is None:
            return "not measured"
        if self.differing:
            return "other conditions"
        if self.difference is None:
            return "no published number"
        # 68.3 and 69.3 are 1.0 apart for everyone but a computer
        return "reproduced" if abs(self.difference) <= self.tolerance + 1e-9 else "outside the tolerance"


@dataclass(frozen=True)
class TableComparison:
    """A table of the paper, and all its cells that have a number, published or ours, row by row."""

    table: PaperTable
    cells: tuple[Cell, ...]

    @property
    def measured(self) -> tuple[Cell, ...]:
        """Those with a number of ours."""
        return tuple(cell for cell in self.cells if cell.ours is not None)


@dataclass(frozen=True)
class Comparison:
    """Everything that was found.

    Args:
        tables: of which at least one cell has a number of ours, in the paper's order.
        others: results that stand for no cell.
        notes: what was left out, in sentences.
    """

    tables: tuple[TableComparison, ...]
    others: tuple[Found, ...]
    notes: tuple[str, ...] = ()


def compare(results: Sequence[Found]) -> Comparison:
    """Puts every result into the cells that it stands for.

    Args:
        results: oldest first; of several for one cell that is taken in which the fewest conditions differ, of those
            the latest, and the notes tell.
    """
    candidates: dict[tuple[str, str], list[Cell]] = {}
    others = []
    for result in results:
        found = list(cells_of(result))
        if not found:
            others.append(result)
        for cell in found:
            candidates.setdefault((cell.row.path, cell.column.name), []).append(cell)
    cells = {key: min(reversed(found), key=lambda cell: len(cell.differing)) for key, found in candidates.items()}
    notes = [_taken(cells[key], found) for key, found in candidates.items() if len(found) > 1]
    tables = []
    for table in paper.tables().values():
        if any(path.startswith(f"{table.name}/") for path, _ in cells):
            tables.append(TableComparison(table, tuple(_all_cells(table, cells))))
    return Comparison(tuple(tables), tuple(others), tuple(dict.fromkeys(notes)))


def _taken(best: Cell, found: Sequence[Cell]) -> str:
    """Which of several results for a cell it was read from, in a sentence."""
    paths = [str(cell.result.path) for cell in found if cell.result is not None and cell is not best]
    left = ", ".join([*paths[:2], *([f"{len(paths) - 2} more"] if len(paths) > 2 else [])])
    fewer = len(best.differing) < min(len(cell.differing) for cell in found if cell is not best)
    assert best.result is not None
    why = "fewer conditions differ" if fewer else "it is newer"
    return f"{best.row.path}: {best.result.path} is taken, as {why}, not {left}."


def _all_cells(table: PaperTable, measured: dict[tuple[str, str], Cell]) -> Iterator[Cell]:
    for row in table.rows:
        for column in table.columns:
            if (cell := measured.get((row.path, column.name))) is not None:
                yield cell
            elif (value := row.values.get(column.name)) is not None:
                tolerance = column.tolerance_of(value, retrained=row.released is None)
                yield Cell(row, column, None, value, tolerance, (), None)


def cells_of(result: Found) -> Iterator[Cell]:
    """The cells that a result stands for: of all rows that are the run of its --paper-row, or of its network."""
    document = result.document
    named = lookup(document, "config.paper_row")
    runs = {row.run for row in paper.rows().values() if row.path == named}
    source = lookup(document, "details.checkpoint.source")
    for table in paper.tables().values():
        for row in table.rows:
            if row.run not in runs if named else source is None or source != row.released:
                continue
            for column in table.columns:
                ours = number_in(column, document, named=bool(named))
                if ours is not None:
                    yield _cell(table, row, column, ours, result)


def number_in(column: Column, document: dict[str, Any], *, named: bool) -> float | None:
    """A column's number in its unit; None where the document is not of its command and data, or has none.

    Args:
        column: the column.
        document: a results.json.
        named: whether the result names its row: then it may be of other data, such as a miniature.
    """
    if column.command is None or not is_of(document, column.command):
        return None
    on_data = all(matches(lookup(document, path), value) for path, value in column.data.items())
    if not on_data and named:
        on_data = column.data_set is None or names_data(document, column.data_set)
    if not on_data or not all(matches(lookup(document, path), value) for path, value in column.where.items()):
        return None
    value = number_at(document, column.metric)
    return None if value is None else value * column.factor


def _cell(table: PaperTable, row: Row, column: Column, ours: float, result: Found) -> Cell:
    document = result.document
    always = TEACHER if column.command in ANY_PRECISION else {**TEACHER, **FP32}
    told = differences(document, {**row.conditions, **column.data, **table.conditions, **column.conditions, **always})
    source = lookup(document, "details.checkpoint.source")
    # a row may be a released network's without its settings, and pre-training has no checkpoint that it is of
    retrained = source is None or source not in (row.released, row.name)
    if retrained and column.command not in UNTRAINED:
        told += training_differences(document, {**table.training, **row.training})
    value = row.values.get(column.name)
    tolerance = column.tolerance if value is None else column.tolerance_of(value, retrained=retrained)
    return Cell(row, column, ours, value, tolerance, tuple(dict.fromkeys(told)), result)


def training_differences(document: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """How a network was trained otherwise than it should be, in words.

    Args:
        document: of the training, or of a measurement whose checkpoint told.
        wanted: option -> value, and ``n_images``.
    """
    if not wanted:
        return []
    if is_of(document, "pretrain"):
        training = {**document["config"], "n_images": lookup(document, "details.data.images")}
        training["epoch"] = lookup(document, "metrics.epoch")
    else:
        training = lookup(document, "details.checkpoint.training")
    if not isinstance(training, dict):
        return ["training is not told by the checkpoint"]
    told = differences(training, wanted)
    done, planned = training.get("epoch"), training.get("epochs")
    if isinstance(done, int) and isinstance(planned, int) and done < planned:
        told.append(f"training ended after {done:,} of {planned:,} epochs")
    return told
