"""PCA and t-SNE: against linear algebra by hand, and on clusters that must stay apart."""

import numpy as np
import pytest

from dinotools.evaluation.embedding.projection import RECIPES, kept_neighbours, pca, recipe, tsne
from dinotools.runtime.errors import DinotoolsError


@pytest.mark.parametrize("shape", [(50, 8), (6, 40), (8, 8)])
def test_pca_equals_the_singular_value_decomposition(shape):
    features = np.random.RandomState(0).randn(*shape).astype(np.float32) * np.arange(1, shape[1] + 1)
    points, explained = pca(features, 3)
    centred = features.astype(np.float64) - features.astype(np.float64).mean(axis=0)
    values, axes = np.linalg.svd(centred, full_matrices=False)[1:]
    np.testing.assert_allclose(np.abs(points), np.abs(centred @ axes[:3].T), atol=1e-8)
    np.testing.assert_allclose(explained, (values**2 / (values**2).sum())[:3], atol=1e-10)


def test_pca_has_signs_of_its_own():
    features = np.random.RandomState(1).randn(30, 5) * [1, 2, 30, 4, 9]
    points, _ = pca(features, 2)
    # the axis of most variance is almost the third, that of the next the fifth: both must point upwards
    assert np.corrcoef(points[:, 0], features[:, 2])[0, 1] > 0.9
    assert np.corrcoef(points[:, 1], features[:, 4])[0, 1] > 0.9
    np.testing.assert_allclose(pca(-features, 2)[0], -points, atol=1e-9)


def test_pca_of_equal_points_is_zero():
    points, explained = pca(np.ones((5, 4)), 2)
    assert not points.any()
    assert not explained.any()


@pytest.fixture(scope="module")
def clusters():
    random = np.random.RandomState(2)
    labels = np.arange(60) % 3
    return (10 * random.randn(3, 40)[labels] + random.randn(60, 40)).astype(np.float32), labels


def test_tsne_keeps_clusters_together_and_is_repeatable(clusters):
    features, labels = clusters
    settings = recipe("images", len(features), 10)
    points, divergence = tsne(features, settings, seed=0)
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(axis=1)] == labels).all()
    assert 0 < divergence < 5
    np.testing.assert_array_equal(points, tsne(features, settings, seed=0)[0])


def test_kept_neighbours_knows_a_good_picture_from_a_bad_one(clusters):
    features, _ = clusters
    good, neighbours = kept_neighbours(features, pca(features, 2)[0])
    bad, _ = kept_neighbours(features, np.random.RandomState(3).randn(60, 2))
    assert neighbours == 5
    assert good > 0.8 > 0.6 > bad
    assert kept_neighbours(features[:4], features[:4, :2])[1] == 1


def test_the_recipe_for_classes_is_the_papers():
    settings = recipe("classes", 1000, None)
    assert (settings.perplexity, settings.learning_rate, settings.max_iter) == (20, 200.0, 5000)


@pytest.mark.parametrize(("n", "expected"), [(10, 3), (61, 20), (91, 30), (4000, 30)])
def test_few_points_get_a_lower_perplexity(n, expected):
    assert recipe("images", n, None).perplexity == expected <= RECIPES["images"].perplexity


@pytest.mark.parametrize("perplexity", [0, -3, 10, 50])
def test_a_perplexity_without_meaning_is_refused(perplexity):
    with pytest.raises(DinotoolsError, match=r"--perplexity: is .*10 points"):
        recipe("images", 10, perplexity)
