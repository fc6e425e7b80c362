"""Finds what commands have left behind: results.json files, and the folders of pre-training runs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dinotools.configs import files
from dinotools.configs.pretraining import PretrainConfig
from dinotools.reproduction.documents import is_of
from dinotools.runtime.console import warn
from dinotools.runtime.errors import DinotoolsError
from dinotools.runtime.run_directory import OPTIONS
from dinotools.runtime.run_log import LOG, STEPS

RESULTS = "results.json"
NO_MEASUREMENTS = ("report", "recipes run")  # commands whose results.json is about others


@dataclass(frozen=True)
class Found:
    """A result on disk.

    Args:
        document: what its results.json holds.
        folder: where that lies.
        written: when, in seconds since 1970.
        file: its name there, where that is another.
    """

    document: dict[str, Any]
    folder: Path
    written: float = 0.0
    file: str = RESULTS

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / self.file


@dataclass(frozen=True)
class Collected:
    """What lies in some folders.

    Args:
        results: oldest first.
        runs: folders of pre-training runs that have logged something, by name.
    """

    results: tuple[Found, ...]
    runs: tuple[Path, ...]


def collect(sources: Sequence[Path]) -> Collected:
    """Searches folders, with all in them, for results and runs; a file that cannot be used is named and left out.

    Args:
        sources: folders, or files with the content of a results.json.

    Raises:
        DinotoolsError: one does not exist.
    """
    results: dict[Path, Found] = {}
    runs: dict[Path, Path] = {}
    for source in (path.expanduser() for path in sources):
        if not source.exists():
            raise DinotoolsError("does not exist", source, "Name a run's directory or a folder of results.")
        before = len(results) + len(runs)
        for folder in folders_in(source) if source.is_dir() else ():
            if is_run(folder):
                runs.setdefault(folder.resolve(), folder)
        for path in files_in(source):
            if path.resolve() not in results and (found := read(path)) is not None:
                results[path.resolve()] = found
        if len(results) + len(runs) == before:
            warn(f"{source}: nothing new to report was found in it")
    return Collected(tuple(sorted(results.values(), key=lambda found: found.written)), tuple(sorted(runs.values())))


def files_in(source: Path) -> Iterable[Path]:
    """The results.json files of a folder and all in it; a file stands for itself."""
    if not source.is_dir():
        return [source]
    return [folder / RESULTS for folder in folders_in(source) if (folder / RESULTS).is_file()]


def folders_in(top: Path) -> Iterator[Path]:
    """A folder and all in it but hidden ones, in the order of their names; none twice, wherever links lead."""
    seen: set[Path] = set()
    for path, inner, _ in os.walk(top, followlinks=True):
        folder = Path(path)
        if folder.resolve() in seen:
            inner.clear()
            continue
        seen.add(folder.resolve())
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield folder


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a `dinotools pretrain` that has logged something."""
    if not (folder / OPTIONS).is_file() or not any((folder / name).is_file() for name in (LOG, STEPS)):
        return False
    try:
        files.load(PretrainConfig, folder / OPTIONS)
    except (DinotoolsError, TypeError):
        return False  # fine-tuning leaves the same files
    return True


def read(path: Path) -> Found | None:
    """A results.json; None, with a warning, of one that is damaged, and None of one that measures nothing."""
    try:
        # NaN and infinities are no numbers of anything that was measured
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
        written = path.stat().st_mtime
    except (OSError, ValueError, RecursionError) as error:
        warn(f"{path}: left out, it cannot be read as JSON ({error})")
        return None
    parts = ("metrics", "details", "config")
    if not isinstance(document, dict) or not isinstance(document.get("command"), str):
        warn(f"{path}: left out, it is no result of dinotools (it names no command)")
        return None
    if not all(isinstance(document.get(part), dict) for part in parts):
        warn(f"{path}: left out, it lacks one of {', '.join(parts)}")
        return None
    if any(is_of(document, command) for command in NO_MEASUREMENTS):
        return None
    return Found(document, path.parent, written, path.name)
