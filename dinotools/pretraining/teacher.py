"""The teacher: a moving average of the student.

Source: DINO, section 3.1 "Teacher network": theta_t <- m theta_t + (1 - m) theta_s after each step.
"""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """One EMA step over all parameters; buffers (batch-norm statistics) are the teacher's own, as officially."""
    averaged: list[torch.Tensor] = list(teacher.parameters())
    current: list[torch.Tensor] = list(student.parameters())
    torch._foreach_mul_(averaged, momentum)
    torch._foreach_add_(averaged, current, alpha=1 - momentum)
