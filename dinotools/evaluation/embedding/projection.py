"""Features in fewer dimensions: PCA and t-SNE."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness

from dinotools.runtime.errors import require

PCA_DIMS = 30  # that t-SNE works in: the paper's figure, and van der Maaten and Hinton 2008
NEIGHBOURS = 5  # of a point, that it should keep: scikit-learn's default


@dataclass(frozen=True)
class Tsne:
    """Settings of t-SNE, by scikit-learn's names."""

    perplexity: float
    learning_rate: float | Literal["auto"]
    max_iter: int


RECIPES = {
    "classes": Tsne(perplexity=20, learning_rate=200.0, max_iter=5000),  # the paper's figure of class means
    "images": Tsne(perplexity=30, learning_rate="auto", max_iter=1000),  # scikit-learn's defaults
}


def recipe(of: str, n_points: int, perplexity: float | None) -> Tsne:
    """The settings for so many points.

    Args:
        of: ``classes`` or ``images``.
        n_points: number of points.
        perplexity: what the user asked for; None is the recipe's own or, if that is too much, a third of the other
            points: t-SNE looks for 3 x perplexity neighbours (van der Maaten 2014).

    Raises:
        DinotoolsError: the perplexity is not above 0 and below the number of points.
    """
    if perplexity is None:
        perplexity = min(RECIPES[of].perplexity, (n_points - 1) / 3)
    require(
        0 < perplexity < n_points,
        f"is {perplexity:g}, and there are {n_points} points",
        "perplexity",
        "It must lie between 0 and the number of points; a third of them is plenty.",
    )
    return replace(RECIPES[of], perplexity=perplexity)


def pca(features: np.ndarray, dims: int) -> tuple[np.ndarray, np.ndarray]:
    """Principal components, exactly; of each axis the entry that is largest in magnitude is positive.

    Args:
        features: (N, D) floats.
        dims: number of components; no more than N or D are made.

    Returns:
        Coordinates (N, dims) float64, and the share of the variance that each explains (dims,), largest first.
    """
    n, width = features.shape
    solver = "covariance_eigh" if n >= width else "full"  # both exact: through the smaller matrix
    fitted = PCA(min(dims, n, width), svd_solver=solver)
    with np.errstate(invalid="ignore"):  # shares of no variance at all
        points = fitted.fit_transform(features.astype(np.float64))
    axes = fitted.components_
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    return points * signs, np.nan_to_num(fitted.explained_variance_ratio_)


def tsne(features: np.ndarray, settings: Tsne, seed: int) -> tuple[np.ndarray, float]:
    """PCA to 30 dimensions, then t-SNE, begun from the first two.

    Args:
        features: (N, D) floats.
        settings: of t-SNE.
        seed: of what is left to chance.

    Returns:
        Coordinates (N, 2) float64, and the Kullback-Leibler divergence that t-SNE arrived at.
    """
    reduced, _ = pca(features, PCA_DIMS)
    fitted = TSNE(
        perplexity=settings.perplexity,
        learning_rate=settings.learning_rate,
        max_iter=settings.max_iter,
        init="pca",
        random_state=seed,
    )
    return fitted.fit_transform(reduced).astype(np.float64), float(fitted.kl_divergence_)


def kept_neighbours(features: np.ndarray, points: np.ndarray) -> tuple[float, int]:
    """Trustworthiness (Venna and Kaski 2001): whether neighbours in the picture are neighbours among the features.

    Args:
        features: (N, D) floats.
        points: (N, 2), in the same order.

    Returns:
        A number from 0 to 1, 1 if no point has a false neighbour; and how many neighbours of a point were looked at:
        5, or fewer than half of the points.
    """
    k = min(NEIGHBOURS, (len(points) - 1) // 2)
    return float(trustworthiness(features, points, n_neighbors=k)), k
