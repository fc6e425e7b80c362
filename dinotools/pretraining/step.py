"""One step of DINO, and the state that it changes.

Source: DINO, Algorithm 1; official ``main_dino.train_one_epoch``. Nothing in a step waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from dinotools.configs.crops import N_GLOBAL
from dinotools.configs.distillation import TeacherName
from dinotools.configs.pretraining import PretrainConfig
from dinotools.data.training import CropBatch, finish
from dinotools.data.transforms import normalize
from dinotools.models.multicrop import MultiCropWrapper, runs_of_one_width
from dinotools.models.zoo import normalization_of
from dinotools.pretraining import optimizers, teacher
from dinotools.pretraining.diagnostics import Diagnostics, feature_std
from dinotools.pretraining.schedules import Schedules
from dinotools.runtime import distributed
from dinotools.runtime.device import Runtime

NOT_FINITE_REMEDY = (
    "The last checkpoint, if there is one, is sound: start anew from it with --init-from and a new --out, with a lower "
    "--lr, a smaller --clip-grad, or --precision bf16 or fp32."
)


class Criterion(Protocol):
    """What a step knows of a loss; see ``loss.build_loss``."""

    statistics: dict[str, Tensor]

    def __call__(
        self,
        student_output: Tensor,
        teacher_output: Tensor,
        epoch: int,
        update_center: bool = True,
        first_crop: int = 0,
    ) -> Tensor:
        """The loss, a scalar, or the share of it that these crops of the student have."""

    def update_center(self, teacher_output: Tensor) -> None:
        """Learns from the teacher's outputs of the whole step."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Takes it back."""


@dataclass
class TrainingState:
    """Everything that a step reads and changes.

    Args:
        student: network that is optimised.
        teacher: what it learns from, without gradients.
        criterion: the loss, with the centre of the teacher.
        optimizer: over the student's parameters.
        scaler: of the loss in fp16; otherwise disabled.
        diagnostics: what is gathered on the device about the steps since they were last looked at.
        parallel: the student as it is run: itself, or among several ranks within ``DistributedDataParallel``.
        step: steps taken.
        seconds: time that they took, with reading, measuring and saving, over all parts of a run that was resumed.
    """

    student: MultiCropWrapper
    teacher: MultiCropWrapper
    criterion: Criterion
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    parallel: nn.Module | None = None
    diagnostics: Diagnostics = field(default_factory=Diagnostics)
    step: int = 0
    seconds: float = 0.0


def take_step(
    config: PretrainConfig, runtime: Runtime, state: TrainingState, schedules: Schedules, batch: CropBatch
) -> dict[str, Tensor]:
    """Takes the next step with a batch from the loader; returns what ``train_step`` says of it."""
    step = state.step
    epoch, within = divmod(step, schedules.steps_per_epoch)
    # stochastic depth draws from torch's generator: seeded per step, a resumed run draws the same
    seed = np.random.SeedSequence((config.seed, step, *([distributed.rank()] if distributed.rank() else [])))
    torch.manual_seed(int(seed.generate_state(1)[0]))
    mean, std = normalization_of(state.teacher.backbone)
    outcome = train_step(
        state,
        [normalize(crop, mean, std) for crop in finish(batch, runtime.device)],
        epoch=epoch,
        lr=schedules.lr[step],
        weight_decay=schedules.weight_decay[step],
        momentum=schedules.momentum[step],
        clip_grad=config.clip_grad,
        freeze_last_layer=epoch < config.freeze_last_layer,
        accumulate=config.accumulate,
        teacher_kind=config.teacher,
        end_of_epoch=within + 1 == schedules.steps_per_epoch,
        autocast=runtime.autocast,
    )
    state.step += 1
    return outcome


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
    accumulate: int = 1,
    teacher_kind: TeacherName = "momentum",
    end_of_epoch: bool = False,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> dict[str, Tensor]:
    """One step of DINO.

    A loss or gradient that is not finite, on any rank, leaves weights and optimizer as they are.

    Args:
        state: networks, loss and optimizer; changed in place.
        crops: normalised crops, each (B, C, side, side); the first two are the global ones.
        epoch: counted from 0.
        lr: learning rate of this step.
        weight_decay: weight decay of this step.
        momentum: share of the old teacher that is kept.
        clip_grad: largest gradient norm per parameter; 0 does not clip.
        freeze_last_layer: whether the prototypes stay as they are.
        accumulate: parts of the B images that go through the networks one after the other; B is a multiple of it.
        teacher_kind: how the teacher follows the student (see ``teacher``).
        end_of_epoch: whether this is the last step of an epoch.
        autocast: makes the context of the forward passes, in half precision.

    Returns:
        Scalars that still lie on the device: ``loss``, ``skipped`` (1 if the step was not taken, else 0), and what
        ``diagnostics`` watches.
    """
    # schedule
    optimizers.set_rates(state.optimizer, lr, weight_decay)
    running = [(buffer, buffer.clone()) for buffer in _running_statistics(state)]
    # forward and loss, backward
    outcome = _forward_backward(state, crops, epoch, accumulate, autocast)
    # student update
    state.scaler.unscale_(state.optimizer)
    outcome["grad_norm"] = optimizers.clip_gradients(state.student, clip_grad)
    if freeze_last_layer:
        optimizers.cancel_last_layer_gradients(state.student)
    bad = ~(outcome["grad_norm"].isfinite() & outcome["loss"].isfinite())
    outcome["loss"], share = distributed.mean_over_ranks(torch.stack([outcome["loss"], bad.to(outcome["loss"])]))
    outcome["skipped"] = skipped = (share > 0).to(share.dtype)  # all ranks, or none, take the step
    teacher.before_update(teacher_kind, state.teacher, state.student)
    optimizers.step_unless(state.optimizer, skipped.float())
    state.scaler.update()
    for buffer, before in running:
        buffer.copy_(torch.where(skipped > 0, before, buffer))
    # teacher update
    teacher.after_update(
        teacher_kind, state.teacher, state.student, momentum, end_of_epoch=end_of_epoch, unless=skipped
    )
    return outcome


def _forward_backward(
    state: TrainingState,
    crops: Sequence[Tensor],
    epoch: int,
    accumulate: int,
    autocast: Callable[[], AbstractContextManager[object]],
) -> dict[str, Tensor]:
    """Leaves the gradients of the mean loss in the student; every part sees the same centre, which then moves once.

    Crops of one size go back through the student before those of the next go forward: the loss is a sum over crops,
    and only the activations of one size have to be kept.
    """
    state.optimizer.zero_grad(set_to_none=True)
    seen: list[dict[str, Tensor]] = []
    means: list[Tensor] = []
    parts = list(zip(*(crop.chunk(accumulate) for crop in crops), strict=True))
    for part in parts:
        with torch.no_grad(), autocast():  # the teacher sees the global crops, the student all
            features = state.teacher.features(part[:N_GLOBAL])
            teacher_output = state.teacher.head(features)
        first_crop, shares = 0, []
        runs = _runs(state.student, part)
        for run in runs:
            with _gradients_meet(state, part is parts[-1] and run is runs[-1]):
                with autocast():
                    student_output = (state.parallel or state.student)(run)
                share = state.criterion(student_output, teacher_output, epoch, False, first_crop)
                del student_output  # the loss keeps what it needs of it
                state.scaler.scale(share / accumulate).backward()
            first_crop += len(run)
            shares.append(share.detach())
        loss = torch.stack(shares).sum()
        seen.append({"loss": loss, "feature_std": feature_std(features), **state.criterion.statistics})
        if "teacher_entropy" in seen[-1]:
            seen[-1]["kl"] = loss - seen[-1]["teacher_entropy"]
        else:
            seen[-1]["output_std"] = feature_std(teacher_output)
        means.append(teacher_output if accumulate == 1 else _mean(teacher_output))
    state.criterion.update_center(torch.cat(means))
    return {name: torch.stack([values[name] for values in seen]).mean() for name in seen[0]}


def _runs(student: MultiCropWrapper, crops: Sequence[Tensor]) -> list[list[Tensor]]:
    """The crops that go through the student together: all, if its head has batch norms, which look at all of them."""
    if any(isinstance(module, _BatchNorm) for module in student.head.modules()):
        return [list(crops)]
    return runs_of_one_width(crops)


def _gradients_meet(state: TrainingState, last: bool) -> AbstractContextManager[object]:
    """Ranks add up their gradients in the last backward pass alone."""
    if last or not isinstance(state.parallel, DistributedDataParallel):
        return nullcontext()
    return state.parallel.no_sync()


def _mean(output: Tensor) -> Tensor:
    """Mean row of a part's outputs: (1, K), at least float32; parts are equally large."""
    return (output if output.dtype == torch.float64 else output.float()).mean(dim=0, keepdim=True)


def _running_statistics(state: TrainingState) -> list[Tensor]:
    """Of the batch norms, which a forward pass changes already."""
    buffers = chain(state.student.buffers(), state.teacher.buffers())
    return [buffer for buffer in buffers if buffer.is_floating_point()]
