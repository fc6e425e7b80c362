"""Where downloaded files are kept."""

from __future__ import annotations

import os
from pathlib import Path

from dinotools.runtime.errors import DinotoolsError


def cache_directory(*parts: str) -> Path:
    """A folder of the user's cache, made if need be.

    Its root is $DINOTOOLS_CACHE, else $XDG_CACHE_HOME/dinotools, else ~/.cache/dinotools.

    Raises:
        DinotoolsError: it cannot be made.
    """
    own, shared = os.environ.get("DINOTOOLS_CACHE"), os.environ.get("XDG_CACHE_HOME")
    root = Path(own) if own else Path(shared or "~/.cache") / "dinotools"
    directory = root.expanduser().joinpath(*parts)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        remedy = "Set DINOTOOLS_CACHE to a folder that can be written."
        raise DinotoolsError(f"cannot be made ({error.strerror})", directory, remedy) from error
    return directory
