"""Options of a command that trains on several devices or machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from dinotools.configs.option import Opt


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """How many processes there are, and who starts them."""

    gpus: Annotated[
        int, Opt("processes on this machine (with --slurm: on each), one a GPU; they share --batch-size", "Launch")
    ] = 1
    slurm: Annotated[bool, Opt("submit the run to Slurm; after a preemption it goes on by itself", "Launch")] = False
    nodes: Annotated[int, Opt("machines to ask Slurm for", "Launch")] = 1
    partition: Annotated[str | None, Opt("Slurm partition", "Launch")] = None
    hours: Annotated[float, Opt("time limit of the Slurm job; it is queued again until the run is done", "Launch")] = (
        24.0
    )
    slurm_options: Annotated[
        tuple[str, ...], Opt("further options of sbatch, such as account=vision,constraint=a100", "Launch")
    ] = ()
