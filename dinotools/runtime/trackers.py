"""TensorBoard and Weights & Biases, behind one small interface; ``log.jsonl`` is written in any case."""

from __future__ import annotations

import importlib
import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from dinotools.runtime import distributed
from dinotools.runtime.errors import DinotoolsError
from dinotools.runtime.run_directory import write_atomically

PROJECT = "dinotools"
TENSORBOARD = "tensorboard"  # folder of its event files in the run directory
WANDB_ID = "wandb.json"  # by which a resumed run goes on with its page


class Tracker(Protocol):
    """Something that shows a run's numbers while it goes."""

    def write(self, record: Mapping[str, float], step: int) -> None:
        """Shows the numbers of a step; their names may be grouped by a slash, as in ``epoch/train_loss``."""

    def close(self) -> None:
        """Writes what is left."""


class TensorBoard:
    """Event files below ``out/tensorboard``: ``tensorboard --logdir out``.

    Args:
        out: the run directory.
        config: options of the run.
        last_step: points of later steps are hidden: they belong to work that a killed run has lost.

    Raises:
        DinotoolsError: the package is missing.
    """

    def __init__(self, out: Path, config: Mapping[str, Any], last_step: int) -> None:
        module = _imported("torch.utils.tensorboard", "tensorboard")
        purge_step = last_step + 1 if last_step else None
        self._writer = module.SummaryWriter(log_dir=str(out / TENSORBOARD), purge_step=purge_step)
        if not last_step:
            self._writer.add_text("config", f"```json\n{json.dumps(config, indent=2)}\n```")

    def write(self, record: Mapping[str, float], step: int) -> None:
        """One scalar per name."""
        for name, value in record.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()


class WeightsAndBiases:
    """A page of the project ``dinotools``; WANDB_MODE, WANDB_PROJECT and so on are respected.

    Args:
        out: the run directory; its name is that of the page. A resumed run goes on with its page.
        config: options of the run.
        last_step: the server keeps what it has: a resumed run measures the same again.

    Raises:
        DinotoolsError: the package is missing, or nobody is logged in.
    """

    def __init__(self, out: Path, config: Mapping[str, Any], last_step: int) -> None:
        wandb = _imported("wandb", "wandb")
        file = out / WANDB_ID
        if not (last_step and file.is_file()):
            write_atomically(file, lambda path: path.write_text(json.dumps({"id": uuid.uuid4().hex})))
        page = json.loads(file.read_text())["id"]
        try:
            self._run = wandb.init(
                project=None if "WANDB_PROJECT" in os.environ else PROJECT,
                dir=str(out),
                id=page,
                name=out.resolve().name,
                config=dict(config),
                resume="allow",
            )
        except wandb.errors.Error as error:
            remedy = "Run `wandb login`, or set WANDB_MODE=offline and send the run later with `wandb sync`."
            raise DinotoolsError(f"does not start ({error})", "--track wandb", remedy) from error

    def write(self, record: Mapping[str, float], step: int) -> None:
        """All names at once."""
        self._run.log(dict(record), step=step)

    def close(self) -> None:
        """Sends or stores what is left."""
        self._run.finish()


TRACKERS: dict[str, Callable[[Path, Mapping[str, Any], int], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
}


def open_trackers(names: Sequence[str], out: Path, config: Mapping[str, Any], last_step: int = 0) -> list[Tracker]:
    """Opens trackers; on all ranks but the first there are none.

    Args:
        names: of ``TRACKERS``.
        out: the run directory, which exists.
        config: options of the run as plain values.
        last_step: of a run that is resumed, the step of its checkpoint.

    Raises:
        DinotoolsError: a package is missing, or a tracker does not start.
    """
    if not distributed.is_main():
        return []
    return [TRACKERS[name](out, config, last_step) for name in names]


def _imported(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DinotoolsError("is not installed", f"--track {extra}", f"pip install 'dinotools[{extra}]'") from error
