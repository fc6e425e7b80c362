"""The state of a training run on disk: complete, atomic, in the layout of the official checkpoints.

Top-level keys are the official ones (``student``, ``teacher``, ``optimizer``, ``epoch``, ``dino_loss``,
``fp16_scaler``) plus ``step``, ``model`` (architecture) and ``config``. Random numbers need no state: each is a
function of the seed and the step, or of the seed, the epoch and the image.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from dinotools.configs.files import as_document
from dinotools.configs.pretraining import PretrainConfig
from dinotools.models.checkpoint_files import read_checkpoint
from dinotools.pretraining.networks import model_description
from dinotools.pretraining.step import TrainingState
from dinotools.runtime.errors import DinotoolsError
from dinotools.runtime.run_directory import write_atomically

LATEST = "checkpoint.pth"


# options that change where a run computes and what it writes, but nothing that is computed from a step to the next
MAY_DIFFER = frozenset(
    {"out", "overwrite", "resume", "init_from", "save_every", "save_minutes", "keep_every"}
    | {"workers", "device", "download", "max_bad"}
)


def save(path: Path, state: TrainingState, *, epoch: int, model: dict[str, Any], config: dict[str, Any]) -> None:
    """Writes a checkpoint atomically.

    Args:
        path: the file.
        state: what to save.
        epoch: finished epochs.
        model: architecture, as ``models.checkpoints`` reads it.
        config: the resolved options, for the comparison on resuming.
    """
    content = {
        "student": state.student.state_dict(),
        "teacher": state.teacher.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "dino_loss": state.criterion.state_dict(),
        "fp16_scaler": state.scaler.state_dict(),
        "epoch": epoch,
        "step": state.step,
        "loss_sum": state.loss_sum,
        "model": model,
        "config": config,
    }
    write_atomically(path, lambda temporary: torch.save(content, temporary))


def restore(path: Path, state: TrainingState, config: dict[str, Any]) -> None:
    """Puts a checkpoint into the state, so that the run goes on as if it had never stopped.

    Args:
        path: a checkpoint of ``save``.
        state: freshly built with the same options.
        config: the options of the run that resumes.

    Raises:
        DinotoolsError: the file is no checkpoint of ours, or the options differ.
    """
    content = read_checkpoint(path)
    if "step" not in content or "config" not in content:
        raise DinotoolsError(
            "does not say at which step it stopped", path, "Start from its weights with --init-from and a new --out."
        )
    saved = content["config"]
    changed = sorted(
        name for name in (saved.keys() | config.keys()) - MAY_DIFFER if saved.get(name) != config.get(name)
    )
    if changed:
        listed = "; ".join(f"{name} was {saved.get(name)}, now {config.get(name)}" for name in changed)
        raise DinotoolsError(
            f"was made with other options ({listed})",
            path,
            "Repeat the first command with --resume, or start anew with --init-from and a new --out.",
        )
    state.student.load_state_dict(content["student"])
    state.teacher.load_state_dict(content["teacher"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.criterion.load_state_dict(content["dino_loss"])
    state.scaler.load_state_dict(content["fp16_scaler"])
    state.loss_sum.copy_(content["loss_sum"])
    state.step = content["step"]


class Saver:
    """Decides when the state is written.

    ``checkpoint.pth`` is rewritten every ``save_every`` epochs, whenever ``save_minutes`` have passed since, and at
    the end; every ``keep_every`` epochs a copy such as ``checkpoint0020.pth`` stays.
    """

    def __init__(self, config: PretrainConfig, steps_per_epoch: int) -> None:
        self.config = config
        self.steps_per_epoch = steps_per_epoch
        self.saved_at = time.monotonic()

    def after_step(self, state: TrainingState) -> None:
        """Saves if it is time to."""
        epoch, within = divmod(state.step, self.steps_per_epoch)
        finished = within == 0
        due = finished and (epoch % self.config.save_every == 0 or epoch == self.config.epochs)
        if due or time.monotonic() - self.saved_at >= 60 * self.config.save_minutes:
            self._save(state, LATEST, epoch)
            self.saved_at = time.monotonic()
        if finished and self.config.keep_every and epoch % self.config.keep_every == 0:
            self._save(state, f"checkpoint{epoch:04d}.pth", epoch)

    def _save(self, state: TrainingState, name: str, epoch: int) -> None:
        save(
            self.config.out / name,
            state,
            epoch=epoch,
            model=model_description(self.config),
            config=as_document(self.config),
        )
