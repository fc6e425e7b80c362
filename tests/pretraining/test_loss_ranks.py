"""Two ranks with half of the images each, beside one with all of them."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from torch import Tensor, nn

from dinotools.pretraining.contrastive import InfoNCE
from dinotools.pretraining.loss import DINOLoss, NormalizedMSE
from dinotools.runtime import distributed
from tests.golden import official

N_CROPS, BATCH, OUT_DIM = 4, 6, 20
CENTERINGS = ("center", "batch-softmax", "sinkhorn", "none")


def losses() -> Iterator[tuple[str, nn.Module]]:
    for centering in CENTERINGS:
        yield centering, DINOLoss(OUT_DIM, N_CROPS, 0.1, 0.1, 0, epochs=1, centering=centering)
    yield "mse", NormalizedMSE(OUT_DIM, N_CROPS)
    yield "infonce", InfoNCE(OUT_DIM, N_CROPS, queue_size=50)


def outputs(step: int, images: slice) -> tuple[Tensor, Tensor]:
    """Student and teacher rows of some of the images."""
    student = official.normal(10 + step, (N_CROPS, BATCH, OUT_DIM)).double()[:, images]
    teacher = official.normal(20 + step, (2, BATCH, OUT_DIM)).double()[:, images]
    return student.flatten(0, 1).requires_grad_(), teacher.flatten(0, 1)


def two_steps(loss_fn: nn.Module, images: slice) -> dict[str, Tensor]:
    """The second step meets the centre or queue that the first left."""
    for step in range(2):
        student, teacher = outputs(step, images)
        loss = loss_fn(student, teacher, 0)
        loss.backward()
    return {"loss": loss.detach(), "gradient": student.grad, **loss_fn.state_dict()}


def be_a_rank(rank: int, port: int, folder: Path) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="localhost", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    with distributed.joined():
        images = slice(rank * BATCH // 2, (rank + 1) * BATCH // 2)
        torch.save({name: two_steps(loss_fn.double(), images) for name, loss_fn in losses()}, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(be_a_rank, (port, folder), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize(("name", "loss_fn"), list(losses()), ids=lambda value: value if isinstance(value, str) else "")
def test_two_ranks_equal_one(ranks, name, loss_fn):
    one = two_steps(loss_fn.double(), slice(None))
    first, second = (rank[name] for rank in ranks)
    torch.testing.assert_close((first["loss"] + second["loss"]) / 2, one["loss"])
    # DistributedDataParallel takes the mean over the ranks, so each one's share of a gradient is half
    parts = [rank["gradient"].unflatten(0, (N_CROPS, -1)) / 2 for rank in (first, second)]
    torch.testing.assert_close(torch.cat(parts, dim=1).flatten(0, 1), one["gradient"])
    if name == "infonce":
        assert torch.equal(first["queue"], second["queue"])
        # the rows of each step are those of rank 0, then of rank 1, in place of those of a view after the other
        rows = one["queue"].clone()
        for start in (50 - 4 * BATCH, 50 - 2 * BATCH):
            views = one["queue"][start : start + 2 * BATCH].unflatten(0, (2, 2, -1))
            rows[start : start + 2 * BATCH] = views.transpose(0, 1).reshape(2 * BATCH, -1)
        torch.testing.assert_close(first["queue"], rows)
    else:
        assert torch.equal(first["center"], second["center"])
        torch.testing.assert_close(first["center"], one["center"])
