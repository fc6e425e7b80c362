"""The cross-entropy of all (teacher view, other student crop) pairs, in little memory.

With K = 65,536 prototypes the logits of a batch are the largest tensors of a step. Here they stay in the type they come
in, and nothing else of their size is kept: distributions exist for a part of the batch at a time, in float32, and are
computed again for the gradient, which is known in closed form.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dinotools.configs.crops import N_GLOBAL

# logits in a part: as many as the caches of a processor hold, or enough to keep an accelerator busy
PART = {"cpu": 2**20}
PART_ON_ACCELERATORS = 2**25


class MultiCropCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of the pairs, and what the teacher's distributions are like, in one pass.

    Let s_v be the student's logits for crop v over its temperature, w_v the number of teacher views other than v, and
    t_v the mean of the teacher's distributions for those views. The w_v pairs of a crop share one log-softmax::

        loss           = sum over crops v and images of  w_v * (logsumexp(s_v) - t_v . s_v)  / (n_pairs * B)
        d loss / d s_v =                                 w_v * (softmax(s_v) - t_v)          / (n_pairs * B)
    """

    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, offset: Tensor, student_temp: float, teacher_temp: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sums in float32, or in float64 for float64 logits of the student.

        Args:
            ctx: what autograd keeps for backward.
            student: logits (n_crops, B, K) of any floating type; the first two crops are the teacher's views.
            teacher: logits (2, B, K) of any floating type.
            offset: (1, 1, K) or (2, 1, K), taken from the teacher's logits.
            student_temp: temperature of the student.
            teacher_temp: temperature of the teacher.

        Returns:
            The loss; the mean entropy of the teacher's 2 * B distributions, in nats; and their mean, (K,). Only the
            loss has a gradient, and only for the student.
        """
        n_crops, batch, out_dim = student.shape
        log_norm = student.new_empty(n_crops, batch, 1, dtype=torch.promote_types(student.dtype, torch.float32))
        total, entropy, mean = log_norm.new_zeros(()), log_norm.new_zeros(()), log_norm.new_zeros(out_dim)
        weight = _weights(log_norm)
        for part, s in _parts(student, log_norm.dtype):
            log_q = _sharpened(teacher[:, part], offset, teacher_temp, s.dtype).log_softmax(dim=-1)
            q = log_q.exp()
            entropy -= torch.dot(q.flatten(), log_q.flatten())
            mean += q.sum(dim=(0, 1))
            # what is taken from all logits of a row changes nothing, since t_v sums to 1
            largest = student[:, part].amax(dim=-1, keepdim=True).to(s.dtype) / student_temp
            torch.add(-largest, student[:, part], alpha=1 / student_temp, out=s)
            # view 0 is predicted from crop 1, view 1 from crop 0; local crops predict both, so they are added up first
            total -= torch.dot(s[:N_GLOBAL].flatten(), q.flip(0).flatten())
            total -= torch.dot(s[N_GLOBAL:].sum(dim=0).flatten(), q.sum(dim=0).flatten())
            log_sum = s.exp_().sum(dim=-1, keepdim=True).log_()
            total += (weight * log_sum).sum()
            log_norm[:, part] = log_sum + largest
        ctx.save_for_backward(student, teacher, offset, log_norm)
        ctx.temps = student_temp, teacher_temp
        ctx.mark_non_differentiable(entropy, mean)
        return total / (weight.sum() * batch), entropy.div_(N_GLOBAL * batch), mean.div_(N_GLOBAL * batch)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient for the student, in the type of its logits."""
        student, teacher, offset, log_norm = ctx.saved_tensors
        student_temp, teacher_temp = ctx.temps
        weight = _weights(log_norm)
        scale = grad_loss * weight / (weight.sum() * student.shape[1] * student_temp)
        gradient = torch.empty_like(student)
        for part, s in _parts(student, log_norm.dtype):
            q = _sharpened(teacher[:, part], offset, teacher_temp, s.dtype).softmax(dim=-1)
            torch.add(-log_norm[:, part], student[:, part], alpha=1 / student_temp, out=s).exp_()
            s[:N_GLOBAL].sub_(q.flip(0))
            s[N_GLOBAL:].sub_(q.mean(dim=0))
            torch.mul(s, scale, out=gradient[:, part])
        return gradient, None, None, None, None


def _sharpened(teacher: Tensor, offset: Tensor, temp: float, dtype: torch.dtype) -> Tensor:
    """Whose softmax is the teacher's distribution."""
    return torch.add(offset.to(dtype) / -temp, teacher, alpha=1 / temp)


def _parts(student: Tensor, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
    """Slices of the batch, each with room for the logits of its images, which is the same memory every time."""
    n_crops, batch, out_dim = student.shape
    images = max(1, PART.get(student.device.type, PART_ON_ACCELERATORS) // (n_crops * out_dim))
    room = student.new_empty(n_crops, min(images, batch), out_dim, dtype=dtype)
    for start in range(0, batch, images):
        yield slice(start, start + images), room[:, : batch - start]


def _weights(log_norm: Tensor) -> Tensor:
    """How many views each crop is to predict, (n_crops, 1, 1): the other one for a global crop, both for a local."""
    weight = log_norm.new_full((len(log_norm), 1, 1), N_GLOBAL)
    weight[:N_GLOBAL] = 1
    return weight
