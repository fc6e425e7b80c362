"""Schedules: one value per step (learning rate, weight decay, momentum) or per epoch (teacher temperature)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dinotools.configs.pretraining import PretrainConfig
from dinotools.runtime.schedule import cosine_schedule


def teacher_temp_schedule(warmup_temp: float, temp: float, warmup_epochs: int, epochs: int) -> np.ndarray:
    """Linear from warmup_temp to temp (both included) over warmup_epochs, then constant: float64 (epochs,).

    Raises:
        ValueError: the warm-up is longer than the run.
    """
    if warmup_epochs > epochs:
        raise ValueError(f"a teacher temperature warm-up of {warmup_epochs} epochs does not fit into {epochs}")
    return np.concatenate([np.linspace(warmup_temp, temp, warmup_epochs), np.full(epochs - warmup_epochs, temp)])


def steps_in_epoch(config: PretrainConfig, n_images: int) -> int:
    """Whole steps of an epoch; an epoch is as many images as --epoch-images says, or all of them."""
    return (config.epoch_images or n_images) // config.batch_size


@dataclass(frozen=True)
class Schedules:
    """One value per step of the run, each (steps,) float64; the teacher's temperature has one per epoch."""

    lr: np.ndarray
    weight_decay: np.ndarray
    momentum: np.ndarray
    teacher_temp: np.ndarray
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
            teacher_temp=teacher_temp_schedule(
                config.warmup_teacher_temp, config.teacher_temp, config.warmup_teacher_temp_epochs, config.epochs
            ),
            steps_per_epoch=steps_per_epoch,
        )

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return len(self.lr)
