"""The line of an epoch in ``log.jsonl``; trackers hear of it too. Only the first rank writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dinotools.pretraining.diagnostics import epoch_means
from dinotools.pretraining.schedules import Schedules
from dinotools.pretraining.step import TrainingState
from dinotools.runtime import distributed
from dinotools.runtime.run_log import LOG, STEPS, Log, read_log
from dinotools.runtime.trackers import Tracker


class EpochLog:
    """Writes one record per epoch, counted from 1; 0 is the state before the first step.

    Args:
        out: the run directory.
        state: the run.
        schedules: for the rates of the last step.
        trackers: told of every record.
    """

    def __init__(self, out: Path, state: TrainingState, schedules: Schedules, trackers: Sequence[Tracker] = ()) -> None:
        self.out, self.state, self.schedules, self.trackers = out, state, schedules, trackers
        self.begun = bool(read_log(out / LOG))
        self._log = Log(out / LOG, last_step=state.step) if distributed.is_main() else None

    def before_first_step(self, measured: Mapping[str, float]) -> None:
        """What was measured of the networks as they were initialised."""
        self._write({"epoch": 0, "step": 0, **measured})

    def end_of_epoch(self, epoch: int, measured: Mapping[str, float]) -> None:
        """Means over the epoch's steps of all that the watch sees, the rates of its last step, and what was measured.

        Args:
            epoch: counted from 1.
            measured: further numbers, such as those of a k-NN.
        """
        if self._log is None:
            return
        means = epoch_means(read_log(self.out / STEPS), epoch)
        if "loss" in means:  # not if all of its steps were skipped
            means = {"train_loss": means.pop("loss"), **means}
        last = self.state.step - 1
        self._write(
            {
                "epoch": epoch,
                "step": self.state.step,
                "lr": float(self.schedules.lr[last]),
                "weight_decay": float(self.schedules.weight_decay[last]),
                "momentum_teacher": float(self.schedules.momentum[last]),
                "teacher_temp": float(self.schedules.teacher_temp[epoch - 1]),
                **means,
                **measured,
            }
        )

    def close(self) -> None:
        """Closes the file."""
        if self._log is not None:
            self._log.close()

    def _write(self, record: dict[str, float]) -> None:
        if self._log is not None:
            self._log.write(record)
        for tracker in self.trackers:
            tracker.write({f"epoch/{name}": value for name, value in record.items()}, int(record["step"]))
