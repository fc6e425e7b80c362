import math

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException

from dinotools.pretraining.diagnostics import Diagnostics, epoch_means, feature_std
from dinotools.runtime import distributed


def test_means_leave_out_what_is_not_finite():
    diagnostics = Diagnostics()
    for loss, norm in ((1.0, math.nan), (math.inf, math.nan), (4.0, math.nan)):
        diagnostics.observe(loss=torch.tensor(loss), norm=torch.tensor(norm))
    diagnostics.observe(center=torch.tensor(3.0, dtype=torch.float64))
    assert diagnostics.read() == {"loss": 2.5, "center": 3.0}
    assert diagnostics.read() == {}
    diagnostics.observe(loss=torch.tensor(7.0))
    assert diagnostics.read() == {"loss": 7.0}


def test_what_is_gathered_keeps_no_graph():
    weight = torch.ones((), requires_grad=True)
    diagnostics = Diagnostics()
    diagnostics.observe(loss=weight * 2)
    assert not any(total.requires_grad for total in diagnostics._totals.values())


def test_nothing_is_read_from_the_device_in_a_step(fake_cuda):
    """A fake tensor has no value: any look at one raises."""
    diagnostics = Diagnostics()
    for _ in range(3):
        features = torch.randn(8, 16, device=fake_cuda, dtype=torch.bfloat16)
        deviation = feature_std(features)
        assert (deviation.device.type, deviation.dtype, deviation.shape) == ("cuda", torch.float32, ())
        diagnostics.observe(feature_std=deviation, loss=torch.zeros((), device=fake_cuda))
    assert [total.device.type for total in diagnostics._totals.values()] == ["cuda"]
    with pytest.raises(DataDependentOutputException):
        diagnostics.read()


def test_feature_std_is_0_for_equal_and_1_for_isotropic_features():
    generator = torch.Generator().manual_seed(0)
    row = torch.randn(1, 64, generator=generator)
    assert feature_std(row.expand(32, -1)).item() == pytest.approx(0, abs=1e-6)
    isotropic = torch.randn(4000, 64, generator=generator)
    assert feature_std(isotropic).item() == pytest.approx(1, abs=0.02)
    assert feature_std(5 * isotropic + 20).item() < 0.4


def test_an_epoch_weighs_every_step_alike():
    losses = [[float(step * step)] for step in range(1, 46)]  # epochs of 15 steps, looked at every 10 and at the end
    looks = [10, 15, 20, 30, 40, 45]
    records = []
    for before, step in zip([0, *looks], looks, strict=False):
        mean = sum(loss for (loss,) in losses[before:step]) / (step - before)
        records.append({"step": step, "epoch": (step - 1) // 15 + 1, "loss": mean})
    for epoch in (1, 2, 3):
        expected = sum(loss for (loss,) in losses[15 * (epoch - 1) : 15 * epoch]) / 15
        assert epoch_means(records, epoch) == {"loss": pytest.approx(expected)}
    assert epoch_means(records, 4) == {}


def test_means_are_over_the_finite_values_of_all_ranks(monkeypatch):
    ranks = [Diagnostics(), Diagnostics()]
    for diagnostics, values in zip(ranks, ((1.0, 5.0, 6.0), (2.0, math.nan, 10.0)), strict=True):
        for value in values:
            diagnostics.observe(kl=torch.tensor(value))
    (other,) = ranks[1]._totals.values()
    monkeypatch.setattr(distributed, "sum_over_ranks", lambda totals: totals + other)
    assert ranks[0].read() == {"kl": pytest.approx((1 + 5 + 6 + 2 + 10) / 5)}
