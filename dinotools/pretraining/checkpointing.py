"""The state of a training run on disk: complete, atomic, in the layout of the official checkpoints.

Top-level keys are the official ones (``student``, ``teacher``, ``optimizer``, ``epoch``, ``dino_loss``,
``fp16_scaler``) plus ``step``, ``model`` (architecture) and ``config``. Random numbers need no state: each is a
function of the seed and the step, or of the seed, the epoch and the image.
"""

from __future__ import annotations

import shutil
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
from dinotools.runtime.run_log import LOG, STEPS, renumber

LATEST = "checkpoint.pth"


# options that change where a run computes and what it writes, but nothing that is computed from a step to the next
MAY_DIFFER = frozenset(
    {"out", "overwrite", "resume", "override", "force", "dry_run", "init_from"}
    | {"save_every", "save_minutes", "keep_every", "track", "on_collapse", "paper_row"}
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
        "seconds": state.seconds,
        "diagnostics": state.diagnostics.state_dict(),
        "model": model_description(config),
        "config": as_document(config),
        "n_images": n_images,
    }
    file = path
    try:
        write_atomically(path, lambda temporary: torch.save(content, temporary))
        if path.name == LATEST:
            description = model_description(config) | {"key": "teacher"}
            file = path.with_name(BACKBONE_FILE)
            write_backbone(file, state.teacher.backbone, description)
    except (OSError, RuntimeError) as error:  # torch says RuntimeError where its writer meets a full disk
        free = shutil.disk_usage(path.parent).free / 2**20
        why = getattr(error, "strerror", None) or "torch could not"
        raise RunFailed(
            f"cannot be written ({why}; {free:,.0f} MiB are free there)",
            file,
            "The earlier checkpoint, if there is one, is whole: free some space and repeat the command with --resume.",
        ) from error


def found_by_all(path: Path) -> bool:
    """Whether there is a checkpoint. The ranks meet here: some that restore it and others that do not would train on.

    Raises:
        DinotoolsError: only some of them see it.
    """
    found = path.is_file()
    finders, ranks = int(distributed.sum_over_ranks(torch.tensor(int(found)))), distributed.world_size()
    if finders not in (0, ranks):
        raise DinotoolsError(
            f"is there for {finders} of the {ranks} processes alone",
            path,
            "Give --out on a disk that all machines share.",
        )
    return found


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
            f"does not fit these options ({listed})",
            path,
            "--override is for options that leave networks and optimizer alone.",
        ) from error
    if changed:
        warn(f"going on with other options: {listed}")
        _count_anew(path, state, config, n_images, content)


def _count_anew(
    path: Path, state: TrainingState, config: PretrainConfig, n_images: int, content: dict[str, Any]
) -> None:
    """Schedules go by epochs: where an epoch has another number of steps, the run goes on from the same place in them.

    The lines of the logs are numbered anew, or those beyond the new step would be taken for work that was lost.
    """
    saved_epoch_images = content["config"].get("epoch_images", content["n_images"])
    before, now = saved_epoch_images // content["config"]["batch_size"], steps_in_epoch(config, n_images)
    if before == now:
        return
    state.step = round(content["step"] / before * now)
    if distributed.is_main():
        for name in (LOG, STEPS):
            renumber(path.with_name(name), now / before)
        save(path, state, config, n_images)  # so that this happens once


def _load(content: dict[str, Any], state: TrainingState) -> None:
    state.student.load_state_dict(content["student"])
    state.teacher.load_state_dict(content["teacher"])
    saved, groups = (o["param_groups"] for o in (content["optimizer"], state.optimizer.state_dict()))
    if [group.keys() for group in saved] != [group.keys() for group in groups]:
        raise ValueError("another optimizer")  # torch would take its state, and fail at the first step
    state.optimizer.load_state_dict(content["optimizer"])
    state.criterion.load_state_dict(content["dino_loss"])
    state.scaler.load_state_dict(content["fp16_scaler"])
    state.diagnostics.load_state_dict(content.get("diagnostics", {}))  # earlier versions had none
    state.step = content["step"]
    state.seconds = content.get("seconds", 0.0)


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
