"""Training one linear classifier: its state, a step, the end of an epoch, and how it is saved and goes on.

Source: DINO, section 4.1; official ``eval_linear.py``. Images and features come from elsewhere (``paper``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinotools.configs import files
from dinotools.configs.linear import LinearConfig
from dinotools.evaluation.linear.classifier import Score, write_classifier
from dinotools.features.pooling import Pooling
from dinotools.models.checkpoint_files import read_checkpoint
from dinotools.runtime import run_directory
from dinotools.runtime.errors import DinotoolsError, RunFailed

MOMENTUM = 0.9
LR = 0.001  # official default, of a ViT
CONVNET_LR = 0.075  # 0.3 at 1024 images a step, as in the official ResNet-50 log
# options that change where a run computes and what it writes, but nothing that is computed from an epoch to the next;
# the network and the images are compared by what they are, not by their paths
MAY_DIFFER = frozenset(
    {"out", "overwrite", "resume", "workers", "device", "download", "max_bad", "batch_size", "lrs", "holdout"}
    | {"ckpt", "data", "train", "val"}
)


def base_lr(config: LinearConfig, patch_size: int | None) -> float:
    """The learning rate for 256 images a step, where none is given that of the kind of network."""
    if config.lr is not None:
        return config.lr
    return CONVNET_LR if patch_size is None else LR


def effective_lr(lr: float, batch_size: int) -> float:
    """The learning rate of a step of so many images (Goyal et al. 2017)."""
    return lr * batch_size / 256


@dataclass
class TrainingState:
    """Everything that training reads and changes.

    Args:
        classifier: what is trained.
        optimizer: over its parameters.
        scheduler: of the learning rate, one step an epoch.
        records: of each finished epoch: epoch (from 1), lr, train_loss, loss, top1 and top5 on the test images.
    """

    classifier: nn.Linear
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.CosineAnnealingLR
    records: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def of(cls, classifier: nn.Linear, lr: float, epochs: int) -> TrainingState:
        """The state before the first step, with the effective learning rate lr."""
        optimizer = torch.optim.SGD(classifier.parameters(), lr=lr, momentum=MOMENTUM, weight_decay=0)
        return cls(classifier, optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs, eta_min=0))

    @property
    def epoch(self) -> int:
        """Epochs that are finished."""
        return len(self.records)


def train_step(state: TrainingState, features: Tensor, labels: Tensor) -> Tensor:
    """One step of SGD on the mean cross-entropy.

    Args:
        state: changed in place.
        features: (B, D), on the classifier's device.
        labels: (B,) int64, there too.

    Returns:
        The loss before the step, a detached scalar on the device.
    """
    loss = F.cross_entropy(state.classifier(features), labels)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    state.optimizer.step()
    return loss.detach()


def end_epoch(state: TrainingState, train_loss: float, scored: Score) -> dict[str, float]:
    """Lowers the learning rate and notes how the epoch went.

    Raises:
        RunFailed: the loss is not finite.
    """
    if not math.isfinite(train_loss):
        raise RunFailed(f"the loss of epoch {state.epoch + 1} is {train_loss}", remedy="Lower --lr.")
    lr = float(state.scheduler.get_last_lr()[0])
    record = {"epoch": state.epoch + 1, "lr": lr, "train_loss": train_loss}
    record |= {"loss": scored.loss, "top1": scored.top1, "top5": scored.top5}
    state.records.append(record)
    state.scheduler.step()
    return record


def claim_out(config: LinearConfig) -> None:
    """Takes the output directory, if there is one, for a new run.

    Raises:
        DinotoolsError: it holds something that may not be replaced.
    """
    if config.out is not None:
        inputs = (config.ckpt, config.data, config.train, config.val, config.features, config.evaluate)
        run_directory.claim(config.out, files.dump(config), overwrite=config.overwrite, inputs=inputs)


def identity_of(config: LinearConfig, sha256: str | None, n_images: int) -> dict[str, Any]:
    """What a run must have in common with the one that it goes on with."""
    options = {name: value for name, value in files.as_document(config).items() if name not in MAY_DIFFER}
    return options | {"network": sha256, "training images": n_images}


def save(
    path: Path,
    state: TrainingState,
    pooling: Pooling,
    classes: list[str],
    settings: dict[str, Any],
    identity: dict[str, Any],
) -> None:
    """Writes classifier and state atomically, in the official layout and with what resuming needs."""
    write_classifier(
        path,
        state.classifier.weight,
        state.classifier.bias,
        pooling,
        classes,
        settings,
        epoch=state.epoch,
        optimizer=state.optimizer.state_dict(),
        scheduler=state.scheduler.state_dict(),
        best_acc=max(record["top1"] for record in state.records),
        records=state.records,
        identity=identity,
    )


def restore(path: Path, state: TrainingState, classes: list[str], identity: dict[str, Any]) -> None:
    """Puts a file of ``save`` into a freshly built state, which then goes on as if it had never stopped.

    Raises:
        DinotoolsError: the file is none of ours, or was made with other options, another network or other images.
    """
    content = read_checkpoint(path, mapped=False)  # the run will replace the file
    if not {"identity", "records", "optimizer", "scheduler"} <= content.keys():
        raise DinotoolsError("does not say how it was trained", path, "Start anew in another --out.")
    saved = content["identity"] | {"classes": content["classes"]}
    now = identity | {"classes": classes}
    changed = [
        f"{name} was {saved.get(name)}, now {now.get(name)}" if name != "classes" else "the classes were others"
        for name in sorted(saved.keys() | now.keys())
        if saved.get(name) != now.get(name)
    ]
    if changed:
        raise DinotoolsError(
            f"was made with other options ({'; '.join(changed)})",
            path,
            "Repeat the first command with --resume, or start anew in another --out.",
        )
    weights = content["state_dict"]
    state.classifier.load_state_dict({name: weights[f"module.linear.{name}"] for name in ("weight", "bias")})
    state.optimizer.load_state_dict(content["optimizer"])
    state.scheduler.load_state_dict(content["scheduler"])
    state.records[:] = content["records"]
