import copy

import pytest
import torch
from torch import nn

from dinotools.pretraining.teacher import update_teacher
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
