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

from dinotools.configs.files import as_document, differences
from dinotools.configs.pretraining import PretrainConfig
from dinotools.models.checkpoint_files import BACKBONE_FILE, read_checkpoint
from dinotools.models.export.safetensors_file import write_backbone
from dinotools.pretraining.networks import model_description
from dinotools.pretraining.schedules import steps_in_epoch
from dinotools.pretraining.step import NOT_FINITE_REMEDY, TrainingState
from dinotools.runtime import distributed
from dinotools.runtime.console import warn
from dinotools.runtime.errors import DinotoolsError, RunFailed
from dinotools.runtime.run_directory import write_atomically

LATEST = "checkpoint.pth"


# options that change where a run computes and what it writes, but nothing that is computed from a step to the next
MAY_DIFFER = frozenset(
    {"out", "overwrite", "resume", "override", "force", "dry_run", "init_from"}
    | {"save_every", "save_minutes", "keep_every", "track", "on_collapse"}
    | {"workers", "device", "download", "max_bad", "compile", "checkpoint_activations"}
    | {"gpus", "slurm", "nodes", "partition", "hours", "slurm_options"}
)


def save(path: Path, state: TrainingState, config: PretrainConfig, n_images: int) -> None:
    """Writes a checkpoint atomically, and the teacher's backbone by itself beside it.

    Args:
        path: the file.
        state: what to save.
        config: the options of the run; those and n_images are compared on resuming.
        n_images: images of the data set, which sets the schedules' length.

    Raises:
        RunFailed: a weight is not finite, or the disk is full; the file is left as it was.
    """
    norms = torch._foreach_norm(list(state.student.parameters()))
    if not torch.stack(norms).isfinite().all():
        raise RunFailed("the weights are not finite", path.parent, NOT_FINITE_REMEDY)
    content = {
        "student": state.student.state_dict(),
        "teacher": state.teacher.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "dino_loss": state.criterion.state_dict(),
        "fp16_scaler": state.scaler.state_dict(),
        "epoch": state.step // steps_in_epoch(config, n_images),
        "step": state.step,
        "diagnostics": state.diagnostics.state_dict(),
        "model": model_description(config),
        "config": as_document(config),
        "n_images": n_images,
    }
    try:
        write_atomically(path, lambda temporary: torch.save(content, temporary))
        if path.name == LATEST:
            description = model_description(config) | {"key": "teacher"}
            write_backbone(path.with_name(BACKBONE_FILE), state.teacher.backbone, description)
    except (OSError, RuntimeError) as error:  # torch says RuntimeError where its writer meets a full disk
        raise RunFailed(
            f"cannot be written ({error})",
            path,
            "The earlier checkpoint, if there is one, is whole: free some space and repeat the command with --resume.",
        ) from error


def restore(path: Path, state: TrainingState, config: PretrainConfig, n_images: int) -> None:
    """Puts a checkpoint into the state, so that the run goes on as if it had never stopped.

    Args:
        path: a checkpoint of ``save``.
        state: freshly built with the same options.
        config: the options of the run that resumes.
        n_images: images of its data set.

    Raises:
        DinotoolsError: the file is no checkpoint of ours, or the options differ.
    """
    content = read_checkpoint(path, mapped=False)  # the run will replace the file
    if not {"step", "config", "n_images"} <= content.keys():
        raise DinotoolsError(
            "does not say at which step it stopped", path, "Start from its weights with --init-from and a new --out."
        )
    changed = differences(content["config"], config, may_differ=MAY_DIFFER)
    if n_images != content["n_images"]:
        changed.append(f"the images were {content['n_images']:,}, now {n_images:,}")
    listed = "; ".join(changed)
    if changed and not config.override:
        raise DinotoolsError(
            f"was made with other options ({listed})",
            path,
            "Repeat the first command with --resume, accept the difference with --override, or start anew with "
            "--init-from and a new --out.",
        )
    try:
        _load(content, state)
    except (RuntimeError, ValueError) as error:
        raise DinotoolsError(
            f"does not fit these options ({listed})", path, "--override is for options that leave the networks alone."
        ) from error
    if changed:
        warn(f"going on with other options: {listed}")
        # schedules go by epochs: the run goes on from the same place in them
        saved_epoch_images = content["config"].get("epoch_images", content["n_images"])
        epochs_done = content["step"] / (saved_epoch_images // content["config"]["batch_size"])
        state.step = round(epochs_done * steps_in_epoch(config, n_images))


def _load(content: dict[str, Any], state: TrainingState) -> None:
    state.student.load_state_dict(content["student"])
    state.teacher.load_state_dict(content["teacher"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.criterion.load_state_dict(content["dino_loss"])
    state.scaler.load_state_dict(content["fp16_scaler"])
    state.diagnostics.load_state_dict(content.get("diagnostics", {}))  # earlier versions had none
    state.step = content["step"]


class Saver:
    """Decides when the state is written.

    ``checkpoint.pth`` is rewritten every ``save_every`` epochs, whenever ``save_minutes`` have passed since, and at
    the end; every ``keep_every`` epochs a copy such as ``checkpoint0020.pth`` stays.
    """

    def __init__(self, config: PretrainConfig, n_images: int) -> None:
        self.config = config
        self.n_images = n_images
        self.saved_at = time.monotonic()

    def after_step(self, state: TrainingState) -> None:
        """Saves if it is time to."""
        epoch, within = divmod(state.step, steps_in_epoch(self.config, self.n_images))
        finished = within == 0
        if finished and self.config.keep_every and epoch % self.config.keep_every == 0 and distributed.is_main():
            # first: a run resumed from the other one would not come by here again
            save(self.config.out / f"checkpoint{epoch:04d}.pth", state, self.config, self.n_images)
        due = finished and (epoch % self.config.save_every == 0 or epoch == self.config.epochs)
        if due or time.monotonic() - self.saved_at >= 60 * self.config.save_minutes:
            self.save(state)

    def save(self, state: TrainingState) -> None:
        """Rewrites ``checkpoint.pth``; all ranks have the same state, and the first writes it."""
        if distributed.is_main():
            save(self.config.out / LATEST, state, self.config, self.n_images)
        self.saved_at = time.monotonic()
