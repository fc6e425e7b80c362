"""One step of DINO, and the state that it changes.

Source: DINO, Algorithm 1; official ``main_dino.train_one_epoch``.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from dinotools.models.multicrop import MultiCropWrapper
from dinotools.pretraining import optimizers
from dinotools.pretraining.loss import DINOLoss
from dinotools.pretraining.teacher import update_teacher

NOT_FINITE_REMEDY = (
    "The last checkpoint is sound: start anew from it with --init-from and a new --out, with a lower --lr, a smaller "
    "--clip-grad, or --precision bf16 or fp32."
)


@dataclass
class TrainingState:
    """Everything that a step reads and changes.

    Args:
        student: network that is optimised.
        teacher: its moving average, without gradients.
        criterion: the loss, with the centre of the teacher.
        optimizer: over the student's parameters.
        scaler: of the loss in fp16; otherwise disabled.
        loss_sum: sum of the losses of the current epoch, a scalar on the device.
        step: steps taken.
    """

    student: MultiCropWrapper
    teacher: MultiCropWrapper
    criterion: DINOLoss
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    loss_sum: Tensor
    step: int = 0


def train_step(
    state: TrainingState,
    crops: Sequence[Tensor],
    *,
    epoch: int,
    lr: float,
    weight_decay: float,
    momentum: float,
    clip_grad: float = 3.0,
    freeze_last_layer: bool = False,
    autocast: AbstractContextManager[object] | None = None,
) -> Tensor:
    """One step of DINO.

    Args:
        state: networks, loss and optimizer; changed in place.
        crops: normalised crops, each (B, 3, side, side); the first two are the global ones.
        epoch: counted from 0.
        lr: learning rate of this step.
        weight_decay: weight decay of this step.
        momentum: share of the old teacher that is kept.
        clip_grad: largest gradient norm per parameter; 0 does not clip.
        freeze_last_layer: whether the prototypes stay as they are.
        autocast: context for the forward passes, in half precision.

    Returns:
        The loss, a detached scalar that still lies on the device.
    """
    # schedule
    optimizers.set_rates(state.optimizer, lr, weight_decay)
    # forward: the teacher sees the global crops, the student all
    with autocast or nullcontext():
        with torch.no_grad():
            teacher_output = state.teacher(crops[:2])
        student_output = state.student(crops)
    # loss
    loss = state.criterion(student_output, teacher_output, epoch)
    # student update
    state.optimizer.zero_grad(set_to_none=True)
    state.scaler.scale(loss).backward()
    state.scaler.unscale_(state.optimizer)
    optimizers.clip_gradients(state.student, clip_grad)
    if freeze_last_layer:
        optimizers.cancel_last_layer_gradients(state.student)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    # teacher update
    update_teacher(state.teacher, state.student, momentum)
    return loss.detach()
