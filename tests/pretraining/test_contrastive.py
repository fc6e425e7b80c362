import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dinotools.pretraining.contrastive import InfoNCE
from tests.golden import official


def unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=-1, keepdim=True)


def pairwise_infonce(student: Tensor, teacher: Tensor, queue: Tensor, n_crops: int, temp: float) -> Tensor:
    """The definition: for each pair, the class of the positive, first among the rows of the queue."""
    terms = []
    for i, view in enumerate(unit(teacher).chunk(2)):
        for v, crop in enumerate(unit(student).chunk(n_crops)):
            if v != i:
                logits = torch.cat([(crop * view).sum(dim=1, keepdim=True), crop @ queue.T], dim=1) / temp
                terms.append(torch.nn.functional.cross_entropy(logits, torch.zeros(len(crop), dtype=torch.long)))
    return torch.stack(terms).mean()


@settings(max_examples=30)
@given(
    n_crops=st.integers(2, 6),
    batch=st.integers(1, 5),
    out_dim=st.integers(2, 20),
    queue_size=st.integers(1, 30),
    seed=st.integers(0, 10**6),
)
def test_equals_a_classification_of_the_positive(n_crops, batch, out_dim, queue_size, seed):
    student = official.normal(seed, (n_crops * batch, out_dim)).double().requires_grad_()
    teacher = official.normal(seed + 1, (2 * batch, out_dim)).double()
    loss_fn = InfoNCE(out_dim, n_crops, 0.2, queue_size).double()
    for _ in range(2):  # once against random rows, once against those of the first call
        expected = pairwise_infonce(student, teacher, loss_fn.queue, n_crops, 0.2)
        (expected_gradient,) = torch.autograd.grad(expected, student)
        student.grad = None
        loss = loss_fn(student, teacher, 0)
        loss.backward()
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(student.grad, expected_gradient)


def test_the_oldest_rows_leave_the_queue():
    loss_fn = InfoNCE(4, 2, 0.2, queue_size=10)
    first = loss_fn.queue.clone()
    torch.testing.assert_close(first.norm(dim=1), torch.ones(10))
    rows = unit(official.normal(1, (16, 4)))
    loss_fn.update_center(3 * rows[:4])
    torch.testing.assert_close(loss_fn.queue, torch.cat([first[4:], rows[:4]]))
    loss_fn.update_center(rows[4:12])
    torch.testing.assert_close(loss_fn.queue, rows[2:12])
    loss_fn.update_center(rows)  # more than fit
    torch.testing.assert_close(loss_fn.queue, rows[6:])


def test_a_row_that_is_not_finite_leaves_the_queue_as_it_is():
    loss_fn = InfoNCE(4, 2, 0.2, queue_size=10)
    first = loss_fn.queue.clone()
    loss_fn.update_center(torch.tensor([[1.0, 2.0, torch.nan, 4.0], [1.0, 2.0, 3.0, 4.0]]))
    assert torch.equal(loss_fn.queue, first)


def test_the_queue_moves_only_when_it_is_told_to():
    loss_fn = InfoNCE(4, 2, 0.2, queue_size=10)
    first = loss_fn.queue.clone()
    loss_fn(official.normal(1, (6, 4)), official.normal(2, (6, 4)), 0, update_center=False)
    assert torch.equal(loss_fn.queue, first)


def test_the_queue_resumes_from_the_state():
    loss_fn, other = InfoNCE(4, 2, 0.2, queue_size=10), InfoNCE(4, 2, 0.2, queue_size=10)
    assert torch.equal(loss_fn.queue, other.queue)  # every rank and every run starts alike
    loss_fn.update_center(official.normal(1, (6, 4)))
    state = loss_fn.state_dict()
    assert list(state) == ["queue"] and state["queue"].untyped_storage().nbytes() == 10 * 4 * 4
    other.load_state_dict(state)
    assert torch.equal(loss_fn.queue, other.queue)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_runs_on_fake_cuda(fake_cuda, dtype):
    with fake_cuda:
        student, teacher = torch.empty(15, 32, dtype=dtype), torch.empty(6, 32, dtype=dtype)
    loss_fn = InfoNCE(32, 5, 0.2, queue_size=40).to(fake_cuda)
    loss = loss_fn(student, teacher, 0)
    assert (loss.device.type, loss.shape, loss.dtype) == ("cuda", (), torch.float32)
    assert loss_fn.queue.device.type == "cuda" and loss_fn.queue.shape == (40, 32)
