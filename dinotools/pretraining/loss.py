"""The DINO loss: cross-entropy between a centred, sharpened teacher and a sharpened student.

Source: DINO, section 3.1, equations 1-4, and Algorithm 1; official ``main_dino.DINOLoss``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dinotools.pretraining.schedules import teacher_temp_schedule


class DINOLoss(nn.Module):
    """Cross-entropy of every (teacher view, other student crop) pair, and the running centre of the teacher.

    Args:
        out_dim: number of prototypes K.
        n_crops: crops the student sees; the first two are the global views of the teacher.
        warmup_teacher_temp: teacher temperature at epoch 0.
        teacher_temp: teacher temperature after the warm-up.
        warmup_teacher_temp_epochs: epochs of linear warm-up between the two.
        epochs: epochs of the whole run.
        student_temp: temperature of the student.
        center_momentum: share of the old centre that each call keeps.
    """

    center: Tensor

    def __init__(
        self,
        out_dim: int,
        n_crops: int,
        warmup_teacher_temp: float,
        teacher_temp: float,
        warmup_teacher_temp_epochs: int,
        epochs: int,
        student_temp: float = 0.1,
        center_momentum: float = 0.9,
    ) -> None:
        super().__init__()
        self.n_crops = n_crops
        self.student_temp = student_temp
        self.center_momentum = center_momentum
        self.teacher_temps = teacher_temp_schedule(
            warmup_teacher_temp, teacher_temp, warmup_teacher_temp_epochs, epochs
        )
        self.register_buffer("center", torch.zeros(1, out_dim))

    def forward(self, student_output: Tensor, teacher_output: Tensor, epoch: int) -> Tensor:
        """The loss, and one update of the centre (after its use).

        With q_i the teacher's distribution for view i and s_v the student's logits for crop v over student_temp::

            for each view i, each crop v != i:   total += mean over the batch of  -sum(q_i * log_softmax(s_v))
            loss = total / number of pairs

        Since q_i sums to 1, -sum(q_i * log_softmax(s)) = logsumexp(s) - q_i . s: no log-softmax is ever stored.

        Args:
            student_output: logits (n_crops * B, K), crop after crop.
            teacher_output: logits (2 * B, K), view after view.
            epoch: counted from 0; picks the teacher's temperature.

        Returns:
            Scalar, float32 (float64 for float64 inputs); half-precision logits are widened first.
        """
        student = _at_least_float32(student_output).unflatten(0, (self.n_crops, -1)) / self.student_temp
        teacher = _at_least_float32(teacher_output.detach()).unflatten(0, (2, -1))
        q = ((teacher - self.center) / self.teacher_temps[epoch]).softmax(dim=-1)

        n_pairs = 2 * (self.n_crops - 1)
        # view 0 is predicted from crop 1, view 1 from crop 0; local crops predict both, so they are added up first
        expected = (student[:2] * q.flip(0)).sum() + (student[2:].sum(dim=0) * q.sum(dim=0)).sum()
        log_norm = student.logsumexp(dim=-1)
        total = log_norm[:2].sum() + 2 * log_norm[2:].sum() - expected
        self.update_center(teacher_output)
        return total / (n_pairs * student.shape[1])

    @torch.no_grad()
    def update_center(self, teacher_output: Tensor) -> None:
        """Moves the centre towards the mean of the raw teacher logits (2 * B, K)."""
        mean = _at_least_float32(teacher_output).mean(dim=0, keepdim=True)
        self.center.mul_(self.center_momentum).add_(mean, alpha=1 - self.center_momentum)


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
