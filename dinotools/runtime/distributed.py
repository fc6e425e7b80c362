"""Several processes at one command: who this one is, and how they are started and meet.

``dinotools COMMAND --gpus N`` starts N ranks of itself through torch's elastic launcher; under ``torchrun`` they are
there already. Rank and number come from the environment, as every launcher of torch sets it.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from dinotools.runtime.errors import RunFailed

if TYPE_CHECKING:
    from torch import Tensor

PATIENCE = timedelta(hours=12)  # a rank may wait so long for a slower one that still extracts


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


def speaks() -> bool:
    """Whether an error of this process is news: before the ranks meet, all of them fail alike."""
    dist = sys.modules.get("torch.distributed")
    return is_main() or (dist is not None and dist.is_initialized())


@contextmanager
def joined() -> Iterator[None]:
    """Within, the ranks of this command can meet; alone, it does nothing."""
    if world_size() == 1:
        yield
        return
    import torch.distributed as dist

    dist.init_process_group("gloo", timeout=PATIENCE)  # what meets here are results, which lie on the CPU
    yield
    dist.destroy_process_group()  # not after an error: the process ends with it, and speaks() asks who failed


@contextmanager
def _meeting() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # what gloo says of a broken connection helps nobody
        raise RunFailed("another process of this command has stopped", remedy="Its own message says why") from error


def barrier() -> None:
    """Waits for all ranks.

    Raises:
        RunFailed: one of them has stopped.
    """
    if world_size() > 1:
        import torch.distributed as dist

        with _meeting():
            dist.barrier()


def gather(rows: Tensor) -> Tensor:
    """The rows of all ranks, in the order of the ranks, on every one of them; rows lie on the CPU.

    Raises:
        RunFailed: a rank has stopped.
    """
    if world_size() == 1:
        return rows
    import torch
    import torch.distributed as dist

    parts: list[Tensor] = [rows] * world_size()
    with _meeting():
        dist.all_gather_object(parts, rows)
    return torch.cat(parts)


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Runs this command on several ranks of this machine.

    Args:
        processes: how many.
        arguments: the command line, without the program's name.

    Returns:
        The exit code: that of the first rank to fail, or 0.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id="dinotools",
        max_restarts=0,
    )
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # a rank that fails says why itself
    # as torchrun does: N processes with all cores each would mostly wait for one another
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    try:
        elastic_launch(config, sys.executable)("-m", "dinotools", *arguments)
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        return code if code > 0 else 1
    return 0
