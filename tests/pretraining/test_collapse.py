"""Little DINOs that collapse, or do not, and what the detector says of them."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dinotools.configs.pretraining import PretrainConfig
from dinotools.pretraining.collapse import CollapseDetector, likely_cause
from dinotools.pretraining.diagnostics import feature_std
from dinotools.runtime.progress import SYNC_EVERY

K = 64


def options(tmp_path, **changes) -> PretrainConfig:
    return PretrainConfig(**{"data": "digits", "out": tmp_path, "out_dim": K, "use_bn_in_head": True, **changes})


class Network(nn.Module):
    """An MLP, a normalised bottleneck, normalised prototypes."""

    def __init__(self):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 32))
        self.prototypes = nn.Parameter(torch.randn(K, 32))

    def forward(self, x):
        return F.normalize(self.mlp(x), dim=-1) @ F.normalize(self.prototypes, dim=-1).T


def entropy(q):
    return -(q * q.clamp_min(1e-30).log()).sum(-1)


def looks(teacher_temp, *, centring, seed, steps=200):
    """Trains on noisy views of ten points; (step, means) every SYNC_EVERY steps, as the trainer has them."""
    torch.manual_seed(seed)
    points = 0.5 * torch.randn(10, 16) + 1
    student = Network()
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    center, seen = torch.zeros(K), []
    for step in range(1, steps + 1):
        x = points[torch.randint(10, (64,))] + 0.3 * torch.randn(64, 16)
        one, other = (x + 0.6 * torch.randn_like(x) for _ in range(2))
        raw = teacher(torch.cat([one, other]))
        q = ((raw - center) / teacher_temp).softmax(-1)
        if centring:
            center = 0.9 * center + 0.1 * raw.mean(0)
        loss = -(q * (student(torch.cat([other, one])) / 0.1).log_softmax(-1)).sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
            old.lerp_(new.detach(), 0.05)
        seen.append(torch.stack([entropy(q).mean(), loss.detach() - entropy(q).mean(), entropy(q.mean(0))]))
        if step % SYNC_EVERY == 0:
            means = torch.stack(seen[-SYNC_EVERY:]).mean(0).tolist()
            yield step, dict(zip(("teacher_entropy", "kl", "mean_entropy"), means, strict=True))


@pytest.mark.parametrize(
    ("teacher_temp", "centring", "kinds", "cause"),
    [
        (0.1, True, ["uniform"], "no sharpening"),
        (0.04, False, ["one dimension"], "--centering none"),
        (0.04, True, [], None),
    ],
)
def test_the_paper_s_two_kinds_are_told_once_and_healthy_runs_are_left_in_peace(
    teacher_temp, centring, kinds, cause, tmp_path
):
    config = options(
        tmp_path,
        teacher_temp=teacher_temp,
        warmup_teacher_temp=teacher_temp,
        centering="center" if centring else "none",
    )
    detector = CollapseDetector(config)
    found = [
        told for step, means in looks(teacher_temp, centring=centring, seed=0) if (told := detector.look(step, means))
    ]
    assert [collapse.kind for collapse in found] == kinds
    assert all(cause in collapse.message for collapse in found)


def state(*, entropy, information, kl):
    """Shares of ln K."""
    whole = math.log(K)
    return {"teacher_entropy": entropy * whole, "mean_entropy": (entropy + information) * whole, "kl": kl * whole}


UNIFORM = state(entropy=0.99, information=0.005, kl=0.002)
SPIKE = state(entropy=0.01, information=0.005, kl=0.002)


def told(detector, values, steps):
    return [c.kind for step in steps if (c := detector.look(step, values)) is not None]


def test_a_moment_is_no_collapse_and_another_kind_is_news(tmp_path):
    detector = CollapseDetector(options(tmp_path))
    healthy = state(entropy=0.5, information=0.4, kl=0.2)
    assert told(detector, UNIFORM, range(10, 50, 10)) == []
    assert told(detector, healthy, [50]) == []
    assert told(detector, UNIFORM, range(60, 100, 10)) == []
    assert told(detector, UNIFORM, range(100, 1000, 10)) == ["uniform"]
    assert told(detector, SPIKE, range(1000, 2000, 10)) == ["one dimension"]
    assert told(detector, healthy, range(2000, 3000, 10)) == []


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(state(entropy=0.89, information=0.06, kl=0.08), id="a fresh ViT-S"),
        pytest.param(state(entropy=0.96, information=0.036, kl=0.028), id="a run on digits that learns"),
        pytest.param(state(entropy=0.1, information=0.6, kl=0.01), id="sharp, but another dimension for every image"),
        pytest.param(state(entropy=0.5, information=0.01, kl=0.3), id="the student does not follow"),
    ],
)
def test_what_looks_alike_is_none(values, tmp_path):
    assert told(CollapseDetector(options(tmp_path)), values, range(10, 1000, 10)) == []


def test_a_look_without_values_decides_nothing(tmp_path):
    detector = CollapseDetector(options(tmp_path))
    assert told(detector, UNIFORM, range(10, 50, 10)) == []
    assert told(detector, {"center_norm": 1.0}, [50]) == []
    assert told(detector, UNIFORM, range(60, 200, 10)) == ["uniform"]


def test_other_losses_collapse_by_equal_outputs(tmp_path):
    config = options(tmp_path, loss="mse")
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(32, K, generator=generator)
    for outputs, kinds in ((rows, []), (rows[:1] + 0.2 * rows, []), (rows[:1] + 0.05 * rows, ["equal outputs"])):
        values = {"output_std": feature_std(outputs).item()}
        assert told(CollapseDetector(config), values, range(10, 300, 10)) == kinds


@pytest.mark.parametrize(
    ("kind", "changes", "cause", "remedy"),
    [
        ("uniform", {"teacher_temp": 0.1}, "no sharpening", "--teacher-temp 0.04"),
        ("uniform", {"use_bn_in_head": False, "batch_size": 64}, "batches of 64", "--use-bn-in-head"),
        ("uniform", {"batch_size": 1024}, "learning rate", "--freeze-last-layer"),
        ("uniform", {"teacher": "previous-iteration"}, "--teacher previous-iteration", "--teacher momentum"),
        ("one dimension", {"centering": "none"}, "--centering none", "--centering center"),
        ("one dimension", {"center_momentum": 0.9999}, "hardly moves", "0.9 to 0.99"),
        ("equal outputs", {"loss": "mse"}, "without a predictor", "--predictor"),
        ("equal outputs", {"loss": "mse", "predictor": True}, "learning rate", "--lr"),
    ],
)
def test_the_cause_is_sought_in_the_options(kind, changes, cause, remedy, tmp_path):
    found = likely_cause(kind, options(tmp_path, **changes))
    assert cause in found[0]
    assert remedy in found[1]


def test_the_message_says_that_the_loss_is_ln_k(tmp_path):
    detector = CollapseDetector(options(tmp_path))
    (collapse,) = [c for step in range(10, 200, 10) if (c := detector.look(step, UNIFORM))]
    assert f"loss = ln K = {math.log(K):.2f}" in collapse.message
