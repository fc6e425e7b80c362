"""Schedules: one value per step (learning rate, weight decay, momentum) or per epoch (teacher temperature)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dinotools.configs.pretraining import PretrainConfig


def cosine_schedule(
    base: float, final: float, epochs: int, steps_per_epoch: int, warmup_epochs: int = 0, start: float = 0.0
) -> np.ndarray:
    """Linear warm-up from start to base, then a half cosine from base towards final.

    Both ends of the warm-up are included, so the first value is start and base occurs twice; the last value stops one
    step short of final (official ``utils.cosine_scheduler``).

    Returns:
        float64 (epochs * steps_per_epoch,).

    Raises:
        ValueError: the warm-up is longer than the run.
    """
    n_warmup = warmup_epochs * steps_per_epoch
    n_cosine = epochs * steps_per_epoch - n_warmup
    if n_cosine < 0:
        raise ValueError(f"a warm-up of {warmup_epochs} epochs does not fit into {epochs}")
    progress = np.arange(n_cosine) / max(n_cosine, 1)
    cosine = final + 0.5 * (base - final) * (1 + np.cos(np.pi * progress))
    return np.concatenate([np.linspace(start, base, n_warmup), cosine])


def teacher_temp_schedule(warmup_temp: float, temp: float, warmup_epochs: int, epochs: int) -> np.ndarray:
    """Linear from warmup_temp to temp (both included) over warmup_epochs, then constant: float64 (epochs,).

    Raises:
        ValueError: the warm-up is longer than the run.
    """
    if warmup_epochs > epochs:
        raise ValueError(f"a teacher temperature warm-up of {warmup_epochs} epochs does not fit into {epochs}")
    return np.concatenate([np.linspace(warmup_temp, temp, warmup_epochs), np.full(epochs - warmup_epochs, temp)])


@dataclass(frozen=True)
class Schedules:
    """One value per step of the run, each (steps,) float64."""

    lr: np.ndarray
    weight_decay: np.ndarray
    momentum: np.ndarray
    steps_per_epoch: int

    @classmethod
    def of(cls, config: PretrainConfig, steps_per_epoch: int) -> Schedules:
        """The paper's schedules: the learning rate is scaled by images per step / 256, all three follow a cosine."""
        lr = config.lr * config.batch_size / 256
        shape = (config.epochs, steps_per_epoch)
        return cls(
            lr=cosine_schedule(lr, config.min_lr, *shape, warmup_epochs=config.warmup_epochs),
            weight_decay=cosine_schedule(config.weight_decay, config.weight_decay_end, *shape),
            momentum=cosine_schedule(config.momentum_teacher, 1.0, *shape),
            steps_per_epoch=steps_per_epoch,
        )

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return len(self.lr)
