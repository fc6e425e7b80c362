"""The state of a fine-tuning run on disk, at the end of an epoch.

``state_dict`` holds the network that is measured (``backbone.*`` and ``head.*``), so the file serves as ``--ckpt`` of
every other command; where that is the moving average, ``trained`` holds the weights that the optimizer works on. Random
numbers need no state: each is a function of the seed and the step, or of the seed, the view and the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from dinotools.configs.files import as_document, differences
from dinotools.configs.finetuning import FinetuneConfig
from dinotools.features.extraction import View
from dinotools.models.checkpoint_files import read_checkpoint
from dinotools.runtime.errors import DinotoolsError, RunFailed
from dinotools.runtime.run_directory import write_atomically

LATEST = "checkpoint.pth"
REMEDY = "Start anew with a lower --lr, or with --precision bf16 or fp32."

# options that change where a run computes and what it says, but nothing that is computed from a step to the next
MAY_DIFFER = frozenset(
    {"out", "overwrite", "resume", "workers", "device", "download", "max_bad", "eval_every", "paper_row"}
)


@dataclass
class TrainingState:
    """Everything that a step reads and changes.

    Args:
        model: the network that is optimised.
        averaged: its moving average, if there is one.
        optimizer: over the model's parameters.
        scaler: of the loss in fp16; otherwise disabled.
        view: how an image is normalised, and cut when it is measured.
        start: what the run says of the backbone it started from.
        classes: names of the classes.
        epoch: epochs done.
    """

    model: nn.Module
    averaged: AveragedModel | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    view: View
    start: dict[str, Any]
    classes: list[str]
    epoch: int = 0

    @property
    def measured(self) -> nn.Module:
        """The network whose accuracy counts."""
        return self.model if self.averaged is None else self.averaged.module


def save(path: Path, state: TrainingState, config: FinetuneConfig, n_images: int) -> None:
    """Writes a checkpoint atomically.

    Raises:
        RunFailed: a weight is not finite; the file is left as it was.
    """
    if not torch.stack(torch._foreach_norm(list(state.model.parameters()))).isfinite().all():
        raise RunFailed("the weights are not finite", path.parent, REMEDY)
    content = {
        "state_dict": state.measured.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "fp16_scaler": state.scaler.state_dict(),
        "epoch": state.epoch,
        "model": {name: state.start.get(name) for name in ("arch", "patch_size", "num_heads", "mean", "std")},
        "start": state.start,
        "classes": state.classes,
        "config": as_document(config),
        "n_images": n_images,
    }
    if state.averaged is not None:
        content["trained"] = state.model.state_dict()
    write_atomically(path, lambda temporary: torch.save(content, temporary))


def restore(path: Path, state: TrainingState, config: FinetuneConfig, n_images: int) -> None:
    """Puts a checkpoint into the state, so that the run goes on as if it had never stopped.

    Args:
        path: a checkpoint of ``save``.
        state: freshly built with the same options.
        config: the options of the run that resumes.
        n_images: its training images, which set the schedule's length.

    Raises:
        DinotoolsError: the file is no checkpoint of ours, or options, images or classes differ.
    """
    content = read_checkpoint(path, mapped=False)  # the run will replace the file
    if not {"start", "classes", "config", "n_images"} <= content.keys():
        raise DinotoolsError("is no checkpoint of a fine-tuning run", path, "Choose another --out.")
    changed = differences(content["config"], config, may_differ=MAY_DIFFER)
    if n_images != content["n_images"]:
        changed.append(f"the images were {content['n_images']:,}, now {n_images:,}")
    if state.classes != content["classes"]:
        changed.append("the classes were others")
    if changed:
        raise DinotoolsError(
            f"was made with other options ({'; '.join(changed)})",
            path,
            "Repeat the first command with --resume, or start anew with another --out.",
        )
    state.measured.load_state_dict(content["state_dict"])
    if state.averaged is not None:
        state.model.load_state_dict(content["trained"])
        state.averaged.n_averaged.fill_(1)  # no longer 0: the next weights are averaged in, not copied
    state.optimizer.load_state_dict(content["optimizer"])
    state.scaler.load_state_dict(content["fp16_scaler"])
    state.start, state.epoch = content["start"], content["epoch"]
