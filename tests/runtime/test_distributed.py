"""What ranks tell one another."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dinotools.runtime import distributed
from dinotools.runtime.errors import DinotoolsError, Interrupted, PeerStopped

ROOT = Path(__file__).parents[2]
RANKS = """
import os
import torch
from dinotools.runtime import distributed
from dinotools.runtime.errors import PeerStopped

with distributed.joined():
    rank = distributed.rank()
    rows = torch.arange(6).reshape(2, 3) + 10 * rank
    total = rows.clone()
    assert distributed.sum_over_ranks(total) is total
    assert total.tolist() == [[30, 33, 36], [39, 42, 45]]
    assert distributed.mean_over_ranks(torch.tensor([1.0 + rank])).item() == 2.0
    assert distributed.max_over_ranks(torch.tensor([rank, -rank])).tolist() == [2, 0]
    needs_gradient = rows.T.float().requires_grad_()  # not contiguous either
    assert distributed.gather_tensors(needs_gradient)[:, 1].tolist() == [3, 4, 5, 13, 14, 15, 23, 24, 25]
    assert distributed.gather(torch.full((rank,), rank)).tolist() == [1, 2, 2]
    distributed.barrier()
    if rank == 1:
        os._exit(0)  # leaves the others alone
    try:
        distributed.barrier()
    except PeerStopped as error:
        assert "another process of this command has stopped" in str(error)
        distributed.leave(error.exit_code)
"""


def test_three_ranks_meet():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    ranks = []
    for rank in range(3):
        env = {"RANK": rank, "WORLD_SIZE": 3, "MASTER_ADDR": "localhost", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
        env = os.environ | {name: str(value) for name, value in env.items()}
        ranks.append(subprocess.Popen([sys.executable, "-c", RANKS], env=env, cwd=ROOT, stderr=subprocess.PIPE))
    errors = [rank.communicate(timeout=100)[1].decode() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [76, 0, 76], errors


def test_alone_there_is_nobody_to_meet():
    rows = torch.rand(4, 3)
    with distributed.joined("cuda"):  # not even a group is made
        assert not torch.distributed.is_initialized()
        distributed.barrier()
        for meet in ("sum_over_ranks", "mean_over_ranks", "max_over_ranks", "gather_tensors", "gather"):
            assert torch.equal(getattr(distributed, meet)(rows.clone()), rows)
    assert not distributed.gather_tensors(rows.requires_grad_()).requires_grad


def test_only_a_broken_connection_is_a_peer_that_stopped():
    with pytest.raises(PeerStopped), distributed.meeting():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:1] Connection closed by peer")
    with pytest.raises(PeerStopped), distributed.meeting():
        raise torch.distributed.DistBackendError("NCCL communicator was aborted")
    with pytest.raises(RuntimeError, match="shapes"), distributed.meeting():
        raise RuntimeError("shapes differ")
    with pytest.raises(torch.OutOfMemoryError), distributed.meeting():
        raise torch.OutOfMemoryError("out of memory")


def test_who_says_an_error(monkeypatch):
    bad_input, interrupted, left_alone = DinotoolsError("bad"), Interrupted("SIGTERM", 1), PeerStopped("gone")
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    assert all(map(distributed.speaks, (bad_input, interrupted, left_alone)))
    monkeypatch.setenv(distributed.LAUNCHER, "1")  # it speaks of a rank that was killed
    assert [*map(distributed.speaks, (bad_input, interrupted, left_alone))] == [True, True, False]
    monkeypatch.setenv("RANK", "1")
    assert not waited
    # the first one has met it as well, and is ended by then; or this one is alone with it
    assert [*map(distributed.speaks, (bad_input, interrupted, left_alone))] == [True, False, False]
    assert waited == [distributed.AFTER_YOU]
