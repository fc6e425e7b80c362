"""Six training steps, number by number against the official loop."""

from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache, partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dinotools.models.head import DINOHead
from dinotools.models.multicrop import MultiCropWrapper
from dinotools.pretraining import step
from dinotools.pretraining.loss import DINOLoss
from dinotools.pretraining.optimizers import build_optimizer, parameter_groups
from dinotools.pretraining.step import TrainingState, train_step
from dinotools.runtime.schedule import cosine_schedule
from tests.golden import official

GOLDEN = official.arrays("train_steps")
NAMES = GOLDEN["param_names"].tolist()
EPOCHS, STEPS_PER_EPOCH = 3, 2
N_STEPS = EPOCHS * STEPS_PER_EPOCH
CROP_SIDES = (64, 64, 32, 32, 32, 32)
BATCH = 8


@dataclass(frozen=True)
class Run:
    """The options of a recorded run."""

    optimizer: str
    clip_grad: float
    norm_last_layer: bool
    momentum: float
    lr: float
    weight_decay: tuple[float, float]
    freeze_last_layer: int

    def schedules(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Learning rate, weight decay and teacher momentum of every step."""
        return (
            cosine_schedule(self.lr, 1e-6, EPOCHS, STEPS_PER_EPOCH, warmup_epochs=1),
            cosine_schedule(*self.weight_decay, EPOCHS, STEPS_PER_EPOCH),
            cosine_schedule(self.momentum, 1.0, EPOCHS, STEPS_PER_EPOCH),
        )


RUNS = {
    "A_adamw_clip3": Run("adamw", 3.0, True, 0.996, 0.002, (0.04, 0.4), 1),
    "B_adamw_clip03": Run("adamw", 0.3, False, 0.9, 0.002, (0.04, 0.4), 1),
    "C_sgd_clip0": Run("sgd", 0.0, False, 0.99, 0.03, (0.0001, 0.0001), 0),
    "D_lars_clip3": Run("lars", 3.0, True, 0.99, 0.3, (0.0001, 0.0001), 2),
}


@dataclass
class Trajectory:
    """What was seen at each step; one row per step, one column per parameter."""

    loss: list[float] = field(default_factory=list)
    gradients_before: list[list[float]] = field(default_factory=list)  # clipping
    gradients_after: list[list[float]] = field(default_factory=list)  # clipping and freezing; nan: none left
    student: list[list[np.ndarray]] = field(default_factory=list)
    teacher: list[list[np.ndarray]] = field(default_factory=list)
    center: Tensor = field(default_factory=lambda: torch.empty(0))


def crops_of(step: int, dtype: torch.dtype) -> list[Tensor]:
    shapes = [(BATCH, 3, side, side) for side in CROP_SIDES]
    return [official.normal(7000 + 100 * step + c, shape).to(dtype) for c, shape in enumerate(shapes)]


def networks(run: Run, dtype: torch.dtype) -> tuple[MultiCropWrapper, MultiCropWrapper]:
    student = official.fill(official.small_network(run.norm_last_layer)).to(dtype)
    teacher = official.small_network().to(dtype)
    teacher.load_state_dict(student.state_dict())
    return student, teacher.requires_grad_(False)


@cache
def train(name: str, dtype: torch.dtype) -> Trajectory:
    run = RUNS[name]
    student, teacher = networks(run, dtype)
    state = TrainingState(
        student=student,
        teacher=teacher,
        criterion=DINOLoss(1024, len(CROP_SIDES), 0.04, 0.07, 2, EPOCHS).to(dtype),
        optimizer=build_optimizer(run.optimizer, student),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
    )
    seen = Trajectory()
    watch_gradients(student, state.optimizer, seen)
    for number, (lr, weight_decay, momentum) in enumerate(zip(*run.schedules(), strict=True)):
        epoch = number // STEPS_PER_EPOCH
        outcome = train_step(
            state,
            crops_of(number, dtype),
            epoch=epoch,
            lr=lr,
            weight_decay=weight_decay,
            momentum=momentum,
            clip_grad=run.clip_grad,
            freeze_last_layer=epoch < run.freeze_last_layer,
        )
        seen.loss.append(outcome["loss"].item())
        seen.student.append([p.detach().double().numpy().copy() for p in student.parameters()])
        seen.teacher.append([p.double().numpy().copy() for p in teacher.parameters()])
    seen.center = state.criterion.center[0]
    return seen


def watch_gradients(student: nn.Module, optimizer: torch.optim.Optimizer, seen: Trajectory) -> None:
    """Notes the gradient norms as they leave the backward pass and as they reach the optimizer."""
    arrived: dict[int, float] = {}

    def note(column: int, parameter: Tensor) -> None:
        arrived[column] = parameter.grad.double().norm().item()

    for column, parameter in enumerate(student.parameters()):
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(partial(note, column))

    def before_step(*_: object) -> None:
        norms = [np.nan if p.grad is None else p.grad.double().norm().item() for p in student.parameters()]
        seen.gradients_before.append([arrived.get(column, np.nan) for column in range(len(norms))])
        seen.gradients_after.append(norms)
        arrived.clear()

    optimizer.register_step_pre_hook(before_step)


def norms(parameters: list[list[np.ndarray]]) -> np.ndarray:
    return np.array([[np.linalg.norm(p) for p in step] for step in parameters])


def first_entries(parameters: list[list[np.ndarray]]) -> np.ndarray:
    return np.array([[p.ravel()[:4] for p in step] for step in parameters])


def frozen_steps(run: Run) -> np.ndarray:
    """Which steps (rows) withhold the gradient of which parameters (columns)."""
    last_layer = np.array(["last_layer" in name for name in NAMES])
    return np.outer(np.arange(N_STEPS) < run.freeze_last_layer * STEPS_PER_EPOCH, last_layer)


def assert_gradients(name: str, dtype: torch.dtype, suffix: str, rtol: float) -> None:
    run, seen = RUNS[name], train(name, dtype)
    after = GOLDEN[f"{name}/grad_norm_after_clip{suffix}"]
    before = GOLDEN[f"{name}/grad_norm_before_clip{suffix}"] if run.clip_grad else after
    np.testing.assert_allclose(seen.gradients_before, before, rtol=rtol)
    # the records were taken before the last layer's gradient was withheld, ours after
    np.testing.assert_allclose(seen.gradients_after, np.where(frozen_steps(run), np.nan, after), rtol=rtol)


@pytest.mark.parametrize("name", RUNS)
def test_schedules_and_groups_are_official(name):
    run = RUNS[name]
    for schedule, key in zip(run.schedules(), ("lr", "wd", "momentum"), strict=True):
        np.testing.assert_allclose(schedule, GOLDEN[f"{name}/{key}"], rtol=1e-12)
    student, _ = networks(run, torch.float32)
    name_of = {parameter: key for key, parameter in student.named_parameters()}
    assert list(name_of.values()) == NAMES
    decayed, plain = ([name_of[p] for p in group["params"]] for group in parameter_groups(student))
    assert decayed == GOLDEN[f"{name}/regularized"].tolist()
    assert plain == GOLDEN[f"{name}/not_regularized"].tolist()


@pytest.mark.parametrize("name", RUNS)
def test_float64_run_agrees_to_rounding(name):
    seen = train(name, torch.float64)
    np.testing.assert_allclose(seen.loss, GOLDEN[f"{name}/loss_f64"], rtol=1e-9)
    assert_gradients(name, torch.float64, "_f64", rtol=1e-9)
    for network in ("student", "teacher"):
        parameters = getattr(seen, network)
        np.testing.assert_allclose(norms(parameters), GOLDEN[f"{name}/{network}_norm_f64"], rtol=1e-9)
        entries = first_entries(parameters)
        np.testing.assert_allclose(entries, GOLDEN[f"{name}/{network}_first4_f64"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(seen.center, GOLDEN[f"{name}/center_after_last_step_f64"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", RUNS)
def test_float32_run_agrees_with_the_official_run(name):
    seen = train(name, torch.float32)
    np.testing.assert_allclose(seen.loss, GOLDEN[f"{name}/loss"], rtol=2e-6)
    assert_gradients(name, torch.float32, "", rtol=4e-5)
    noisy = np.array([key.endswith("qkv.bias") for key in NAMES])  # see golden/README.md
    for network, noisy_rtol in (("student", 5e-3), ("teacher", 1e-3)):
        seen_norms, recorded = norms(getattr(seen, network)), GOLDEN[f"{name}/{network}_norm"]
        np.testing.assert_allclose(seen_norms[:, ~noisy], recorded[:, ~noisy], rtol=1e-5)
        np.testing.assert_allclose(seen_norms[:, noisy], recorded[:, noisy], rtol=noisy_rtol)
    np.testing.assert_allclose(seen.center, GOLDEN[f"{name}/center_after_last_step"], rtol=0, atol=5e-7)


def gradients_of_a_step(
    monkeypatch: pytest.MonkeyPatch, *, together: bool, use_bn: bool
) -> tuple[list[Tensor], list[int]]:
    """The student's gradients, and how many crops went through its head at a time."""
    student = official.fill(MultiCropWrapper(official.small_vit(), DINOHead(64, 128, use_bn, hidden_dim=32))).double()
    teacher = deepcopy(student).requires_grad_(False)
    state = TrainingState(
        student=student,
        teacher=teacher,
        criterion=DINOLoss(128, len(CROP_SIDES), 0.04, 0.07, 2, EPOCHS).double(),
        optimizer=build_optimizer("sgd", student),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
    )
    sizes: list[int] = []
    student.head.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0]) // BATCH))
    if together:
        monkeypatch.setattr(step, "runs_of_one_width", lambda crops: [list(crops)])
    train_step(state, crops_of(0, torch.float64), epoch=0, lr=0.1, weight_decay=0.0, momentum=0.9, clip_grad=0)
    return [p.grad for p in student.parameters() if p.grad is not None], sizes


def test_crops_of_one_size_after_another_leave_the_gradients_of_all_together(monkeypatch):
    apart, sizes = gradients_of_a_step(monkeypatch, together=False, use_bn=False)
    assert sizes == [2, 4]
    expected, sizes = gradients_of_a_step(monkeypatch, together=True, use_bn=False)
    assert sizes == [6]
    torch.testing.assert_close(apart, expected)


def test_batch_norms_in_the_head_see_all_crops_together(monkeypatch):
    _, sizes = gradients_of_a_step(monkeypatch, together=False, use_bn=True)
    assert sizes == [6]
