"""The libraries that only an export needs."""

from __future__ import annotations

import importlib
from typing import Any

from dinotools.runtime.errors import DinotoolsError


def library(module: str, extra: str) -> Any:
    """An imported library that comes with one of our extras.

    Args:
        module: what to import.
        extra: the extra that installs it.

    Raises:
        DinotoolsError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.split(".")[0]
        raise DinotoolsError(
            f"{name} is not installed", f"--to {extra}", f"Run: pip install 'dinotools[{extra}]'."
        ) from error
