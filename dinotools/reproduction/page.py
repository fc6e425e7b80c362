"""The page of ``dinotools report``: one file that opens from disk, with every number, picture and where it is from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dinotools.reporting import html, ranked_lists, thumbnails
from dinotools.reproduction import beside_paper, classification, curves, pictures, provenance, retrieval
from dinotools.reproduction.collecting import RESULTS, Found, read
from dinotools.reproduction.comparison import Comparison
from dinotools.reproduction.provenance import Entry
from dinotools.reproduction.style import STYLE
from dinotools.reproduction.training import Run
from dinotools.runtime.results import versions
from dinotools.runtime.run_directory import write_atomically
from dinotools.runtime.run_log import LOG

LONG = 3  # parts from which on a page has a table of contents


def write_page(path: Path, comparison: Comparison, runs: Sequence[Run]) -> None:
    """Writes the page; what it shows that was not measured by a command is read from the results' folders.

    Args:
        path: the file.
        comparison: results beside the paper's numbers.
        runs: pre-training runs.
    """
    text = assemble(path, comparison, runs)
    # names of files may hold bytes that are no text
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="replace"))


def assemble(path: Path, comparison: Comparison, runs: Sequence[Run]) -> str:
    """The page as one HTML document; links lead from where it will stand."""
    compared = [cell.result for table in comparison.tables for cell in table.measured if cell.result is not None]
    entries = provenance.named([*compared, *comparison.others, *map(_found, runs)])
    others = {found.path for found in comparison.others}
    parts = {
        title: body
        for title, body in (
            ("Summary", beside_paper.summary(comparison) if comparison.tables else ""),
            *_tables(comparison, entries),
            ("Other results", beside_paper.others([entry for entry in entries if entry.found.path in others])),
            ("Training runs" if len(runs) > 1 else "Training run", curves.section(runs) if runs else ""),
            ("Sweeps of linear classifiers", classification.sweeps(entries)),
            ("Classes", classification.classes(entries)),
            ("Features in the plane", pictures.embeddings(entries, path)),
            ("Attention", pictures.attention(entries)),
            ("Retrieval", retrieval.section(entries, path)),
            ("Videos", pictures.videos(entries)),
            ("Provenance", provenance.section(entries)),
        )
        if body
    }
    ids = {title: next((t.table.name for t in comparison.tables if t.table.title == title), "") for title in parts}
    ids = {title: name or "part-" + title.lower().replace(" ", "-") for title, name in ids.items()}
    body = "\n".join(_section(ids[title], title, inside) for title, inside in parts.items())
    contents = "".join(f'<li><a href="#{ids[title]}">{html.text(title)}</a></li>' for title in parts)
    nav = f'<nav aria-label="Contents"><ol>{contents}</ol></nav>\n' if len(parts) >= LONG else ""
    return html.document(
        "DINO, measured" + (" beside the paper" if comparison.tables else ""),
        _lead(entries, runs),
        f"{nav}<main>\n{body}\n</main>",
        f"dinotools {versions()['dinotools']}. The paper: Caron et al. 2021, arXiv 2104.14294.",
        style=thumbnails.STYLE + ranked_lists.STYLE + STYLE,
    )


def _tables(comparison: Comparison, entries: Sequence[Entry]) -> list[tuple[str, str]]:
    by_file = {entry.found.path: entry for entry in entries}
    return [(table.table.title, beside_paper.section(table, by_file)) for table in comparison.tables]


def _found(run: Run) -> Found:
    """The result of a training run; what its options tell where it has not ended."""
    result = run.folder / RESULTS
    if result.is_file() and (found := read(result)) is not None:
        return found
    config = {"data": run.config.data, "seed": run.config.seed, "paper_row": run.config.paper_row}
    return Found({"command": "dinotools pretrain", "config": config}, run.folder, file=LOG)


def _section(name: str, title: str, body: str) -> str:
    return (
        f'<section id="{name}" aria-labelledby="{name}-h"><h2 id="{name}-h">{html.text(title)}</h2>\n{body}\n</section>'
    )


def _lead(entries: Sequence[Entry], runs: Sequence[Run]) -> str:
    counts = {"result": len(entries), "training run": len(runs)}
    counted = " and ".join(f"{n:,} {name}{'s' * (n != 1)}" for name, n in counts.items() if n)
    return f"{counted}. A number leads to what made it: file, network, data, machine, and the command that repeats it."
