"""Pre-training runs, as what they logged tells of them.

Source: DINO, Fig. 6 (teacher and student by k-NN) and Fig. 7 (entropy and KL divergence).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dinotools.configs import files
from dinotools.configs.pretraining import PretrainConfig
from dinotools.pretraining.collapse import Collapse, CollapseDetector
from dinotools.runtime import run_directory
from dinotools.runtime.errors import DinotoolsError
from dinotools.runtime.run_log import LOG, STEPS, read_log


@dataclass(frozen=True)
class Run:
    """What a run directory tells.

    Args:
        name: how it is called in the report.
        folder: the run directory.
        config: its options.
        epochs: lines of log.jsonl.
        steps: lines of steps.jsonl; runs of older versions have none.
    """

    name: str
    folder: Path
    config: PretrainConfig
    epochs: Sequence[dict[str, Any]]
    steps: Sequence[dict[str, Any]]

    @property
    def steps_per_epoch(self) -> float | None:
        """Known as soon as an epoch is over."""
        return next((record["step"] / record["epoch"] for record in self.epochs if record.get("epoch")), None)

    def values(self, name: str) -> list[tuple[int, float]]:
        """A quantity by step: where it was measured every few steps, those; else by epoch."""
        records = self.steps if any(name in record for record in self.steps) else self.epochs
        return [(record["step"], record[name]) for record in records if name in record]

    def last(self, name: str) -> float | None:
        """The latest value of a quantity, the mean of its epoch where there is one."""
        found = [record[name] for record in [*self.steps, *self.epochs] if name in record]
        return found[-1] if found else None

    @cached_property
    def collapses(self) -> list[Collapse]:
        """What the detector has told, or would have."""
        detector = CollapseDetector(self.config)
        return [found for record in self.steps if (found := detector.look(record["step"], record))]


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Reads run directories; those of the same name are told apart by their paths.

    Raises:
        DinotoolsError: one is no directory of `dinotools pretrain`, or has measured nothing yet.
    """
    counts = Counter(folder.resolve().name for folder in folders)
    found = []
    for folder in folders:
        options = folder / run_directory.OPTIONS
        remedy = "Name the --out of a `dinotools pretrain`."
        if not options.is_file():
            raise DinotoolsError("is no run directory (it has no config.toml)", folder, remedy)
        try:
            config = files.load(PretrainConfig, options)
        except (DinotoolsError, TypeError) as error:
            raise DinotoolsError(f"does not come from `dinotools pretrain` ({error})", folder, remedy) from error
        epochs, steps = _records(folder / LOG), _records(folder / STEPS)
        if not epochs and not steps:
            raise DinotoolsError("has measured nothing yet", folder, "Wait for the first steps of the run.")
        name = folder.resolve().name
        found.append(Run(name if counts[name] == 1 else str(folder), folder, config, epochs, steps))
    return found


def _records(log: Path) -> list[dict[str, Any]]:
    """The records of a log, with what are numbers in them; those without a step are no records."""
    records = [{k: v for k, v in record.items() if isinstance(v, (int, float))} for record in read_log(log)]
    return [record for record in records if "step" in record]


def summary(run: Run) -> dict[str, Any]:
    """A run in one row of a table."""
    whole = math.log(run.config.out_dim)
    steps = max(record["step"] for record in [*run.steps, *run.epochs])
    done = f"{steps / run.steps_per_epoch:.1f}".removesuffix(".0") if run.steps_per_epoch else "below 1"

    entropy, kl = run.last("teacher_entropy"), run.last("kl")
    return {
        "run": run.name,
        "epochs": f"{done} of {run.config.epochs}",
        "loss": run.last("train_loss") or run.last("loss"),
        "h / ln K %": None if entropy is None else 100 * entropy / whole,
        "KL / ln K %": None if kl is None else 100 * kl / whole,
        "k-NN teacher %": run.last("knn_teacher"),
        "k-NN student %": run.last("knn_student"),
        "collapse": ", ".join(found.kind for found in run.collapses) or ("none" if run.steps else None),
    }


def without_empty_columns(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leaves out what no run has measured."""
    kept = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    return [{name: row[name] for name in kept} for row in rows]
