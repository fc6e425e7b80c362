import copy

import pytest
import torch
from torch import nn

from dinotools.models.head import DINOHead
from dinotools.pretraining.teacher import after_update, before_update, update_teacher
from tests.golden import official


def network(seed: int) -> nn.Module:
    return official.fill(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)), seed)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.996, 1.0])
def test_is_the_moving_average_of_every_parameter(momentum):
    teacher, student = network(0).requires_grad_(False), network(1)
    before, learner = copy.deepcopy(teacher), copy.deepcopy(student)
    update_teacher(teacher, student, momentum)
    for new, old, theirs in zip(teacher.parameters(), before.parameters(), learner.parameters(), strict=True):
        torch.testing.assert_close(new, momentum * old + (1 - momentum) * theirs.detach())
    for now, then in zip(student.parameters(), learner.parameters(), strict=True):
        assert torch.equal(now, then)


def test_many_steps_sum_the_students_with_geometric_weights():
    teacher = nn.Linear(1, 1, bias=False).double().requires_grad_(False)
    teacher.weight.fill_(1.0)
    student = nn.Linear(1, 1, bias=False).double()
    momenta, values, expected = [0.9, 0.95, 0.99], [2.0, -1.0, 5.0], 1.0
    for momentum, value in zip(momenta, values, strict=True):
        nn.init.constant_(student.weight, value)
        update_teacher(teacher, student, momentum)
        expected = momentum * expected + (1 - momentum) * value
    assert teacher.weight.item() == pytest.approx(expected, rel=1e-14)


def test_buffers_stay_the_teachers_own():
    teacher, student = network(0).requires_grad_(False), network(1)
    student(torch.ones(8, 5))
    before = {name: buffer.clone() for name, buffer in teacher.named_buffers()}
    update_teacher(teacher, student, 0.5)
    assert not torch.equal(before["1.running_mean"], dict(student.named_buffers())["1.running_mean"])
    for name, buffer in teacher.named_buffers():
        assert torch.equal(buffer, before[name])


def test_no_gradient_flows_into_the_teacher():
    teacher, student = network(0).requires_grad_(False), network(1)
    update_teacher(teacher, student, 0.5)
    assert not any(p.requires_grad for p in teacher.parameters())
    assert all(p.requires_grad for p in student.parameters())


def test_runs_on_fake_cuda(fake_cuda):
    with fake_cuda:
        teacher, student = nn.Linear(3, 2).requires_grad_(False), nn.Linear(3, 2)
    update_teacher(teacher, student, 0.9)
    assert teacher.weight.device.type == "cuda"


def test_parameters_are_paired_by_their_names_and_not_by_their_order():
    teacher = official.fill(DINOHead(6, 10, hidden_dim=8, bottleneck_dim=4)).requires_grad_(False)
    student = official.fill(DINOHead(6, 10, norm_last_layer=False, hidden_dim=8, bottleneck_dim=4, predictor=True), 1)
    assert [n for n, _ in teacher.named_parameters()] != [n for n, _ in student.named_parameters()]
    before, theirs = copy.deepcopy(dict(teacher.named_parameters())), dict(student.named_parameters())
    update_teacher(teacher, student, 0.25)
    for name, new in teacher.named_parameters():
        torch.testing.assert_close(new, 0.25 * before[name] + 0.75 * theirs[name].detach())


def test_a_student_without_one_of_the_parameters_is_an_error():
    with pytest.raises(KeyError, match="bias"):
        update_teacher(nn.Linear(3, 2), nn.Linear(3, 2, bias=False), 0.5)


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.996, 0.99999, 1.0])
def test_a_step_that_is_not_skipped_is_an_ordinary_one(momentum):
    plain, watched = network(0).requires_grad_(False), network(0).requires_grad_(False)
    student = network(1)
    update_teacher(plain, student, momentum)
    update_teacher(watched, student, momentum, unless=torch.tensor(0.0))
    for one, other in zip(plain.parameters(), watched.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_a_skipped_step_changes_no_bit():
    teacher, student = network(0).requires_grad_(False), network(1)
    before = copy.deepcopy(teacher.state_dict())
    update_teacher(teacher, student, 0.5, unless=torch.tensor(1.0))
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def students(kind: str, skipped: int = -1) -> tuple[list[float], list[float]]:
    """Weights of student and teacher before each of 7 steps, three to an epoch; the student grows by 1 a step."""
    teacher, student = (nn.Linear(1, 1, bias=False).requires_grad_(False) for _ in range(2))
    for module in (teacher, student):
        module.weight.zero_()
    seen: tuple[list[float], list[float]] = ([], [])
    for step in range(7):
        seen[0].append(student.weight.item())
        seen[1].append(teacher.weight.item())
        before_update(kind, teacher, student)
        student.weight += step != skipped
        unless = torch.tensor(float(step == skipped))
        after_update(kind, teacher, student, 0.5, end_of_epoch=step % 3 == 2, unless=unless)
    return seen


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("student", [0, 1, 2, 3, 4, 5, 6]),
        ("previous-iteration", [0, 0, 1, 2, 3, 4, 5]),
        ("previous-epoch", [0, 0, 0, 3, 3, 3, 6]),
        ("momentum", [0, 0.5, 1.25, 2.125, 3.0625, 4.03125, 5.015625]),
    ],
)
def test_kinds_of_teacher(kind, expected):
    student, teacher = students(kind)
    assert student == [0, 1, 2, 3, 4, 5, 6]
    assert teacher == expected


@pytest.mark.parametrize("kind", ["student", "previous-iteration", "previous-epoch", "momentum"])
def test_a_skipped_step_leaves_a_moving_average_and_copies_the_unmoved_student(kind):
    student, teacher = students(kind, skipped=3)
    assert student == [0, 1, 2, 3, 3, 4, 5]
    lag = {"student": [3, 4, 5], "previous-iteration": [3, 3, 4], "previous-epoch": [3, 3, 5]}
    assert teacher[4:] == lag.get(kind, [2.125, 3.0625, 4.03125])


@pytest.mark.parametrize("kind", ["momentum", "previous-iteration", "student"])
def test_kinds_of_teacher_run_on_fake_cuda(fake_cuda, kind):
    with fake_cuda:
        teacher, student = nn.Linear(3, 2).requires_grad_(False), nn.Linear(3, 2)
        unless = torch.empty(())
    before_update(kind, teacher, student)
    after_update(kind, teacher, student, 0.5, unless=unless)
    assert teacher.weight.device.type == "cuda"
