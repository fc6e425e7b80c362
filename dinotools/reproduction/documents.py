"""What results.json says at a path, and whether that is what the paper's tables ask for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import Any

ROOMS = {"details", "config", "metrics", "data", "features", "checkpoint", "training"}  # go without saying


def lookup(document: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, or at the first of several, joined by ``|``, that there is; None where there is none.

    Keys may hold dots themselves: ``jaccard.0.6`` is the value of ``0.6`` in ``jaccard``.
    """
    return next((found for each in path.split("|") if (found := _at(document, each.split("."))) is not None), None)


def _at(value: Any, keys: list[str]) -> Any:
    if not keys:
        return value
    if not isinstance(value, Mapping):
        return None
    lengths = (n for n in range(1, len(keys) + 1) if ".".join(keys[:n]) in value)
    found = (_at(value[".".join(keys[:n])], keys[n:]) for n in lengths)
    return next((each for each in found if each is not None), None)


def number_at(document: Mapping[str, Any], metric: str) -> float | None:
    """The finite number of a metric's path in a document; None where there is none."""
    paths = [path[1:] if path.startswith(".") else f"metrics.{path}" for path in metric.split("|")]
    value = lookup(document, "|".join(paths))
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def matches(found: Any, wanted: Any) -> bool:
    """Whether a value is as wanted.

    Numbers may differ by rounding, also within lists. Text is a pattern (``*V100*``), whatever its capitals, which an
    exclamation mark before it negates. False and an empty list want nothing to be set.
    """
    if wanted is False or wanted == []:
        return not found
    if isinstance(wanted, str):
        if wanted.startswith("!"):
            return not matches(found, wanted[1:])
        return found is not None and fnmatchcase(str(found).lower(), wanted.lower())
    if isinstance(wanted, list):
        as_long = isinstance(found, list) and len(found) == len(wanted)
        return as_long and all(matches(a, b) for a, b in zip(found, wanted, strict=True))
    if isinstance(wanted, (int, float)) and not isinstance(wanted, bool):
        is_number = isinstance(found, (int, float)) and not isinstance(found, bool)
        return is_number and math.isclose(found, wanted, rel_tol=1e-6)
    return bool(found == wanted)


def differences(document: Mapping[str, Any], conditions: Mapping[str, Any]) -> list[str]:
    """The conditions that a document does not meet, in words: ``arch is vit_micro, not vit_small``."""
    found = {path: lookup(document, path) for path in conditions}
    return [
        _in_words(path, found[path], wanted) for path, wanted in conditions.items() if not matches(found[path], wanted)
    ]


def _in_words(path: str, found: Any, wanted: Any) -> str:
    name = " ".join(key for key in path.split("|")[0].split(".") if key not in ROOMS).replace("_", " ")
    if found is None:
        return f"{name} is not told"
    if isinstance(wanted, str) and wanted.startswith("!"):
        return f"{name} is {_shown(found)}"
    return f"{name} is {_shown(found)}, not {'unset' if wanted is False or wanted == [] else _shown(wanted)}"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "unset"
    if isinstance(value, str):
        return value.strip("*")
    return f"{value:g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)


def is_of(document: Mapping[str, Any], command: str) -> bool:
    """Whether a document is of a command, however the program was called."""
    return f" {document.get('command', '')}".endswith(f" {command}")


def names_data(document: Mapping[str, Any], data_set: str) -> bool:
    """Whether a result was measured on a folder of a data set's name, or on what lies in it."""
    config = document.get("config", {})
    sources = (config.get(option) for option in ("data", "train", "val", "features"))
    return any(data_set in (PurePath(part).stem for part in PurePath(source).parts) for source in sources if source)


def main_numbers(document: Mapping[str, Any], most: int = 4) -> dict[str, float]:
    """The first numbers of a result's metrics, by name, two levels deep; not those of single classes."""
    found: dict[str, float] = {}
    for name, value in document.get("metrics", {}).items():
        within = value.items() if isinstance(value, Mapping) and name != "per_class" else ()
        for path, each in ((name, value), *((f"{name} {key}", inner) for key, inner in within)):
            if isinstance(each, (int, float)) and not isinstance(each, bool) and math.isfinite(each):
                found[path] = each
    return dict(list(found.items())[:most])
