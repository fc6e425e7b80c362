"""What a run would be: its options after presets, parameters, memory and duration, from its first five steps."""

from __future__ import annotations

import dataclasses
import statistics
import time
from datetime import timedelta
from itertools import islice

from torch import Tensor, nn

from dinotools.configs import files
from dinotools.configs.pretraining import PretrainConfig
from dinotools.data.images import ImageSource
from dinotools.pretraining.announcement import announcement
from dinotools.pretraining.loader import training_loader
from dinotools.pretraining.networks import build_state
from dinotools.pretraining.schedules import Schedules, steps_in_epoch
from dinotools.pretraining.step import TrainingState, take_step
from dinotools.runtime import distributed
from dinotools.runtime.console import say, track
from dinotools.runtime.device import Runtime
from dinotools.runtime.results import Result, peak_memory_mb

STEPS = 5
WARM_UP = 2  # of them: readers start, kernels are chosen, compilers compile


def probe(config: PretrainConfig, runtime: Runtime, images: ImageSource) -> Result:
    """Takes five steps of the run and writes nothing.

    Raises:
        DinotoolsError: the networks cannot be built.
    """
    schedules = Schedules.of(config, steps_in_epoch(config, len(images)))
    if distributed.is_main():
        say(announcement(config, schedules, len(images), runtime))
    state = build_state(config, runtime)
    seconds, waits = _timed_steps(config, runtime, images, state, schedules)
    duration, rate = statistics.median(seconds) * schedules.steps, config.batch_size / statistics.median(seconds)
    peak = peak_memory_mb()
    found = {
        "parameters of the backbone": f"{_count(state.teacher.backbone):,}",
        "parameters of the head": f"{_count(state.student.head):,}",
        "weights, gradients, moments (MiB)": f"{_state_bytes(state) / 2**20:,.0f}",
        "peak memory (MiB)": ", ".join(f"{name} {size:,.0f}" for name, size in peak.items()),
        "steps": f"{schedules.steps:,}",
        "seconds a step": f"{statistics.median(seconds):.3g}",
        "images per second": f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}",
        "waiting for images": f"{100 * sum(waits) / sum(seconds):.0f} %",
        "duration of the run": str(timedelta(seconds=round(duration))),
    }
    return Result(
        title=f"dry run · {config.data}",
        rows=[{"what": name, "value": value} for name, value in found.items()],
        metrics={
            "backbone_parameters": _count(state.teacher.backbone),
            "head_parameters": _count(state.student.head),
            "state_mb": _state_bytes(state) / 2**20,
            "steps": schedules.steps,
            "seconds_per_step": statistics.median(seconds),
            "duration_s": duration,
        },
        details=runtime.describe(),
        notes=(
            f"Timed were {len(seconds)} of the first {min(STEPS, schedules.steps)} steps; nothing was written. "
            "The options:",
            files.dump(config).rstrip(),
        ),
    )


def _timed_steps(
    config: PretrainConfig, runtime: Runtime, images: ImageSource, state: TrainingState, schedules: Schedules
) -> tuple[list[float], list[float]]:
    """Seconds that each step after the warm-up took in all, and those it waited for its images."""
    config = dataclasses.replace(config, freeze_last_layer=0)  # later it has moments as well, which take their memory
    seconds, waits = [], []
    begun = time.monotonic()
    loader = training_loader(config, runtime, images, start=0)
    for batch in track(islice(loader, STEPS), "first steps", total=min(STEPS, schedules.steps)):
        waited = time.monotonic() - begun
        outcome = take_step(config, runtime, state, schedules, batch)
        outcome["loss"].item()  # waits for the device
        seconds.append(time.monotonic() - begun)
        waits.append(waited)
        begun = time.monotonic()
    return seconds[WARM_UP:] or seconds, waits[WARM_UP:] or waits


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _state_bytes(state: TrainingState) -> int:
    """Weights of both networks, gradients, and what the optimizer keeps."""
    tensors: list[Tensor] = [*state.student.parameters(), *state.teacher.parameters()]
    tensors += [p.grad for p in state.student.parameters() if p.grad is not None]
    tensors += [t for kept in state.optimizer.state.values() for t in kept.values() if isinstance(t, Tensor)]
    return sum(t.numel() * t.element_size() for t in tensors)
