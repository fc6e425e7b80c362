"""``--slurm``: a run as a job of a Slurm cluster, one task a GPU, that is queued again until it is done.

Submitted through submitit. At a preemption or shortly before its time limit the run saves and its job is requeued;
started again, it goes on from its checkpoint.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dinotools.runtime.errors import DinotoolsError, Interrupted, require
from dinotools.runtime.results import Result

READERS = 8  # a task, where --workers leaves the number open
WARNING_SECONDS = 300  # before the time limit: enough for a step and a checkpoint
QUEUED_AGAIN = 10_000  # submitit stops after 3 time limits, and a long run has more
GRACE_SECONDS = 600  # how long a task that has saved waits for Slurm to end it


@dataclass(frozen=True)
class Submission:
    """What is asked of Slurm.

    Args:
        folder: of submitit's files and the log; all machines see it.
        nodes: machines.
        tasks: processes on each of them.
        gpus: GPUs of each of them.
        readers: further processes of each task.
        hours: time limit of one stay on the machines.
        partition: of the cluster.
        options: further options of sbatch; None for one without a value.
    """

    folder: Path
    nodes: int
    tasks: int
    gpus: int
    readers: int
    hours: float
    partition: str | None
    options: Mapping[str, str | bool]

    @classmethod
    def of(cls, config: Any) -> Submission:
        """From the options of a command that has --out, --workers, --device and those of launching.

        Raises:
            DinotoolsError: they contradict one another.
        """
        require(not config.overwrite, "is not for --slurm", "overwrite", "Remove the directory, or choose another.")
        require(config.nodes > 0, f"asks for {config.nodes} machines", "nodes", "Ask for one at least.")
        require(config.gpus > 0, f"asks for {config.gpus} processes", "gpus", "Ask for one at least.")
        require(config.hours > 0, f"asks for {config.hours} hours", "hours", "It must be above 0.")
        pairs = (word.lstrip("-").partition("=") for word in config.slurm_options)
        return cls(
            folder=config.out.with_name(f"{config.out.name}.slurm"),  # beside it: a new run wants --out empty
            nodes=config.nodes,
            tasks=config.gpus,
            gpus=0 if config.device == "cpu" else config.gpus,
            readers=config.workers if config.workers >= 0 else READERS,
            hours=config.hours,
            partition=config.partition,
            options={name: value if equals else True for name, equals, value in pairs},
        )


class Task:
    """What every task of the job does: it becomes a rank and calls the function. submitit pickles it."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __call__(self) -> None:
        """Runs the function; interrupted, it has the job queued again."""
        import submitit

        environment = submitit.helpers.TorchDistributedEnvironment()
        environment.export(set_cuda_visible_devices=False, overwrite=True)
        try:
            self.function(*self.arguments)
        except Interrupted as error:
            if error.signal_name in ("SIGTERM", "SIGINT"):
                # Slurm says so at a preemption and at scancel alike, and only one of them wants the job again: it ends
                # the task and requeues the job itself, or sends the signal whose handler, submitit's, requeues it
                time.sleep(GRACE_SECONDS)
                raise
            signal.raise_signal(getattr(signal, f"SIG{submitit.JobEnvironment.USR_SIG}"))

    def checkpoint(self) -> Any:
        """The job that submitit queues: the same one, since the run finds its own checkpoint."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def submit(wanted: Submission, function: Callable[..., object], *arguments: object, cluster: str = "slurm") -> Result:
    """Submits a job in which every task calls ``function(*arguments)`` as one rank of the run.

    Args:
        wanted: machines and time.
        function: of a module, so that the job can import it; it raises Interrupted when it has saved before its end.
        arguments: what can be pickled.
        cluster: ``slurm``, or ``local`` for processes of this machine that submitit treats likewise.

    Returns:
        The job's id and log.

    Raises:
        DinotoolsError: submitit is absent, there is no Slurm, or it refuses the job.
    """
    executor = _executor(wanted.folder, cluster)
    executor.update_parameters(
        name=wanted.folder.stem,
        nodes=wanted.nodes,
        tasks_per_node=wanted.tasks,
        gpus_per_node=wanted.gpus or None,
        cpus_per_task=wanted.readers + 2,  # itself, and what feeds its device
        timeout_min=math.ceil(wanted.hours * 60),
        stderr_to_stdout=True,
        slurm_signal_delay_s=WARNING_SECONDS,
        slurm_srun_args=["--kill-on-bad-exit=1"],  # a rank that dies ends the others
        slurm_additional_parameters=dict(wanted.options),
        slurm_partition=wanted.partition,
    )
    try:
        job = executor.submit(Task(function, *arguments))
    except Exception as error:  # sbatch says why on stderr, and submitit quotes it
        raise DinotoolsError(f"Slurm did not take the job ({error})", "--slurm", "See --slurm-options.") from error
    ranks = wanted.nodes * wanted.tasks
    found = {"job": job.job_id, "ranks": ranks, "hours": wanted.hours, "log": str(job.paths.stdout)}
    return Result(
        title=f"submitted · {wanted.folder.stem}",
        rows=[found],
        metrics=found,
        notes=(f"Follow it: tail -F {job.paths.stdout}", f"Cancel it: scancel {job.job_id}"),
    )


def _executor(folder: Path, cluster: str) -> Any:
    try:
        import submitit
    except ImportError as error:
        raise DinotoolsError("needs submitit", "--slurm", "pip install 'dinotools[slurm]'") from error
    try:
        return submitit.AutoExecutor(
            folder, cluster=cluster, slurm_max_num_timeout=QUEUED_AGAIN, local_max_num_timeout=QUEUED_AGAIN
        )
    except RuntimeError as error:  # no srun
        raise DinotoolsError("this machine has no Slurm", "--slurm", "Submit from one that has.") from error
