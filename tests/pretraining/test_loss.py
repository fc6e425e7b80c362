import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dinotools.configs.pretraining import PretrainConfig
from dinotools.pretraining.contrastive import InfoNCE
from dinotools.pretraining.loss import DINOLoss, NormalizedMSE, build_loss
from tests.golden import official

GOLDEN = official.arrays("loss")
CALLS = [(0, 401, 501, 0.1), (1, 402, 502, 0.1), (2, 403, 503, 0.3), (5, 404, 504, 1.0)]  # epoch, seeds, scale
FLOAT32 = {"loss": {"rtol": 2e-6}, "gradient": {"rtol": 0, "atol": 2e-6}, "center": {"rtol": 0, "atol": 2e-7}}
FLOAT64 = {"loss": {"rtol": 1e-9}, "gradient": {"rtol": 1e-9, "atol": 1e-15}, "center": {"rtol": 1e-9, "atol": 1e-15}}


def pairwise_loss(
    student: Tensor, teacher: Tensor, center: Tensor, n_crops: int, student_temp: float, teacher_temp: float
) -> Tensor:
    """The definition: every teacher view against every other crop, one cross-entropy at a time."""
    views, crops = teacher.chunk(2), student.chunk(n_crops)
    terms = []
    for i, view in enumerate(views):
        q = torch.softmax((view - center) / teacher_temp, dim=-1)
        for v, crop in enumerate(crops):
            if v != i:
                terms.append(-(q * torch.log_softmax(crop / student_temp, dim=-1)).sum(dim=-1).mean())
    return torch.stack(terms).mean()


def constant_temp_loss(out_dim: int, n_crops: int, student_temp: float, teacher_temp: float) -> DINOLoss:
    return DINOLoss(out_dim, n_crops, teacher_temp, teacher_temp, 0, epochs=1, student_temp=student_temp)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_four_calls_agree_with_the_official_run(dtype):
    suffix, tolerance = ("", FLOAT32) if dtype == torch.float32 else ("_f64", FLOAT64)
    loss_fn = DINOLoss(1024, 8, 0.04, 0.07, 3, epochs=6).to(dtype)
    for call, (epoch, student_seed, teacher_seed, scale) in enumerate(CALLS):
        student = (np.float32(scale) * official.normal(student_seed, (64, 1024))).to(dtype).requires_grad_()
        teacher = (np.float32(scale) * official.normal(teacher_seed, (16, 1024))).to(dtype)
        loss = loss_fn(student, teacher, epoch)
        loss.backward()

        assert loss.dtype == loss_fn.center.dtype == dtype
        np.testing.assert_allclose(loss.item(), GOLDEN[f"loss{suffix}"][call], **tolerance["loss"])
        parts = GOLDEN["teacher_entropy_f64"][call] + GOLDEN["kl_f64"][call]
        np.testing.assert_allclose(loss.item(), parts, **tolerance["loss"])
        entropy = loss_fn.statistics["teacher_entropy"]
        for seen, name in ((entropy, "teacher_entropy_f64"), (loss.detach() - entropy, "kl_f64")):
            np.testing.assert_allclose(
                seen, GOLDEN[name][call], **tolerance["loss"] | {"atol": tolerance["loss"]["rtol"]}
            )
        np.testing.assert_allclose(loss_fn.center[0], GOLDEN[f"center{suffix}"][call], **tolerance["center"])
        gradient = student.grad
        np.testing.assert_allclose(gradient[:, ::16], GOLDEN["grad_cols16_f64"][call], **tolerance["gradient"])
        np.testing.assert_allclose(gradient.norm(dim=1), GOLDEN["grad_row_norm_f64"][call], **tolerance["gradient"])
        row_sums = gradient.sum(dim=1)  # zero but for rounding: softmax minus a distribution
        np.testing.assert_allclose(
            row_sums, GOLDEN["grad_row_sum_f64"][call], rtol=0, atol=tolerance["gradient"]["atol"]
        )
        if call == 0:
            np.testing.assert_allclose(gradient, GOLDEN["grad_call0"], **FLOAT32["gradient"])


@pytest.mark.parametrize("n_crops", [2, 3, 10])
@pytest.mark.parametrize(("batch", "out_dim"), [(1, 2), (3, 7), (4, 300)])
@pytest.mark.parametrize(("student_temp", "teacher_temp"), [(0.1, 0.04), (0.1, 0.07), (1.0, 0.5)])
def test_equals_the_pairwise_double_loop(n_crops, batch, out_dim, student_temp, teacher_temp):
    loss_fn = constant_temp_loss(out_dim, n_crops, student_temp, teacher_temp).double()
    loss_fn.center.copy_(official.normal(1, (1, out_dim)))
    center = loss_fn.center.clone()
    student = official.normal(2, (n_crops * batch, out_dim)).double().requires_grad_()
    teacher = official.normal(3, (2 * batch, out_dim)).double()
    expected = pairwise_loss(student, teacher, center, n_crops, student_temp, teacher_temp)
    (expected_gradient,) = torch.autograd.grad(expected, student)

    loss = loss_fn(student, teacher, epoch=0)
    loss.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(student.grad, expected_gradient, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(loss_fn.center, 0.9 * center + 0.1 * teacher.mean(dim=0), rtol=1e-12, atol=1e-14)


@settings(max_examples=50)
@given(
    n_crops=st.integers(2, 12),
    batch=st.integers(1, 6),
    out_dim=st.integers(1, 40),
    scale=st.floats(0.01, 20),
    seed=st.integers(0, 10**6),
)
def test_equals_the_pairwise_double_loop_in_float32(n_crops, batch, out_dim, scale, seed):
    student = (scale * official.normal(seed, (n_crops * batch, out_dim))).requires_grad_()
    teacher = scale * official.normal(seed + 1, (2 * batch, out_dim))
    loss_fn = constant_temp_loss(out_dim, n_crops, 0.1, 0.04)
    expected = pairwise_loss(student.double(), teacher.double(), loss_fn.center, n_crops, 0.1, 0.04)
    (expected_gradient,) = torch.autograd.grad(expected, student)

    loss = loss_fn(student, teacher, epoch=0)
    loss.backward()
    assert loss.dtype == torch.float32
    # logits reach scale / student_temp, and so does their rounding in units of the last place
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5 * scale)
    torch.testing.assert_close(student.grad, expected_gradient, rtol=0, atol=1e-4)


def test_swapping_the_views_of_both_networks_changes_nothing_but_mixing_them_up_does():
    student, teacher = official.normal(4, (4 * 5, 16)), official.normal(5, (2 * 5, 16))
    swapped_student = torch.cat([student[5:10], student[:5], student[10:]])
    swapped_teacher = torch.cat([teacher[5:], teacher[:5]])

    def value(student: Tensor, teacher: Tensor) -> Tensor:
        return constant_temp_loss(16, 4, 0.1, 0.04)(student, teacher, 0)

    torch.testing.assert_close(value(swapped_student, swapped_teacher), value(student, teacher))
    assert not torch.isclose(value(student, swapped_teacher), value(student, teacher), rtol=1e-3)


def test_the_center_is_used_before_it_is_updated():
    student, teacher = official.normal(6, (3 * 4, 8)), official.normal(7, (2 * 4, 8))
    loss_fn = constant_temp_loss(8, 3, 0.1, 0.04)
    first = loss_fn(student, teacher, 0)
    torch.testing.assert_close(first, pairwise_loss(student, teacher, torch.zeros(1, 8), 3, 0.1, 0.04))
    center = loss_fn.center.clone()
    assert center.any()
    torch.testing.assert_close(loss_fn(student, teacher, 0), pairwise_loss(student, teacher, center, 3, 0.1, 0.04))


def test_center_momentum_is_the_share_that_stays():
    loss_fn = DINOLoss(4, 2, 0.04, 0.04, 0, epochs=1, center_momentum=0.25)
    loss_fn.center.fill_(8.0)
    loss_fn.update_center(torch.full((6, 4), 4.0))
    torch.testing.assert_close(loss_fn.center, torch.full((1, 4), 5.0))


def test_the_center_moves_only_when_it_is_told_to():
    student, teacher = official.normal(16, (3 * 4, 8)), official.normal(17, (2 * 4, 8))
    loss_fn, other = constant_temp_loss(8, 3, 0.1, 0.04), constant_temp_loss(8, 3, 0.1, 0.04)
    loss_fn(student, teacher, 0, update_center=False)
    assert not loss_fn.center.any()
    loss_fn.update_center(teacher)
    other(student, teacher, 0)
    assert torch.equal(loss_fn.center, other.center)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_output_that_is_not_finite_leaves_the_center_as_it_is(bad):
    loss_fn = constant_temp_loss(8, 3, 0.1, 0.04)
    loss_fn.center.fill_(2.0)
    loss_fn.update_center(torch.full((4, 8), 3.0).index_fill(1, torch.tensor(5), bad))
    assert torch.equal(loss_fn.center, torch.full((1, 8), 2.0))


@pytest.mark.parametrize("centering", ["center", "batch-softmax", "sinkhorn", "none"])
def test_statistics_of_the_teacher_are_those_of_its_distributions(centering):
    student, teacher = official.normal(18, (5 * 6, 40)).double(), official.normal(19, (2 * 6, 40)).double()
    loss_fn = DINOLoss(40, 5, 0.3, 0.3, 0, epochs=1, centering=centering).double()
    loss_fn(student, teacher, 0)
    offset = loss_fn._offset(teacher.unflatten(0, (2, -1)), 0.3) if centering != "center" else torch.zeros(1, 1, 40)
    q = ((teacher.unflatten(0, (2, -1)) - offset) / 0.3).softmax(dim=-1)
    entropy = -(q * q.log()).sum(dim=-1).mean()
    mean = q.mean(dim=(0, 1))
    torch.testing.assert_close(loss_fn.statistics["teacher_entropy"], entropy)
    torch.testing.assert_close(loss_fn.statistics["mean_entropy"], -(mean * mean.log()).sum())
    assert not any(value.requires_grad for value in loss_fn.statistics.values())


@pytest.mark.parametrize("cuts", [(2,), (1,), (1, 3), (3,), (1, 2, 3, 4)])
@pytest.mark.parametrize("loss", ["ce", "sinkhorn", "mse", "infonce"])
def test_the_shares_of_crops_add_up_to_the_loss(loss, cuts):
    student = official.normal(20, (5 * 6, 40)).double().requires_grad_()
    teacher = official.normal(21, (2 * 6, 40)).double()
    loss_fn = {
        "ce": constant_temp_loss(40, 5, 0.1, 0.3),
        "sinkhorn": DINOLoss(40, 5, 0.3, 0.3, 0, epochs=1, centering="sinkhorn"),
        "mse": NormalizedMSE(40, 5),
        "infonce": InfoNCE(40, 5, 0.2, queue_size=30),
    }[loss].double()
    whole = loss_fn(student, teacher, 0, update_center=False)
    (gradient,) = torch.autograd.grad(whole, student)
    statistics = loss_fn.statistics
    first_crops = (0, *cuts)
    shares = []
    for first, crops in zip(first_crops, student.unflatten(0, (5, -1)).tensor_split(cuts), strict=True):
        shares.append(loss_fn(crops.flatten(0, 1), teacher, 0, update_center=False, first_crop=first))
        torch.testing.assert_close(loss_fn.statistics, statistics)  # they speak of the teacher alone
    torch.testing.assert_close(sum(shares), whole)
    torch.testing.assert_close(torch.autograd.grad(sum(shares), student)[0], gradient)


def test_the_epoch_picks_the_teacher_temperature():
    student, teacher = official.normal(8, (2 * 4, 8)), official.normal(9, (2 * 4, 8))
    for epoch, temp in enumerate([0.04, 0.055, 0.07, 0.07]):
        loss_fn = DINOLoss(8, 2, 0.04, 0.07, warmup_teacher_temp_epochs=3, epochs=4)
        expected = pairwise_loss(student, teacher, torch.zeros(1, 8), 2, 0.1, temp)
        torch.testing.assert_close(loss_fn(student, teacher, epoch), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_give_the_float32_loss_of_the_widened_logits(dtype):
    student = official.normal(10, (4 * 3, 64)).to(dtype).requires_grad_()
    teacher = official.normal(11, (2 * 3, 64)).to(dtype)
    half, full = constant_temp_loss(64, 4, 0.1, 0.04), constant_temp_loss(64, 4, 0.1, 0.04)
    loss = half(student, teacher, 0)
    loss.backward()
    assert loss.dtype == half.center.dtype == torch.float32
    assert student.grad.dtype == dtype
    assert torch.equal(loss, full(student.float(), teacher.float(), 0))
    assert torch.equal(half.center, full.center)


def test_the_teacher_gets_no_gradient():
    student = official.normal(12, (3 * 2, 8)).requires_grad_()
    teacher = official.normal(13, (2 * 2, 8)).requires_grad_()
    loss_fn = constant_temp_loss(8, 3, 0.1, 0.04)
    loss_fn(student, teacher, 0).backward()
    assert teacher.grad is None
    assert not loss_fn.center.requires_grad


def test_the_center_is_all_the_state():
    assert (
        list(constant_temp_loss(8, 2, 0.1, 0.04).state_dict())
        == official.keys()["training_checkpoint"]["dino_loss_keys"]
    )


def test_large_logits_stay_finite():
    student, teacher = 1e4 * official.normal(14, (3 * 2, 8)), 1e4 * official.normal(15, (2 * 2, 8))
    assert torch.isfinite(constant_temp_loss(8, 3, 0.1, 0.04)(student, teacher, 0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_runs_on_fake_cuda(fake_cuda, dtype):
    with fake_cuda:
        loss_fn = constant_temp_loss(32, 5, 0.1, 0.04)
        student, teacher = torch.empty(15, 32, dtype=dtype), torch.empty(6, 32, dtype=dtype)
    loss = loss_fn(student, teacher, 0)
    assert (loss.device.type, loss.shape, loss.dtype) == ("cuda", (), torch.float32)
    assert loss_fn.center.device.type == "cuda"


def pairwise_distance(student: Tensor, teacher: Tensor, n_crops: int) -> Tensor:
    views, crops = teacher.chunk(2), student.chunk(n_crops)
    terms = [
        (crop / crop.norm(dim=1, keepdim=True) - view / view.norm(dim=1, keepdim=True)).square().sum(dim=1).mean()
        for i, view in enumerate(views)
        for v, crop in enumerate(crops)
        if v != i
    ]
    return torch.stack(terms).mean()


@pytest.mark.parametrize("n_crops", [2, 3, 8])
@pytest.mark.parametrize("centering", ["center", "none"])
def test_mse_equals_the_pairwise_double_loop(n_crops, centering):
    student = official.normal(20, (n_crops * 5, 24)).double().requires_grad_()
    teacher = official.normal(21, (2 * 5, 24)).double()
    loss_fn = NormalizedMSE(24, n_crops, centering=centering).double()
    loss_fn.center.copy_(official.normal(22, (1, 24)))
    center = loss_fn.center.clone()
    expected = pairwise_distance(student, teacher - center if centering == "center" else teacher, n_crops)
    (expected_gradient,) = torch.autograd.grad(expected, student)
    loss = loss_fn(student, teacher, 0)
    loss.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(student.grad, expected_gradient)
    torch.testing.assert_close(loss_fn.center, 0.9 * center + 0.1 * teacher.mean(dim=0))


def test_mse_compares_no_distributions():
    with pytest.raises(ValueError, match="sinkhorn"):
        NormalizedMSE(8, 2, centering="sinkhorn")


def test_mse_runs_on_fake_cuda(fake_cuda):
    with fake_cuda:
        loss_fn = NormalizedMSE(32, 5)
        student, teacher = torch.empty(15, 32, dtype=torch.bfloat16), torch.empty(6, 32, dtype=torch.bfloat16)
    loss = loss_fn(student, teacher, 0)
    assert (loss.device.type, loss.dtype, loss_fn.center.device.type) == ("cuda", torch.float32, "cuda")


def test_options_name_the_loss(tmp_path):
    def built(**options: object) -> torch.nn.Module:
        return build_loss(PretrainConfig(data="digits", out=tmp_path, out_dim=16, crops="2x32+3x16", **options))

    cross_entropy = built(centering="sinkhorn", sinkhorn_iterations=5, center_momentum=0.8, student_temp=0.2)
    assert isinstance(cross_entropy, DINOLoss)
    found = (cross_entropy.centering, cross_entropy.sinkhorn_iterations, cross_entropy.center_momentum)
    assert found == ("sinkhorn", 5, 0.8)
    assert (cross_entropy.n_crops, cross_entropy.student_temp) == (5, 0.2)
    mse = built(loss="mse", centering="none")
    assert isinstance(mse, NormalizedMSE) and (mse.centering, mse.n_crops) == ("none", 5)
    infonce = built(loss="infonce", queue_size=9, student_temp=0.2)
    assert isinstance(infonce, InfoNCE) and infonce.queue.shape == (9, 16)
    assert (infonce.student_temp, infonce.n_crops) == (0.2, 5)
