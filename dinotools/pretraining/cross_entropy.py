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

# logits in a part: enough to keep two cores, or an accelerator, busy; 2**20 costs two cores 15 % more time
PART = {"cpu": 2**22}
PART_ON_ACCELERATORS = 2**25


class MultiCropCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of the pairs, and what the teacher's distributions are like, in one pass.

    Let s_v be the student's logits for crop v over its temperature, w_v the number of teacher views other than v, and
    t_v the mean of the teacher's distributions for those views. The w_v pairs of a crop share one log-softmax, and
    crops need not come together: what each adds to the loss does not hang on the others::

        loss           = sum over crops v and images of  w_v * (logsumexp(s_v) - t_v . s_v)  / (n_pairs * B)
        d loss / d s_v =                                 w_v * (softmax(s_v) - t_v)          / (n_pairs * B)
    """

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        teacher: Tensor,
        offset: Tensor,
        student_temp: float,
        teacher_temp: float,
        first_crop: int = 0,
        n_crops: int | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sums in float32, or in float64 for float64 logits of the student.

        Args:
            ctx: what autograd keeps for backward.
            student: logits (crops, B, K) of any floating type.
            teacher: logits (2, B, K) of any floating type.
            offset: (1, 1, K) or (2, 1, K), taken from the teacher's logits.
            student_temp: temperature of the student.
            teacher_temp: temperature of the teacher.
            first_crop: which crop the student's logits begin with; 0 and 1 are the teacher's views.
            n_crops: how many crops there are in all, if more than these.

        Returns:
            What these crops add to the loss; the mean entropy of the teacher's 2 * B distributions, in nats; and their
            mean, (K,). Only the loss has a gradient, and only for the student.
        """
        crops, batch, out_dim = student.shape
        log_norm = student.new_empty(crops, batch, 1, dtype=torch.promote_types(student.dtype, torch.float32))
        total, entropy, mean = log_norm.new_zeros(()), log_norm.new_zeros(()), log_norm.new_zeros(out_dim)
        weight = _weights(log_norm, first_crop)
        n_pairs = N_GLOBAL * ((n_crops or crops) - 1)
        for part, s in _parts(student, log_norm.dtype):
            log_q = _sharpened(teacher[:, part], offset, teacher_temp, s.dtype).log_softmax(dim=-1)
            q = log_q.exp()
            entropy -= torch.dot(q.flatten(), log_q.flatten())
            mean += q.sum(dim=(0, 1))
            # what is taken from all logits of a row changes nothing, since t_v sums to 1
            largest = student[:, part].amax(dim=-1, keepdim=True).to(s.dtype) / student_temp
            torch.add(-largest, student[:, part], alpha=1 / student_temp, out=s)
            # view 0 is predicted from crop 1, view 1 from crop 0; local crops predict both, so they are added up first
            other = _other_view(q, first_crop, crops)
            total -= torch.dot(s[: len(other)].flatten(), other.flatten())
            total -= torch.dot(s[len(other) :].sum(dim=0).flatten(), q.sum(dim=0).flatten())
            log_sum = s.exp_().sum(dim=-1, keepdim=True).log_()
            total += (weight * log_sum).sum()
            log_norm[:, part] = log_sum + largest
        ctx.save_for_backward(student, teacher, offset, log_norm)
        ctx.temps, ctx.first_crop, ctx.n_pairs = (student_temp, teacher_temp), first_crop, n_pairs
        ctx.mark_non_differentiable(entropy, mean)
        return total / (n_pairs * batch), entropy.div_(N_GLOBAL * batch), mean.div_(N_GLOBAL * batch)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient for the student, in the type of its logits."""
        student, teacher, offset, log_norm = ctx.saved_tensors
        student_temp, teacher_temp = ctx.temps
        crops, batch, _ = student.shape
        scale = grad_loss * _weights(log_norm, ctx.first_crop) / (ctx.n_pairs * batch * student_temp)
        gradient = torch.empty_like(student)
        for part, s in _parts(student, log_norm.dtype):
            q = _sharpened(teacher[:, part], offset, teacher_temp, s.dtype).softmax(dim=-1)
            torch.add(-log_norm[:, part], student[:, part], alpha=1 / student_temp, out=s).exp_()
            other = _other_view(q, ctx.first_crop, crops)
            s[: len(other)].sub_(other)
            s[len(other) :].sub_(q.mean(dim=0))
            torch.mul(s, scale, out=gradient[:, part])
        return gradient, *[None] * 6


def _sharpened(teacher: Tensor, offset: Tensor, temp: float, dtype: torch.dtype) -> Tensor:
    """Whose softmax is the teacher's distribution."""
    return torch.add(offset.to(dtype) / -temp, teacher, alpha=1 / temp)


def _parts(student: Tensor, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
    """Slices of the batch, each with room for the logits of its images, which is the same memory every time."""
    crops, batch, out_dim = student.shape
    images = max(1, PART.get(student.device.type, PART_ON_ACCELERATORS) // (crops * out_dim))
    room = student.new_empty(crops, min(images, batch), out_dim, dtype=dtype)
    for start in range(0, batch, images):
        yield slice(start, start + images), room[:, : batch - start]


def _other_view(views: Tensor, first_crop: int, crops: int) -> Tensor:
    """What the global ones among these crops are to predict; their number is that of its rows."""
    return views.flip(0)[first_crop : first_crop + crops]


def _weights(log_norm: Tensor, first_crop: int) -> Tensor:
    """How many views each crop is to predict, (crops, 1, 1): the other one for a global crop, both for a local."""
    weight = log_norm.new_full((len(log_norm), 1, 1), N_GLOBAL)
    weight[: max(0, N_GLOBAL - first_crop)] = 1
    return weight
