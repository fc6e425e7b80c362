"""Several processes at one command: who this one is, and how they meet.

``dinotools COMMAND --gpus N`` starts N ranks of itself (``runtime.launcher``); under ``torchrun`` they are there
already. Rank and number come from the environment, as every launcher of torch sets it.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

from dinotools.runtime.errors import Interrupted, PeerStopped

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PATIENCE = timedelta(hours=12)  # a rank may wait so long for a slower one that still extracts
AFTER_YOU = 15.0  # seconds in which the first rank meets and tells the error that another has met
LAUNCHER = "DINOTOOLS_LAUNCHER"  # set in ranks that --gpus started: their launcher reports one that was killed


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """Number of this process among those of its machine: the CUDA device it uses."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def world_size() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this is the process that writes results and speaks."""
    return rank() == 0


def local_world_size() -> int:
    """How many processes there are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def leave(code: int) -> NoReturn:
    """Ends this process with an exit code.

    After an error among several ranks it ends at once: in an orderly end, threads of a broken connection may abort the
    process ("terminate called without an active exception"), and a signal would stand in the code's place.
    """
    if code and world_size() > 1:
        atexit._run_exitfuncs()  # readers are ended, logs closed
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def speaks(error: Exception) -> bool:
    """Whether an error of this process is news.

    Most errors are met by all ranks alike, sooner or later: the first rank tells of it and ends, whereupon the launcher
    ends the others. One that is still there after a while is alone with its error.
    """
    if isinstance(error, PeerStopped) and LAUNCHER in os.environ:
        return False  # the one that stopped has said why, or the launcher does
    if is_main() or isinstance(error, Interrupted):
        return is_main()
    time.sleep(AFTER_YOU)
    return True


@contextmanager
def joined(device: torch.device | str = "cpu") -> Iterator[None]:
    """Within, the ranks of this command can meet; alone, it does nothing.

    Args:
        device: where the tensors of their meetings lie; results on the CPU can always meet.
    """
    if world_size() == 1:
        yield
        return
    import torch
    import torch.distributed as dist

    backend = "cpu:gloo,cuda:nccl" if torch.device(device).type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield
    except Interrupted:  # in order: all ranks leave at the same step
        dist.destroy_process_group()
        raise
    dist.destroy_process_group()  # not after an error: it would wait for ranks that go on, and the process ends anyway


@contextmanager
def meeting() -> Iterator[None]:
    """Within, a connection to another rank that breaks is an error which says so; other errors pass.

    Raises:
        PeerStopped: it broke.
    """
    try:
        yield
    except RuntimeError as error:
        import torch.distributed as dist

        # NCCL has a type of its own; gloo has none, and names its source file. Neither text helps anybody
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise PeerStopped("another process of this command has stopped", remedy="Its own message says why") from error


def barrier() -> None:
    """Waits for all ranks.

    Raises:
        PeerStopped: one of them has stopped.
    """
    if world_size() > 1:
        import torch

        sum_over_ranks(torch.zeros(1))  # on the CPU: dist.barrier() may wait for a device that has work to do


def gather(rows: Tensor) -> Tensor:
    """The rows of all ranks, in the order of the ranks, on every one of them; rows lie on the CPU.

    Raises:
        PeerStopped: a rank has stopped.
    """
    if world_size() == 1:
        return rows
    import torch
    import torch.distributed as dist

    parts: list[Tensor] = [rows] * world_size()
    with meeting():
        dist.all_gather_object(parts, rows)
    return torch.cat(parts)


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Replaces a tensor of any shape and device by its sum over the ranks; they all call it, in the same order.

    Returns:
        The tensor itself. The device is not waited for.

    Raises:
        PeerStopped: a rank has stopped.
    """
    if world_size() > 1:
        import torch.distributed as dist

        with meeting():
            dist.all_reduce(tensor)
    return tensor


def mean_over_ranks(tensor: Tensor) -> Tensor:
    """As sum_over_ranks, for the mean; the tensor holds floats."""
    return sum_over_ranks(tensor) if world_size() == 1 else sum_over_ranks(tensor).div_(world_size())


def max_over_ranks(tensor: Tensor) -> Tensor:
    """As sum_over_ranks, for the largest value of each element."""
    if world_size() > 1:
        import torch.distributed as dist

        with meeting():
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return tensor


def gather_tensors(tensor: Tensor) -> Tensor:
    """The rows of all ranks, in the order of the ranks, on the tensor's own device; every rank has equally many.

    Args:
        tensor: (n, ...), of the same shape and dtype on all ranks.

    Returns:
        (world_size * n, ...), without gradients.

    Raises:
        PeerStopped: a rank has stopped.
    """
    tensor = tensor.detach().contiguous()
    if world_size() == 1:
        return tensor
    import torch
    import torch.distributed as dist

    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    with meeting():
        dist.all_gather(parts, tensor)
    return torch.cat(parts)
