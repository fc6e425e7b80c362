"""What a command leaves on disk: written whole or not at all, never over somebody's work."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dinotools.runtime.errors import DinotoolsError

OPTIONS = "config.toml"
TEMPORARY = ".tmp"  # ends the names of files being written; a kill may leave one behind


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Calls write(temporary path), flushes it to the disk and renames it: the old file or the new one, never half.

    Args:
        path: where the file shall stand; its folder is made if need be.
        write: writes the whole content to the path it is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    try:
        write(temporary)
        with temporary.open("r+b") as file:  # Windows flushes only what is open for writing
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Writes an indented JSON document atomically."""
    write_atomically(path, lambda p: p.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8"))


def write_options(directory: Path, options: str) -> None:
    """Writes the text of a run's config.toml, which also marks the directory as ours."""
    write_atomically(directory / OPTIONS, lambda path: path.write_text(options, encoding="utf-8"))


def check_writable(path: Path, option: str) -> None:
    """Makes the folder of an output file, so that hours of work do not end where it cannot be written.

    Raises:
        DinotoolsError: the folder cannot be made or written to, or the path is a folder itself.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DinotoolsError(f"cannot be written ({error.strerror})", path, f"Choose another {option}.") from error
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        what = "is a folder, not a file" if path.is_dir() else "cannot be written (its folder is read-only)"
        raise DinotoolsError(what, path, f"Choose another {option}.")


def claim(
    directory: Path,
    options: str,
    *,
    overwrite: bool = False,
    inputs: Sequence[str | Path | None] = (),
    remedy: str = "Choose another --out, or add --overwrite to replace it.",
) -> None:
    """Makes an output directory, or takes one that holds no results, and leaves the options of the command in it.

    Args:
        directory: the directory.
        options: text of its config.toml, which also marks it as ours.
        overwrite: empty it first if it holds an earlier run.
        inputs: what the command reads, as the user named it: never deleted.
        remedy: what to do about a directory that holds something.

    Raises:
        DinotoolsError: it is a file, holds something, or cannot be written.
    """
    if directory.is_file():
        raise DinotoolsError("is a file, not a directory", directory, "Choose another --out.")
    try:
        # options alone are what a command leaves that stopped before it had any result
        if directory.is_dir() and any(p.suffix != TEMPORARY and p.name != OPTIONS for p in directory.iterdir()):
            if not overwrite:
                raise DinotoolsError("the output directory is not empty", directory, remedy)
            _check_replaceable(directory, inputs)
            shutil.rmtree(directory)
        write_options(directory, options)
    except OSError as error:
        raise DinotoolsError(f"cannot be written ({error.strerror})", directory, "Choose another --out.") from error


def _check_replaceable(directory: Path, inputs: Sequence[str | Path | None]) -> None:
    if not (directory / OPTIONS).is_file():
        raise DinotoolsError("holds something that is no run of dinotools", directory, "Choose another --out.")
    for path in inputs:
        if path is not None and Path(path).expanduser().resolve().is_relative_to(directory.resolve()):
            raise DinotoolsError("--overwrite would delete what this command reads", path, "Choose another --out.")
