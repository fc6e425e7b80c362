"""Looks at a run every few steps, so that nothing goes wrong in silence: collapse, and losses that are not finite."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dinotools.configs.pretraining import PretrainConfig
from dinotools.data.images import ImageSource
from dinotools.pretraining.collapse import CollapseDetector
from dinotools.pretraining.step import NOT_FINITE_REMEDY, TrainingState
from dinotools.runtime import distributed
from dinotools.runtime.console import warn
from dinotools.runtime.errors import RunFailed
from dinotools.runtime.progress import SYNC_EVERY
from dinotools.runtime.run_directory import write_json
from dinotools.runtime.run_log import STEPS, Log
from dinotools.runtime.trackers import Tracker

SKIPPED = "skipped"  # folder of the lists of images of steps that were not taken
# steps in a row without a finite loss after which a run stops; in fp16 the scale of the loss is found by such steps
PATIENCE = {"fp32": 3, "bf16": 3, "fp16": 20}


class Watch:
    """Gathers what every step says of itself, and looks at it every SYNC_EVERY steps and at the end of an epoch.

    Args:
        config: where lists of images go, and what a collapse means.
        precision: resolved compute type.
        state: the run.
        images: for the names of the images of a step.
        trackers: told of every look, besides steps.jsonl.
    """

    def __init__(
        self,
        config: PretrainConfig,
        precision: str,
        state: TrainingState,
        images: ImageSource,
        trackers: Sequence[Tracker] = (),
    ) -> None:
        self.config, self.state, self.images, self.trackers = config, state, images, trackers
        self.patience = PATIENCE[precision]
        self.detector = CollapseDetector(config)
        self.log = Log(config.out / STEPS, last_step=state.step) if distributed.is_main() else None
        self.recent: list[tuple[int, Tensor, Tensor]] = []  # step, positions of its images, whether it was skipped
        self.in_a_row = 0

    def after_step(self, outcome: dict[str, Tensor], indices: Tensor, epoch: int, *, end_of_epoch: bool) -> None:
        """Gathers a step, on the device; looks if it is time to.

        Args:
            outcome: what ``train_step`` returned.
            indices: (B,) int64, positions of this rank's images.
            epoch: counted from 1.
            end_of_epoch: whether it was the last step of the epoch.

        Raises:
            RunFailed: too many steps in a row were not finite, or the teacher collapsed with --on-collapse stop.
        """
        values = {name: value for name, value in outcome.items() if name != "skipped"}
        center = getattr(self.state.criterion, "center", None)
        if center is not None:
            values["center_norm"] = center.norm()
        self.state.diagnostics.observe(**values)
        self.recent.append((self.state.step, indices, outcome["skipped"]))
        if self.state.step % SYNC_EVERY == 0 or end_of_epoch:
            self._look(epoch)

    def close(self) -> None:
        """Closes the log and the trackers."""
        if self.log is not None:
            self.log.close()
        for tracker in self.trackers:
            tracker.close()

    def _look(self, epoch: int) -> None:
        means = self.state.diagnostics.read()
        if self.log is not None:
            self.log.write({"step": self.state.step, "epoch": epoch, **means})
        for tracker in self.trackers:
            tracker.write(means, self.state.step)
        self._count_skipped()
        collapse = self.detector.look(self.state.step, means)
        if collapse is not None and self.config.on_collapse == "stop":
            raise RunFailed(collapse.message, self.config.out)
        if collapse is not None and distributed.is_main():
            warn(collapse.message)

    def _count_skipped(self) -> None:
        flags = torch.stack([skipped for _, _, skipped in self.recent]).tolist()
        for (step, indices, _), skipped in zip(self.recent, flags, strict=True):
            self.in_a_row = self.in_a_row + 1 if skipped else 0
            if (skipped and self.patience <= PATIENCE["fp32"]) or self.in_a_row >= self.patience:
                path = self.config.out / SKIPPED / f"step-{step:07d}-rank-{distributed.rank()}.json"
                write_json(path, {"step": step, "images": [self.images.name(int(i)) for i in indices]})
                if distributed.is_main():
                    warn(f"step {step:,} was skipped: its loss or gradient is not finite; its images are in {path}")
            if self.in_a_row >= self.patience:
                what = f"{self.in_a_row} steps in a row had a loss or gradient that is not finite"
                raise RunFailed(what, f"step {step:,}", NOT_FINITE_REMEDY)
        self.recent.clear()
