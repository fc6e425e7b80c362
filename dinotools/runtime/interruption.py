"""A run that is asked to stop finishes its step, saves, and leaves with the code for "start me again".

Batch systems warn before they take a machine back: Slurm sends SIGTERM at a preemption and, with ``--signal``, SIGUSR1
or SIGUSR2 before the time limit. The warning may reach one rank only, or the ranks at different steps; all of them have
to stop after the same one, or those that go on wait for ever.
"""

from __future__ import annotations

import signal
import time
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from dinotools.runtime import distributed
from dinotools.runtime.errors import Interrupted

if TYPE_CHECKING:
    from torch import Tensor

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))
SECOND_THOUGHTS = 1.0  # seconds; wrappers such as ``timeout`` may deliver one Ctrl-C twice


class Interruption:
    """Within, a signal is a request, which the loop asks for once a step.

        with Interruption() as interruption:
            for batch in batches:
                ...
                if interruption.requested():
                    save()
                    raise interruption.stopped(step)

    A second Ctrl-C ends the process at once; any other further signal changes nothing. Ranks that are interrupted
    leave together, since launchers kill the others as soon as one has left. Only in the main thread.
    """

    def __enter__(self) -> Interruption:
        self._number = 0
        self._since = 0.0
        self._asked: tuple[Any, Tensor] | None = None
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._answer()
            elif isinstance(error, Interrupted):
                distributed.barrier()  # one of them still writes
        finally:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def requested(self) -> bool:
        """Whether to stop after this step: the same answer on all ranks, who all call it once a step.

        Alone, it is known at once. Among ranks it is known a step later: the question goes round on the CPU while they
        compute, so that nobody waits, neither for one another nor for a device.

        Raises:
            PeerStopped: a rank has stopped.
        """
        if distributed.world_size() == 1:
            return self._number > 0
        if self._answer():
            return True
        import torch
        import torch.distributed as dist

        question = torch.tensor([self._number])
        with distributed.meeting():
            self._asked = dist.all_reduce(question, dist.ReduceOp.MAX, async_op=True), question
        return False

    def stopped(self, step: int) -> Interrupted:
        """The error to end the run with, once its state after this step is saved."""
        return Interrupted(signal.Signals(self._number).name, step)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if number == signal.SIGINT and self._number and now - self._since > SECOND_THOUGHTS:
            raise KeyboardInterrupt
        if not self._number:
            self._number, self._since = number, now

    def _answer(self) -> bool:
        """What the question of the last step has found."""
        if self._asked is None:
            return False
        (work, answer), self._asked = self._asked, None
        with distributed.meeting():
            work.wait()
        if found := int(answer):
            self._number = found
        return found > 0


def ignore_in_reader(worker_id: int) -> None:
    """``worker_init_fn`` of a DataLoader: signals that reach the whole process group must not end its readers.

    Without readers there is no next batch, and the run would fail instead of saving.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
