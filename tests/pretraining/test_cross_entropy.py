import pytest
import torch
from torch import Tensor

from dinotools.pretraining import cross_entropy
from dinotools.pretraining.cross_entropy import MultiCropCrossEntropy
from tests.golden import official
from tests.pretraining.test_loss import pairwise_loss

N_CROPS, BATCH, OUT_DIM = 5, 7, 33


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of student and teacher and an offset of each prototype for each view."""
    student = official.normal(1, (N_CROPS, BATCH, OUT_DIM)).to(dtype).requires_grad_()
    return student, official.normal(2, (2, BATCH, OUT_DIM)).to(dtype), official.normal(3, (2, 1, OUT_DIM)).to(dtype)


@pytest.mark.parametrize("n_crops", [2, 3, 5])
def test_the_gradient_is_that_of_finite_differences(n_crops):
    student, teacher, offset = inputs()
    student = student[:n_crops, :3].detach().requires_grad_()

    def loss(student: Tensor) -> Tensor:
        return MultiCropCrossEntropy.apply(student, teacher[:, :3], offset, 0.2, 0.1)[0]

    assert torch.autograd.gradcheck(loss, student)


@pytest.mark.parametrize("images", [1, 2, 3, 7, 100])
def test_parts_of_any_size_give_the_whole(monkeypatch, images):
    monkeypatch.setitem(cross_entropy.PART, "cpu", images * N_CROPS * OUT_DIM)
    student, teacher, offset = inputs()
    expected = pairwise_loss(student.flatten(0, 1), (teacher - offset).flatten(0, 1), torch.zeros(1), N_CROPS, 0.2, 0.1)
    (expected_gradient,) = torch.autograd.grad(3 * expected, student)
    loss, entropy, mean = MultiCropCrossEntropy.apply(student, teacher, offset, 0.2, 0.1)
    (3 * loss).backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(student.grad, expected_gradient)
    q = ((teacher - offset) / 0.1).softmax(dim=-1)
    torch.testing.assert_close(entropy, torch.special.entr(q).sum(dim=-1).mean())
    torch.testing.assert_close(mean, q.mean(dim=(0, 1)))


def test_the_graph_may_be_kept_and_used_again():
    student, teacher, offset = inputs()
    loss = MultiCropCrossEntropy.apply(student, teacher, offset, 0.2, 0.1)[0]
    (first,) = torch.autograd.grad(loss, student, retain_graph=True)
    (second,) = torch.autograd.grad(loss, student)
    assert torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_logits_are_kept_as_they_are_and_get_the_rounded_gradient(dtype):
    student, teacher, _ = inputs(dtype)
    offset = official.normal(3, (1, 1, OUT_DIM))
    saved: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = MultiCropCrossEntropy.apply(student, teacher, offset, 0.1, 0.04)[0]
    loss.backward()
    assert loss.dtype == torch.float32 and student.grad.dtype == dtype
    own = {tensor.data_ptr() for tensor in (student, teacher, offset)}
    assert own <= {tensor.data_ptr() for tensor in saved}
    # beside what it was given, it keeps one number a row
    assert sum(tensor.numel() for tensor in saved if tensor.data_ptr() not in own) == N_CROPS * BATCH

    wide = student.detach().float().requires_grad_()
    expected = MultiCropCrossEntropy.apply(wide, teacher.float(), offset, 0.1, 0.04)[0]
    expected.backward()
    assert torch.equal(loss, expected)
    assert torch.equal(student.grad, wide.grad.to(dtype))


class LargestTensor(torch.utils._python_dispatch.TorchDispatchMode):
    """Notes the elements of the largest float32 tensor that is made."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out.dtype == torch.float32:
            self.elements = max(self.elements, out.numel())
        return out


def test_no_float32_copy_of_half_logits_is_made_at_once(monkeypatch):
    monkeypatch.setitem(cross_entropy.PART, "cpu", N_CROPS * OUT_DIM)  # an image at a time
    student, teacher, _ = inputs(torch.bfloat16)
    with LargestTensor() as largest:
        MultiCropCrossEntropy.apply(student, teacher, torch.zeros(1, 1, OUT_DIM), 0.1, 0.04)[0].backward()
    assert largest.elements == N_CROPS * OUT_DIM


def test_the_scale_of_the_loss_saves_small_gradients_in_half_precision():
    student, teacher, offset = inputs(torch.float16)
    loss = 1e-9 * MultiCropCrossEntropy.apply(student, teacher, offset, 0.1, 0.04)[0]
    (lost,) = torch.autograd.grad(loss, student, retain_graph=True)
    assert not lost.any()
    (saved,) = torch.autograd.grad(2**30 * loss, student)  # multiplied before it is rounded
    wide = student.detach().float().requires_grad_()
    (exact,) = torch.autograd.grad(MultiCropCrossEntropy.apply(wide, teacher, offset, 0.1, 0.04)[0], wide)
    torch.testing.assert_close(saved.float(), 1e-9 * 2**30 * exact, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_forward_and_backward_run_on_fake_cuda(fake_cuda, dtype):
    with fake_cuda:
        student = torch.empty(5, 3, 32, dtype=dtype, requires_grad=True)
        teacher, offset = torch.empty(2, 3, 32, dtype=dtype), torch.empty(1, 1, 32)
    outputs = MultiCropCrossEntropy.apply(student, teacher, offset, 0.1, 0.04)
    assert [(out.device.type, out.dtype) for out in outputs] == 3 * [("cuda", torch.float32)]
