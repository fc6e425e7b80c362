"""The teacher: a moving average of the student, or one of the paper's copies of it.

Source: DINO, section 3.1 "Teacher network": theta_t <- m theta_t + (1 - m) theta_s after each step; Fig. 6 for the
copies. With s_t the student's weights before step t, the teacher of step t has

=====================  ==============================================================================
``momentum``           the moving average of s_1 ... s_t
``student``            s_t
``previous-iteration``  s_(t-1)
``previous-epoch``     the student's weights at the end of the epoch before, throughout an epoch
=====================  ==============================================================================

and before there is such a student, the weights that both began with. A copy is made at the moment when the student
has the weights in question, so that nothing but the teacher itself has to be remembered, or saved.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dinotools.configs.distillation import TeacherName


def before_update(kind: TeacherName, teacher: nn.Module, student: nn.Module) -> None:
    """To be called before the optimizer's step."""
    if kind == "previous-iteration":
        update_teacher(teacher, student, 0.0)


def after_update(
    kind: TeacherName,
    teacher: nn.Module,
    student: nn.Module,
    momentum: float,
    *,
    end_of_epoch: bool = False,
    unless: Tensor | None = None,
) -> None:
    """To be called after the optimizer's step.

    Args:
        kind: how the teacher follows the student.
        teacher: changed in place.
        student: with the weights that this step has led to.
        momentum: share of the old teacher that a moving average keeps.
        end_of_epoch: whether this was the last step of an epoch.
        unless: where this scalar on the device is 1, a moving average stays as it is; 0 otherwise.
    """
    if kind == "momentum":
        update_teacher(teacher, student, momentum, unless)
    elif kind == "student" or (kind == "previous-epoch" and end_of_epoch):
        update_teacher(teacher, student, 0.0)


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float, unless: Tensor | None = None) -> None:
    """One step of the moving average over the teacher's parameters, which find the student's by their names.

    Buffers (batch-norm statistics) are the teacher's own, as officially, and so is what the student has beyond the
    teacher, such as a predictor. Nothing waits for the device.

    Args:
        teacher: changed in place.
        student: has a parameter of the same name and shape for each of the teacher's.
        momentum: share of the old teacher that is kept.
        unless: where this scalar on the device is 1, nothing changes; 0 otherwise.
    """
    theirs = dict(student.named_parameters())
    averaged: list[Tensor] = []
    current: list[Tensor] = []
    for name, parameter in teacher.named_parameters():
        averaged.append(parameter)
        current.append(theirs[name])
    if unless is None:
        torch._foreach_lerp_(averaged, current, 1 - momentum)
    else:
        # of the small share that moves, not of the large one that stays: near 1, float32 would round it off
        weight = ((1 - unless) * (1 - momentum)).to(averaged[0].dtype)
        torch._foreach_lerp_(averaged, current, [weight] * len(averaged))
