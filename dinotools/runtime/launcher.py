"""``--gpus N``: this command on N processes of this machine, on the process engine of torch's elastic launcher.

Of that launcher we leave out its agent, which meets other machines and starts ranks again: on a signal it kills ranks
that need more than 30 seconds for a step and a checkpoint, and does not tell how they ended. Here a signal is handed on
to the ranks, who may take the time they need, and their exit code is that of the command.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

from dinotools.runtime.distributed import LAUNCHER
from dinotools.runtime.errors import DinotoolsError, PeerStopped, RunFailed

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing import PContext

# SIGUSR2 is how submitit asks; on Windows there are only two of them
HANDED_ON = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGHUP") if hasattr(signal, name)
)
POLL_SECONDS = 0.1


def launch(processes: int, program: Sequence[str], device: str = "auto") -> int:
    """Runs a program on several ranks of this machine, and waits for them. If one fails, the others are stopped.

    Args:
        processes: how many.
        program: what Python is to run, such as ``("-m", "dinotools", "knn", ...)``.
        device: what its --device says.

    Returns:
        The exit code: that of the first rank to fail, or 0.

    Raises:
        DinotoolsError: there are not so many devices.
        RunFailed: a rank was killed.
    """
    import torch.distributed as dist
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, start_processes

    check_devices(processes, device)
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # a rank that fails says why itself
    store = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)  # where the ranks find one another
    shared = {
        LAUNCHER: str(os.getpid()),
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # rank 0 opens no store of its own at that address
        "TORCHELASTIC_RESTART_COUNT": "0",
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        # N processes with all cores each would mostly wait for one another
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes))),
    }
    ranks = range(processes)
    with tempfile.TemporaryDirectory() as logs:
        context = start_processes(
            "dinotools",
            sys.executable,
            args={rank: tuple(program) for rank in ranks},
            envs={rank: shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in ranks},
            logs_specs=DefaultLogsSpecs(logs),
        )
        with _handing_on(context) as received:
            done = context.wait(period=POLL_SECONDS)
    failures = done.failures if done is not None else {}
    return _exit_code({rank: failure.exitcode for rank, failure in failures.items()}, received)


def check_devices(processes: int, device: str) -> None:
    """Refuses more processes than devices; the CPU has place for any number.

    Raises:
        DinotoolsError: there are fewer.
    """
    import torch

    if device.partition(":")[0] == "cpu":
        return
    option = f"--gpus {processes}"
    on_cpu = f"--device cpu runs {processes} processes on the CPU."
    if device not in ("auto", "cuda"):
        raise DinotoolsError(f"--device {device} is one device", option, f"Leave one of the two out; {on_cpu}")
    present = torch.cuda.device_count()
    if present < processes:
        there_are = {0: "there is none", 1: "there is one"}.get(present, f"there are {present}")
        raise DinotoolsError(f"asks for {processes} GPUs, and {there_are}", option, on_cpu)


@contextmanager
def _handing_on(context: PContext) -> Iterator[list[int]]:
    """Within, signals go to the ranks; gives a list that grows with the signals."""
    received: list[int] = []

    def hand_on(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for pid in context.pids().values():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    before = {number: signal.signal(number, hand_on) for number in HANDED_ON}
    try:
        yield received
    finally:
        context.close(signal.SIGKILL)  # only what an error of ours has left
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit_code(codes: Mapping[int, int], received: Sequence[int]) -> int:
    """Makes one code of those of the ranks that failed, in the order in which they were seen to.

    A rank that was left alone by another one is not the first, even where it was seen first.

    Raises:
        RunFailed: the first was killed, and not by a signal that we handed on.
    """
    first = min(codes, key=lambda rank: codes[rank] == PeerStopped.exit_code, default=None)
    if first is None:
        return 0
    code = codes[first]
    if code >= 0:
        return RunFailed.exit_code if code == PeerStopped.exit_code else code
    if -code in received:
        return 128 - code  # as a shell counts
    guess = " (out of memory?)" if code == -signal.SIGKILL else ""
    raise RunFailed(
        f"rank {first} was killed by signal {-code}{guess}",
        remedy="What was saved is intact: repeat the command, with --resume where it has that option.",
    )
