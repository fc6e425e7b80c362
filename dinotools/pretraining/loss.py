"""What the student minimises: the cross-entropy of DINO, or one of the losses it is compared with (Tables 7 and 14).

Source: DINO, section 3.1, equations 1-4, and Algorithm 1; official ``main_dino.DINOLoss``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinotools.configs.crops import N_GLOBAL
from dinotools.configs.distillation import CenteringName
from dinotools.configs.pretraining import PretrainConfig
from dinotools.pretraining.contrastive import InfoNCE
from dinotools.pretraining.cross_entropy import MultiCropCrossEntropy
from dinotools.pretraining.schedules import teacher_temp_schedule
from dinotools.pretraining.targets import sinkhorn_offsets
from dinotools.runtime import distributed


def build_loss(config: PretrainConfig) -> DINOLoss | NormalizedMSE | InfoNCE:
    """The loss that the options name.

    Raises:
        ValueError: MSE with a centring that makes distributions.
    """
    n_crops = len(config.crop_sizes)
    if config.loss == "infonce":
        return InfoNCE(config.out_dim, n_crops, config.student_temp, config.queue_size)
    if config.loss == "mse":
        return NormalizedMSE(config.out_dim, n_crops, config.center_momentum, centering=config.centering)
    return DINOLoss(
        config.out_dim,
        n_crops,
        config.warmup_teacher_temp,
        config.teacher_temp,
        config.warmup_teacher_temp_epochs,
        config.epochs,
        config.student_temp,
        config.center_momentum,
        centering=config.centering,
        sinkhorn_iterations=config.sinkhorn_iterations,
    )


class CenteredLoss(nn.Module):
    """A loss with a running centre of the teacher's outputs.

    Args:
        out_dim: outputs K of the head.
        n_crops: crops the student sees; the first two are the global views of the teacher.
        center_momentum: share of the old centre that each update keeps.

    Attributes:
        center: (1, K).
        statistics: of the last call, detached scalars on its device.
    """

    center: Tensor

    def __init__(self, out_dim: int, n_crops: int, center_momentum: float) -> None:
        super().__init__()
        self.n_crops = n_crops
        self.center_momentum = center_momentum
        self.statistics: dict[str, Tensor] = {}
        self.register_buffer("center", torch.zeros(1, out_dim))

    @torch.no_grad()
    def update_center(self, teacher_output: Tensor) -> None:
        """Moves the centre towards the mean of the raw outputs (n, K) of all ranks, each with equally many.

        A mean that is not finite leaves it where it is.
        """
        mean = teacher_output.mean(dim=0, keepdim=True, dtype=_at_least_float32(teacher_output))
        moved = self.center.lerp(distributed.mean_over_ranks(mean).to(self.center.dtype), 1 - self.center_momentum)
        # a new tensor: the backward pass still needs the old one
        self.center = torch.where(moved.isfinite().all(), moved, self.center)


class DINOLoss(CenteredLoss):
    """Cross-entropy of every (teacher view, other student crop) pair, and the running centre of the teacher.

    After each call ``statistics`` has ``teacher_entropy``, the mean entropy of the teacher's distributions in nats, and
    ``mean_entropy``, the entropy of their mean, over the batch of this rank. What the loss has beyond the first is the
    mean divergence of the pairs.

    Args:
        out_dim: number of prototypes K.
        n_crops: crops the student sees; the first two are the global views of the teacher.
        warmup_teacher_temp: teacher temperature at epoch 0.
        teacher_temp: teacher temperature after the warm-up.
        warmup_teacher_temp_epochs: epochs of linear warm-up between the two.
        epochs: epochs of the whole run.
        student_temp: temperature of the student.
        center_momentum: share of the old centre that each update keeps.
        centering: see ``targets``; the centre is kept up to date with all of them.
        sinkhorn_iterations: of ``sinkhorn``.
    """

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
        *,
        centering: CenteringName = "center",
        sinkhorn_iterations: int = 3,
    ) -> None:
        super().__init__(out_dim, n_crops, center_momentum)
        self.student_temp = student_temp
        self.centering = centering
        self.sinkhorn_iterations = sinkhorn_iterations
        self.teacher_temps = teacher_temp_schedule(
            warmup_teacher_temp, teacher_temp, warmup_teacher_temp_epochs, epochs
        )

    def forward(
        self,
        student_output: Tensor,
        teacher_output: Tensor,
        epoch: int,
        update_center: bool = True,
        first_crop: int = 0,
    ) -> Tensor:
        """The loss, and one update of the centre (after its use).

        With q_i the teacher's distribution for view i and s_v the student's logits for crop v over student_temp::

            for each view i, each crop v != i:   total += mean over the batch of  -sum(q_i * log_softmax(s_v))
            loss = total / number of pairs

        Args:
            student_output: logits (crops * B, K), crop after crop.
            teacher_output: logits (2 * B, K), view after view.
            epoch: counted from 0; picks the teacher's temperature.
            update_center: whether the centre moves; otherwise call ``update_center`` once the step is done.
            first_crop: which crop the student's outputs begin with; those of some crops alone give their share of the
                loss, and the shares add up to it.

        Returns:
            Scalar, float32 (float64 for float64 inputs); logits in half precision stay so, and are summed in float32.
        """
        teacher = teacher_output.detach().unflatten(0, (N_GLOBAL, -1))
        temp = float(self.teacher_temps[epoch])
        loss, entropy, mean = MultiCropCrossEntropy.apply(
            student_output.unflatten(0, (-1, teacher.shape[1])),
            teacher,
            self._offset(teacher, temp),
            self.student_temp,
            temp,
            first_crop,
            self.n_crops,
        )
        self.statistics = {"teacher_entropy": entropy, "mean_entropy": torch.special.entr(mean).sum()}
        if update_center:
            self.update_center(teacher_output)
        return loss

    def _offset(self, teacher: Tensor, temp: float) -> Tensor:
        """What the centring takes from the logits of each prototype: (1, 1, K) or, by view, (2, 1, K)."""
        match self.centering:
            case "center":
                return self.center[None]
            case "none":
                return torch.zeros_like(self.center[None])
            case "batch-softmax":
                return sinkhorn_offsets(teacher, temp, iterations=1)
            case "sinkhorn":
                return sinkhorn_offsets(teacher, temp, self.sinkhorn_iterations)


class NormalizedMSE(CenteredLoss):
    """Squared distance of normalised outputs, as in BYOL, with or without DINO's centre (Table 14).

    Args:
        out_dim: outputs K of the head.
        n_crops: crops the student sees; the first two are the global views of the teacher.
        center_momentum: share of the old centre that each update keeps.
        centering: whether the centre is taken from the teacher's outputs before they are normalised.

    Raises:
        ValueError: a centring that makes distributions.
    """

    def __init__(
        self, out_dim: int, n_crops: int, center_momentum: float = 0.9, *, centering: CenteringName = "center"
    ) -> None:
        if centering not in ("center", "none"):
            raise ValueError(f"the centring {centering!r} makes distributions, and mse compares none")
        super().__init__(out_dim, n_crops, center_momentum)
        self.centering = centering

    def forward(
        self,
        student_output: Tensor,
        teacher_output: Tensor,
        epoch: int,
        update_center: bool = True,
        first_crop: int = 0,
    ) -> Tensor:
        """Mean over all pairs and the batch of ||s_v - t_i||^2 = 2 - 2 s_v . t_i; the centre moves after its use.

        Args:
            student_output: (crops * B, K), crop after crop.
            teacher_output: (2 * B, K), view after view.
            epoch: not used; every loss is called alike.
            update_center: whether the centre moves; otherwise call ``update_center`` once the step is done.
            first_crop: which crop the student's outputs begin with; those of some crops alone give their share of the
                loss, and the shares add up to it.

        Returns:
            Scalar, float32 (float64 for float64 inputs).
        """
        student = student_output.to(_at_least_float32(student_output))
        teacher = teacher_output.detach().to(student.dtype)
        if self.centering == "center":
            teacher = teacher - self.center
        views = F.normalize(teacher, dim=-1).unflatten(0, (N_GLOBAL, -1))
        crops = F.normalize(student, dim=-1).unflatten(0, (-1, views.shape[1]))
        other = views.flip(0)[first_crop : first_crop + len(crops)]  # one for each global crop, both views for a local
        similar = (crops[: len(other)] * other).sum() + (crops[len(other) :].sum(dim=0) * views.sum(dim=0)).sum()
        pairs = N_GLOBAL * len(crops) - len(other)
        if update_center:
            self.update_center(teacher_output)
        return 2 * (pairs - similar / views.shape[1]) / (N_GLOBAL * (self.n_crops - 1))


def _at_least_float32(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
