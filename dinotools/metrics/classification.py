"""Accuracy."""

from __future__ import annotations

from torch import Tensor


def top_accuracy(ranking: Tensor, labels: Tensor, n: int) -> float:
    """Percentage of samples whose label is among the first n predictions.

    Args:
        ranking: predicted classes, best first (N, at least n), int64.
        labels: (N,), int64.
        n: how many predictions count.
    """
    return 100.0 * (ranking[:, :n] == labels[:, None]).any(dim=1).sum().item() / len(labels)
