import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dinotools.pretraining.loss import DINOLoss
from dinotools.pretraining.targets import sinkhorn_offsets
from tests.golden import official


def sinkhorn(logits: Tensor, temp: float, iterations: int) -> Tensor:
    """The definition, on one view (B, K): columns, then rows, are scaled to equal sums."""
    p = (logits / temp).exp()
    for _ in range(iterations):
        p = p / p.sum(dim=0, keepdim=True)
        p = p / p.sum(dim=1, keepdim=True)
    return p


def targets(teacher: Tensor, temp: float, iterations: int) -> Tensor:
    return ((teacher - sinkhorn_offsets(teacher, temp, iterations)) / temp).softmax(dim=-1)


@given(
    batch=st.integers(1, 9),
    out_dim=st.integers(1, 30),
    iterations=st.integers(1, 6),
    temp=st.sampled_from([0.04, 0.07, 1.0]),
    seed=st.integers(0, 10**6),
)
def test_offsets_give_what_alternate_normalisation_gives(batch, out_dim, iterations, temp, seed):
    teacher = official.normal(seed, (2, batch, out_dim)).double()
    expected = torch.stack([sinkhorn(view, temp, iterations) for view in teacher])
    torch.testing.assert_close(targets(teacher, temp, iterations), expected, rtol=1e-7, atol=1e-10)


def test_many_iterations_give_every_prototype_the_same_share():
    teacher = official.normal(1, (2, 30, 10)).double()
    shares = targets(teacher, 0.5, 200).mean(dim=1)
    torch.testing.assert_close(shares, torch.full_like(shares, 0.1), rtol=1e-6, atol=0)
    assert (targets(teacher, 0.5, 1).mean(dim=1) - 0.1).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_large_logits_stay_finite_at_a_low_temperature(dtype):
    teacher = (1000 * official.normal(2, (2, 8, 20))).to(dtype)
    for iterations in (1, 3):
        offsets = sinkhorn_offsets(teacher, 0.04, iterations)
        assert offsets.dtype == torch.float32 and offsets.isfinite().all()


@pytest.mark.parametrize(("centering", "iterations"), [("batch-softmax", 1), ("sinkhorn", 4)])
def test_the_loss_uses_them(centering, iterations):
    student, teacher = official.normal(3, (4, 6, 20)).double(), official.normal(4, (2, 6, 20)).double()
    loss_fn = DINOLoss(20, 4, 0.3, 0.3, 0, epochs=1, centering=centering, sinkhorn_iterations=4).double()
    loss_fn.center.fill_(7.0).mul_(torch.arange(20.0))  # not asked for
    log_p = (student / 0.1).log_softmax(dim=-1)
    q = [sinkhorn(view, 0.3, iterations) for view in teacher]
    terms = [-(q[i] * log_p[v]).sum(dim=-1).mean() for i in range(2) for v in range(4) if v != i]
    loss = loss_fn(student.flatten(0, 1), teacher.flatten(0, 1), 0)
    torch.testing.assert_close(loss, torch.stack(terms).mean(), rtol=1e-8, atol=0)


def test_without_centring_the_center_is_not_used_but_kept_up_to_date():
    student, teacher = official.normal(5, (3 * 4, 8)), official.normal(6, (2 * 4, 8))
    loss_fn = DINOLoss(8, 3, 0.04, 0.04, 0, epochs=1, centering="none")
    first = loss_fn(student, teacher, 0)
    assert loss_fn.center.any()
    assert torch.equal(loss_fn(student, teacher, 0), first)


@pytest.mark.parametrize("centering", ["batch-softmax", "sinkhorn", "none"])
def test_every_centring_runs_on_fake_cuda(fake_cuda, centering):
    with fake_cuda:
        loss_fn = DINOLoss(32, 5, 0.04, 0.04, 0, epochs=1, centering=centering)
        student, teacher = torch.empty(15, 32, dtype=torch.bfloat16), torch.empty(6, 32, dtype=torch.bfloat16)
    loss = loss_fn(student, teacher, 0)
    assert (loss.device.type, loss.dtype) == ("cuda", torch.float32)
