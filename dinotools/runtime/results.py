"""A result: what was measured, and everything that made it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import sys
from dataclasses import dataclass, field
from typing import Any

import dinotools

LIBRARIES = ("torch", "torchvision", "numpy", "pillow", "scikit-learn")


@dataclass(frozen=True)
class Result:
    """What a command returns.

    Args:
        title: heading of its table.
        rows: the table: one dict per row, column -> value.
        metrics: the numbers by name, for machines.
        details: what made them: checkpoint, data counts, device, precision.
        notes: sentences to print below the table.
        failure: why the exit code is 1 although there is a result, such as what a check has found.
    """

    title: str
    rows: list[dict[str, Any]]
    metrics: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    failure: str | None = None


def document(command: str, result: Result, config: dict[str, Any], wall_time_s: float) -> dict[str, Any]:
    """The JSON document of a result, as written to results.json and printed by --json."""
    return {
        "command": command,
        "metrics": result.metrics or {"rows": result.rows},
        "details": result.details,
        "config": config,
        "versions": versions(),
        "machine": {"system": platform.platform(), "python": platform.python_version()},
        "wall_time_s": round(wall_time_s, 3),
        "peak_memory_mb": peak_memory_mb(),
    }


def versions() -> dict[str, str]:
    """Versions of dinotools and of the libraries that its numbers depend on."""
    return {"dinotools": dinotools.__version__, **{name: importlib.metadata.version(name) for name in LIBRARIES}}


def peak_memory_mb() -> dict[str, float]:
    """The largest resident size of this process so far and, where CUDA was used, of the tensors on the device."""
    peak = {}
    with contextlib.suppress(ImportError):  # there is no such module on Windows
        import resource

        unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes there, in KiB elsewhere
        peak["host"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        devices = range(torch.cuda.device_count())
        peak["device"] = round(max(torch.cuda.max_memory_allocated(i) for i in devices) / 2**20, 1)
    return peak
