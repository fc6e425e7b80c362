"""PCA whitening of features: along every principal component the features it is learned on vary alike.

Source: official ``eval_copy_detection.py`` and ``utils.PCA``. The official code subtracts the mean from what it
whitens and yet takes the components of features that it has not centred; so does ``official``, which reproduces the
paper. ``centred`` is the usual PCA. In both, features are whitened as the network gives them, whatever their lengths,
and divided by their lengths afterwards. scikit-learn's PCA knows neither ``official``, nor the floor under the
eigenvalues, nor features that come in shards; so both are learned here, in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dinotools.runtime.errors import require

Covariance = Literal["official", "centred"]

FLOOR = 1e-5  # of the largest eigenvalue: a direction in which features hardly vary must not drown the others
ROUNDING = 1e-12  # variance as a share of the squared length: all that rounding to float32 leaves of equal features
ROWS = 4096  # features that are widened at once


@dataclass(frozen=True)
class Whitening:
    """What whitening subtracts from features of D values, and what it multiplies them by.

    Args:
        mean: (D,) float32.
        projection: (dim, D) float32, principal components divided by a power of their eigenvalues, largest first.
    """

    mean: Tensor
    projection: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Whitens features and divides them by their lengths: (N, D) -> (N, dim) float32, where the features lie.

        A feature that equals the mean has no direction: it stays zero, similar to none.

        Raises:
            DinotoolsError: their width is not D.
        """
        require(
            features.shape[1] == len(self.mean),
            f"learned on features of {len(self.mean)} values, but these have {features.shape[1]}",
            "whiten",
            "Learn it on features of the same network and pooling.",
        )
        mean, projection = self.mean.to(features.device), self.projection.to(features.device)
        return F.normalize((features.float() - mean) @ projection.T, dim=1)


def learn(
    shards: Sequence[Tensor], dim: int | None = None, power: float = 0.5, covariance: Covariance = "official"
) -> Whitening:
    """Learns a whitening from features that are read once, a chunk at a time.

    ::

        mean = x.mean(dim=0)
        values, components = eigh(x.T @ x / n)       (x - mean in place of x if centred)
        values = max(values, 1e-5 largest value)
        projection = components / values ** power    (of the dim largest values, one component a row)

    Everything is summed in float64. The smallest eigenvalue that counts is 1e-5 of the largest, and a whitened
    feature is divided by its root: the rounding of a float32 covariance, about 1e-7 of the largest, would show in the
    second digit there. An eigenvector's sign means nothing and depends on the LAPACK at hand; that of its largest
    entry is made positive, so that whitened features of two machines can be compared. Memory: two D x D matrices and
    8 D ROWS bytes.

    Args:
        shards: (n_i, D) floats of any precision, n rows in all. Tensors over memory-mapped files are welcome.
        dim: how many components; None for all D, or as many as n rows around their mean can have, n - 1.
        power: of the eigenvalues: 0.5 makes every component vary alike, 0 leaves them as they are.
        covariance: of the features themselves (``official``), or of their differences from the mean (``centred``).

    Raises:
        DinotoolsError: dim is not between 1 and D; there are fewer than two features, fewer than dim, or only equal
            ones; a value is not finite.
    """
    n = sum(map(len, shards))
    require(n >= 2, f"takes at least two features to learn from, and there are {n}", "whiten", "Give more images.")
    width = shards[0].shape[1]
    dim = min(width, n - 1) if dim is None else dim
    require(1 <= dim <= width, f"{dim} components of features of {width} values", "whiten", f"Ask for 1 to {width}.")
    require(n >= dim, f"{n} features have no {dim} components", "whiten", f"Give more images, or ask for at most {n}.")

    mean, second = _moments(shards, n)
    require(bool(second.isfinite().all()), "a feature is not finite", "whiten", "Extract the features anew.")
    squared_length = second.trace()
    spread = squared_length - mean @ mean
    require(bool(spread > ROUNDING * squared_length), "the features are all equal", "whiten", "Give other images.")

    if covariance == "centred":
        second -= torch.outer(mean, mean)
    values, vectors = torch.linalg.eigh(second)  # ascending; a column of vectors is a component
    values = values.clamp(min=FLOOR * values[-1].item()).flip(0)[:dim]
    components = vectors.T.flip(0)[:dim]
    components = components * components.gather(1, components.abs().argmax(dim=1, keepdim=True)).sign()
    return Whitening(mean.float(), (components / values[:, None] ** power).float())


def _moments(shards: Sequence[Tensor], n: int) -> tuple[Tensor, Tensor]:
    """Mean (D,) and mean outer product (D, D) of all n rows, float64."""
    width = shards[0].shape[1]
    total = torch.zeros(width, dtype=torch.float64)
    second = torch.zeros(width, width, dtype=torch.float64)
    for shard in shards:
        for chunk in shard.split(ROWS):
            rows = chunk.to("cpu", torch.float64)  # not every accelerator has float64
            total += rows.sum(dim=0)
            second.addmm_(rows.T, rows)
    return total / n, second / n
