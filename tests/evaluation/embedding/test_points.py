"""What becomes a point: balanced choices of images, and class means against a plain loop."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dinotools.evaluation.embedding.points import balanced, classes_as_points, images_as_points
from dinotools.features.extraction import Features


@given(labels=st.lists(st.integers(0, 5), min_size=1, max_size=60), limit=st.integers(1, 70), seed=st.integers(0, 99))
def test_a_choice_is_as_even_as_the_classes_allow(labels, limit, seed):
    labels = np.array(labels)
    chosen = balanced(labels, limit, seed)
    assert len(chosen) == min(limit, len(labels))
    assert (np.diff(chosen) > 0).all()
    counts, available = np.bincount(labels[chosen], minlength=6), np.bincount(labels, minlength=6)
    for c in range(6):  # a class has less than another only where it has no more images, or by one
        assert counts[c] == available[c] or counts[c] >= counts.max() - 1
    np.testing.assert_array_equal(chosen, balanced(labels, limit, seed))


def test_a_choice_depends_on_the_seed_and_reaches_all_classes():
    labels = np.arange(1000) // 100
    first, second = balanced(labels, 5, 0), balanced(labels, 5, 1)
    assert len(set(labels[first])) == 5
    assert set(labels[first]) != set(labels[second])


@pytest.fixture
def features():
    random = np.random.RandomState(0)
    labels = torch.tensor([4, 0, 0, 2, 4, 0, 2, 4, 4])  # 1 and 3 have no images
    rows = torch.from_numpy(random.randn(9, 6).astype(np.float32))
    return Features((rows[:4], rows[4:].half()), labels, torch.arange(9) * 10)


def test_a_class_is_the_mean_of_its_images_pictured_by_the_nearest(features):
    points = classes_as_points(features)
    rows, labels = features.tensor().numpy(), features.labels.numpy()
    assert points.labels.tolist() == [0, 2, 4]
    for label, mean, pictured in zip(points.labels, points.features, points.pictured, strict=True):
        members = rows[labels == label]
        np.testing.assert_allclose(mean, members.mean(axis=0), atol=1e-3)
        nearest = np.linalg.norm(members - members.mean(axis=0), axis=1).argmin()
        assert pictured == 10 * np.flatnonzero(labels == label)[nearest]


def test_an_image_is_its_own_point(features):
    points = images_as_points(features)
    assert points.features.shape == (9, 6)
    assert (points.labels.tolist(), points.pictured.tolist()) == (features.labels.tolist(), features.indices.tolist())


def test_images_without_classes_are_of_one(features):
    unlabelled = Features(features.shards, torch.full((9,), -1), features.indices)
    assert images_as_points(unlabelled).labels.tolist() == [0] * 9
    assert classes_as_points(unlabelled).labels.tolist() == [0]
