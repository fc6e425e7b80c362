"""Accuracy, as a whole and class by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

CONFUSIONS = 20  # pairs of classes that results.json lists


def top_accuracy(ranking: Tensor, labels: Tensor, n: int) -> float:
    """Percentage of samples whose label is among the first n predictions.

    Args:
        ranking: predicted classes, best first (N, at least n), int64.
        labels: (N,), int64.
        n: how many predictions count.
    """
    return 100.0 * (ranking[:, :n] == labels[:, None]).any(dim=1).sum().item() / len(labels)


def per_class_accuracy(predictions: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """Percentage of each class's samples that are recognised.

    Args:
        predictions: classes (N,), int64.
        labels: (N,), int64.
        n_classes: C.

    Returns:
        (C,) float64; NaN for a class without samples.
    """
    counts = torch.bincount(labels, minlength=n_classes)
    right = torch.bincount(labels[predictions == labels], minlength=n_classes)
    return 100.0 * right.double() / counts


def confusion_pairs(predictions: Tensor, labels: Tensor, n: int = CONFUSIONS) -> list[tuple[int, int, int]]:
    """The mistakes made most often.

    Args:
        predictions: classes (N,), int64.
        labels: (N,), int64.
        n: how many pairs.

    Returns:
        (true class, predicted class, count), most frequent first, of equal ones the lower classes first.
    """
    wrong = predictions != labels
    pairs, counts = torch.stack([labels[wrong], predictions[wrong]], dim=1).unique(dim=0, return_counts=True)
    order = counts.argsort(descending=True, stable=True)[:n]
    rows = torch.cat([pairs, counts[:, None]], dim=1)[order].tolist()
    return [(true, predicted, count) for true, predicted, count in rows]


def by_class(predictions: Tensor, labels: Tensor, classes: Sequence[str]) -> dict[str, Any]:
    """Both of the above with the names of the classes, for results.json.

    Returns:
        ``accuracy``: class -> percentage, of the classes that have samples; ``confusions``: a list of
        {true, predicted, count}.
    """
    accuracy = per_class_accuracy(predictions, labels, len(classes)).tolist()
    return {
        "accuracy": {name: value for name, value in zip(classes, accuracy, strict=True) if value == value},
        "confusions": [
            {"true": classes[true], "predicted": classes[predicted], "count": count}
            for true, predicted, count in confusion_pairs(predictions, labels)
        ],
    }
