"""How far a training run is, and whether it is still sound."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TypeVar

from rich.progress import TextColumn
from rich.table import Column
from torch import Tensor

from dinotools.runtime.console import PLAIN_INTERVAL_S, messages, progress_bar, say
from dinotools.runtime.errors import RunFailed

SYNC_EVERY = 10  # steps between looks at the loss: each one waits for the device

T = TypeVar("T")


class Progress:
    """A Rich bar with loss, learning rate, images/s and data-wait, or a plain line now and then.

    Args:
        total_steps: of the whole run.
        done: steps already taken.
        batch_size: images per step.
        steps_per_epoch: to name the epoch.
        remedy: against a loss that is not finite; None if that is somebody else's business.
    """

    def __init__(self, total_steps: int, done: int, batch_size: int, steps_per_epoch: int, remedy: str | None) -> None:
        self.total_steps = total_steps
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.remedy = remedy
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
            RunFailed: the loss is not finite, and there is a remedy.
        """
        self.step += 1
        self.waited += waited
        if self.step % SYNC_EVERY and self.step < self.total_steps:
            return
        value = loss.item() if self.remedy is None else finite(loss.item(), self.remedy)
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


def finite(loss: float, remedy: str) -> float:
    """Returns the loss.

    Raises:
        RunFailed: it is NaN or infinite.
    """
    if math.isfinite(loss):
        return loss
    raise RunFailed(f"the loss is {loss}", remedy=remedy)


def timed(batches: Iterable[T]) -> Iterator[tuple[T, float]]:
    """Every batch with the seconds that it was waited for."""
    asked = time.monotonic()
    for batch in batches:
        yield batch, time.monotonic() - asked
        asked = time.monotonic()
