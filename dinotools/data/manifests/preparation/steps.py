"""What preparations share: files that change their place, and how one says that something is missing."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dinotools.data.images import EXTENSIONS
from dinotools.data.manifests.manifest import Manifest
from dinotools.runtime.console import track
from dinotools.runtime.errors import DinotoolsError

SHOWN = 3  # names in an error

Move = tuple[Path, Path]  # from where, to where; on one disk


@dataclass(frozen=True)
class Step:
    """What came of one part of a preparation.

    Args:
        what: such as ``validation images into folders of their classes``.
        done: how many were left to do.
        before: how many had been done before.
    """

    what: str
    done: int
    before: int


def move_all(moves: Sequence[Move], what: str, remedy: str) -> Step:
    """Renames files; those that stand in their place already are left alone.

    Args:
        moves: the files.
        what: of the step.
        remedy: what to do if some are missing.

    Raises:
        DinotoolsError: files are neither here nor there, or two would have one name; nothing has been moved then.
    """
    twice = [target for target, count in Counter(str(target) for _, target in moves).items() if count > 1]
    if twice:
        raise DinotoolsError(f"{len(twice):,} names would stand for several files: {few(twice)}", remedy=remedy)
    left = [(source, target) for source, target in moves if not target.exists()]
    missing = [source for source, _ in left if not source.exists()]
    if missing:
        names = few([path.name for path in missing])
        raise DinotoolsError(
            f"{len(missing):,} of {len(moves):,} files are not there: {names}", missing[0].parent, remedy
        )
    for source, target in track(left, what, len(left)):
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
    return Step(what, len(left), len(moves) - len(left))


def remove_empty(folder: Path) -> None:
    """Removes a folder and those below it, as far as they are empty."""
    for path, _, _ in os.walk(folder, topdown=False):
        if not any(os.scandir(path)):
            Path(path).rmdir()


def images_below(folder: Path) -> Iterator[Path]:
    """Images of a folder and those below it, in the order of their paths; hidden ones are passed over."""
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (
            Path(path, name) for name in sorted(names) if name.lower().endswith(EXTENSIONS) and not name.startswith(".")
        )


def is_missing(path: Path, manifest: Manifest, archive: str) -> DinotoolsError:
    """The error that a file or folder is not there.

    Args:
        path: what is missing.
        manifest: of its data set.
        archive: name of the manifest's file that it comes with.
    """
    file = next(file for file in manifest.files if file.name == archive)
    own = "" if archive == path.name else f"It comes with {archive}. "
    fetch = f"`dinotools data fetch {manifest.name} --to DIR` downloads it"
    return DinotoolsError(
        "is not there", path, own + (f"{fetch}, from {file.urls[0]}" if file.urls else manifest.how_to_get)
    )


def few(names: Iterable[str]) -> str:
    """The first names of many."""
    listed = list(names)
    shown = ", ".join(listed[:SHOWN])
    return f"{shown} and {len(listed) - SHOWN:,} more" if len(listed) > SHOWN else shown
