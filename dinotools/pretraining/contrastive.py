"""InfoNCE against a queue of past teacher outputs, as in MoCo-v2, for the paper's comparison (Tables 7, 13 and 14)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinotools.configs.crops import N_GLOBAL
from dinotools.runtime import distributed


class InfoNCE(nn.Module):
    """Each student crop has to find the teacher's output for another view of its image among those of the queue.

    Args:
        out_dim: outputs D of the head.
        n_crops: crops the student sees; the first two are the global views of the teacher.
        student_temp: temperature of the cosine similarities.
        queue_size: teacher outputs that serve as negatives, Q; the oldest make room for the newest.
    """

    queue: Tensor

    def __init__(self, out_dim: int, n_crops: int, student_temp: float = 0.2, queue_size: int = 65536) -> None:
        super().__init__()
        self.n_crops = n_crops
        self.student_temp = student_temp
        self.statistics: dict[str, Tensor] = {}
        # random at first, and the same on every rank
        rows = torch.randn(queue_size, out_dim, generator=torch.Generator().manual_seed(0), device="cpu")
        self.register_buffer("queue", F.normalize(rows, dim=1))

    def forward(
        self,
        student_output: Tensor,
        teacher_output: Tensor,
        epoch: int,
        update_center: bool = True,
        first_crop: int = 0,
    ) -> Tensor:
        """The loss, and then the teacher's outputs join the queue.

        With s_v the student's rows, t_i the teacher's, all of length 1, and n the rows of the queue::

            mean over views i, crops v != i and images of
                -log( exp(s_v . t_i / temp) / (exp(s_v . t_i / temp) + sum over n of exp(s_v . n / temp)) )

        which is softplus(logsumexp over n of (s_v . n / temp) - s_v . t_i / temp): each crop meets the queue once.

        Args:
            student_output: (crops * B, D), crop after crop.
            teacher_output: (2 * B, D), view after view.
            epoch: not used; every loss is called alike.
            update_center: whether the queue moves on; otherwise call ``update_center`` once the step is done.
            first_crop: which crop the student's outputs begin with; those of some crops alone give their share of the
                loss, and the shares add up to it.

        Returns:
            Scalar, float32 (float64 for float64 inputs).
        """
        student = _unit_rows(student_output)
        views = _unit_rows(teacher_output.detach()).unflatten(0, (N_GLOBAL, -1))
        negatives = (student @ self.queue.to(student.dtype).T / self.student_temp).logsumexp(dim=-1)
        negatives, crops = (x.unflatten(0, (-1, views.shape[1])) for x in (negatives, student))
        positives = (crops * views[:, None]).sum(dim=-1) / self.student_temp
        terms = F.softplus(negatives - positives)  # (2, crops, B)
        same = torch.eye(N_GLOBAL, self.n_crops, dtype=torch.bool, device=terms.device)[:, first_crop:]
        total = terms.masked_fill(same[:, : len(crops), None], 0).sum()
        if update_center:
            self.update_center(teacher_output)
        return total / (N_GLOBAL * (self.n_crops - 1) * crops.shape[1])

    @torch.no_grad()
    def update_center(self, teacher_output: Tensor) -> None:
        """The outputs (n, D) of all ranks, in their order, replace the oldest of the queue, unless one is not finite.

        The name is that of the losses with a centre, so that a step treats all alike.
        """
        rows = _unit_rows(distributed.gather_tensors(teacher_output)).to(self.queue.dtype)[-len(self.queue) :]
        moved = torch.cat([self.queue[len(rows) :], rows])
        # a new tensor: the backward pass still needs the old one
        self.queue = torch.where(rows.isfinite().all(), moved, self.queue)


def _unit_rows(x: Tensor) -> Tensor:
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)
