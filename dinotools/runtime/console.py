"""Where words go: results to stdout, everything else (progress, warnings) to stderr."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from dinotools.runtime import distributed

results = Console()
messages = Console(stderr=True)

PLAIN_INTERVAL_S = 10.0  # where stderr is no terminal, a line this often tells that the work goes on

T = TypeVar("T")


def warn(message: str) -> None:
    """Prints a warning that the user should see but that stops nothing."""
    messages.print(f"[yellow]warning:[/] {escape(message)}", highlight=False, soft_wrap=True)


def say(message: str) -> None:
    """Prints a line of progress; of several ranks, only one does."""
    if distributed.is_main():
        messages.print(message, highlight=False, markup=False, soft_wrap=True)


def progress_bar(*extra: TextColumn) -> Progress:
    """A Rich progress bar on stderr, with further columns at its end; silent where stderr is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        *extra,
        console=messages,
        disable=not (messages.is_terminal and distributed.is_main()),
        transient=True,
    )


def track(items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    """Yields the items behind a progress bar, or with a plain line now and then where stderr is no terminal.

    Args:
        items: any.
        description: what they are.
        total: how many; None where nobody knows.
    """
    with progress_bar() as bar:
        task = bar.add_task(description, total=total)
        said = time.monotonic()
        for done, item in enumerate(items):
            if not messages.is_terminal and time.monotonic() - said > PLAIN_INTERVAL_S:
                said = time.monotonic()
                say(f"{description}: {done}/{'?' if total is None else total}")
            yield item
            bar.advance(task)
