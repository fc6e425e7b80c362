"""The schedule that every training of the paper follows: a linear warm-up, then half a cosine."""

from __future__ import annotations

import numpy as np


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
