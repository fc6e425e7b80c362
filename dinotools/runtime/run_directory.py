"""What a command leaves on disk: written whole or not at all, never over somebody's work."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dinotools.runtime.errors import DinotoolsError

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
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Writes an indented JSON document atomically."""
    write_atomically(path, lambda p: p.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8"))


def claim(
    directory: Path,
    *,
    overwrite: bool = False,
    remedy: str = "Choose another --out, or add --overwrite to replace it.",
) -> Path:
    """Makes an output directory, or takes an empty one.

    Args:
        directory: the directory.
        overwrite: empty it first if it holds anything.
        remedy: what to do about a directory that holds something.

    Raises:
        DinotoolsError: it is a file, holds something, or cannot be written.
    """
    if directory.is_file():
        raise DinotoolsError("is a file, not a directory", directory, "Choose another --out.")
    if directory.is_dir() and any(path.suffix != TEMPORARY for path in directory.iterdir()):
        if not overwrite:
            raise DinotoolsError("the output directory is not empty", directory, remedy)
        shutil.rmtree(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DinotoolsError(f"cannot be made ({error.strerror})", directory, "Choose another --out.") from error
    return directory
