"""Accuracy class by class, against counting by hand."""

from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st

from dinotools.metrics.classification import by_class, confusion_pairs, per_class_accuracy


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=60))
def test_counts_agree_with_counting(pairs):
    predictions = torch.tensor([p for p, _ in pairs], dtype=torch.int64)
    labels = torch.tensor([label for _, label in pairs], dtype=torch.int64)
    for c, value in enumerate(per_class_accuracy(predictions, labels, 6).tolist()):
        of_class = [p == label for p, label in pairs if label == c]
        assert (value != value) if not of_class else abs(value - 100 * sum(of_class) / len(of_class)) < 1e-9
    mistakes = Counter((label, p) for p, label in pairs if p != label)
    expected = sorted(((t, p, n) for (t, p), n in mistakes.items()), key=lambda row: (-row[2], row[0], row[1]))
    assert confusion_pairs(predictions, labels, n=4) == expected[:4]


def test_names_stand_in_place_of_numbers_and_absent_classes_are_left_out():
    found = by_class(torch.tensor([0, 1, 1, 0]), torch.tensor([0, 0, 0, 1]), ["cat", "dog", "axolotl"])
    assert found["accuracy"] == {"cat": 100 / 3, "dog": 0.0}
    assert found["confusions"] == [
        {"true": "cat", "predicted": "dog", "count": 2},
        {"true": "dog", "predicted": "cat", "count": 1},
    ]
