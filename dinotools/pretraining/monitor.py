"""What a run says while it goes: progress, log.jsonl, k-NN of teacher and student."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.progress import TextColumn
from rich.table import Column
from torch import Tensor

from dinotools.configs.pretraining import PretrainConfig
from dinotools.data.sources import ImageSource
from dinotools.evaluation.knn import knn_accuracy
from dinotools.features import extract
from dinotools.pretraining.step import NOT_FINITE_REMEDY, TrainingState
from dinotools.runtime.console import PLAIN_INTERVAL_S, messages, progress_bar, say
from dinotools.runtime.device import Runtime
from dinotools.runtime.errors import RunFailed
from dinotools.runtime.run_directory import write_atomically

TEMPERATURE = 0.07  # of the k-NN votes, the paper's
SYNC_EVERY = 10  # steps between looks at the loss: each one waits for the device
LOG = "log.jsonl"


class Log:
    """``log.jsonl``: one JSON object per line, for the state before the first step and for every epoch.

    Args:
        path: the file.
        last_step: lines of later steps are dropped: they belong to work that a killed run has lost.
    """

    def __init__(self, path: Path, last_step: int) -> None:
        self.records = [record for record in read_log(path) if record["step"] <= last_step]
        kept = "".join(json.dumps(record) + "\n" for record in self.records)
        write_atomically(path, lambda temporary: temporary.write_text(kept, encoding="utf-8"))
        self._file = path.open("a", encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        """Appends one record, at once out of this process's hands."""
        self.records.append(record)
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a log that may not exist yet, or whose last line a kill has cut in two."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        with contextlib.suppress(json.JSONDecodeError):
            records.append(json.loads(line))
    return records


class Progress:
    """A Rich bar with loss, learning rate, images/s and data-wait, or a plain line now and then.

    Args:
        total_steps: of the whole run.
        done: steps already taken.
        batch_size: images per step.
        steps_per_epoch: to name the epoch.
    """

    def __init__(self, total_steps: int, done: int, batch_size: int, steps_per_epoch: int) -> None:
        self.total_steps = total_steps
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.bar = progress_bar(TextColumn("{task.fields[state]}", table_column=Column()))  # wraps where it is narrow
        self.task = self.bar.add_task("epoch 1", total=total_steps, completed=done, state="")
        self.step = self.shown_at_step = done
        self.shown_at = time.monotonic()
        self.waited = 0.0

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def advance(self, loss: Tensor, lr: float, waited: float) -> None:
        """Counts a step; every SYNC_EVERY steps looks at the loss.

        Raises:
            RunFailed: the loss is not finite.
        """
        self.step += 1
        self.waited += waited
        if self.step % SYNC_EVERY and self.step < self.total_steps:
            return
        value = finite(loss.item())
        elapsed = time.monotonic() - self.shown_at
        if not messages.is_terminal and elapsed < PLAIN_INTERVAL_S:
            return
        rate = (self.step - self.shown_at_step) * self.batch_size / max(elapsed, 1e-9)
        waited = 100 * self.waited / max(elapsed, 1e-9)
        state = f"loss {value:.3f} · lr {lr:.2e} · {rate:.0f} img/s · data-wait {waited:.0f} %"
        epoch = f"epoch {(self.step - 1) // self.steps_per_epoch + 1}"
        if messages.is_terminal:
            self.bar.update(self.task, completed=self.step, description=epoch, state=state)
        else:
            left = (self.total_steps - self.step) * self.batch_size / rate
            say(f"{epoch} · step {self.step}/{self.total_steps} · {state} · {left / 60:.0f} min left")
        self.shown_at, self.shown_at_step, self.waited = time.monotonic(), self.step, 0.0


def finite(loss: float) -> float:
    """Returns the loss.

    Raises:
        RunFailed: it is NaN or infinite.
    """
    if math.isfinite(loss):
        return loss
    raise RunFailed(f"the loss is {loss}", remedy=NOT_FINITE_REMEDY)


def knn_sizes(config: PretrainConfig) -> dict[str, int]:
    """``resize_size`` and ``crop_size`` in pixels; in the paper's proportion of 256 to 224 if nothing else is asked."""
    crop = config.global_crop_size
    return {"resize_size": config.knn_resize_size or round(crop * 256 / 224), "crop_size": crop}


def knn_of(
    state: TrainingState, config: PretrainConfig, splits: Sequence[ImageSource], runtime: Runtime
) -> dict[str, float]:
    """k-NN top-1 in percent of both backbones: ``{"knn_teacher": ..., "knn_student": ...}``.

    Args:
        state: the networks.
        config: neighbours and image sizes.
        splits: labelled training and test images.
        runtime: where to compute.
    """
    sizes = knn_sizes(config)
    scores = {}
    for name, network in (("teacher", state.teacher), ("student", state.student)):
        train, val = (
            extract(network.backbone, images, runtime, max_bad=config.max_bad, name="the k-NN", **sizes)
            for images in splits
        )
        scores[f"knn_{name}"] = knn_accuracy(train, val, (config.knn_k,), TEMPERATURE, runtime.device)[config.knn_k][0]
    return scores
