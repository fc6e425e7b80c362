"""Query expansion: a query moves towards its nearest neighbours and is searched for again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dinotools.runtime.errors import require
from dinotools.search.exact import nearest
from dinotools.search.rows import rows_of


def expand(queries: Tensor, database: Tensor | Sequence[Tensor], n: int, alpha: float) -> Tensor:
    """Alpha query expansion (Radenovic et al. 2018, arXiv 1711.02512, where n is 50 and alpha 3).

    ::

        for every query, all vectors divided by their lengths:
            x_1 ... x_n = its n most similar database vectors, of similarity s_1 ... s_n
            query = query + sum of max(s_i, 0) ** alpha * x_i
            query = query / its length

    The similarity of a neighbour that points away counts as 0, because a negative number has no fractional power.
    Memory: 4 Q n D bytes, twice, beside those of the search.

    Args:
        queries: (Q, D) floats, on the device that computes.
        database: (N, D) floats of any precision on any device, or shards (n_i, D) as ``nearest`` takes them.
        n: how many neighbours.
        alpha: power of the similarities; 0 is plain average query expansion.

    Returns:
        (Q, D) float32 of length 1, on the device of the queries.

    Raises:
        DinotoolsError: n is not between 1 and N, or alpha is negative.
    """
    shards = [database] if isinstance(database, Tensor) else database
    size = sum(map(len, shards))
    require(1 <= n <= size, f"{n} neighbours in a database of {size}", "query_expansion", f"Use 1 to {size}.")
    require(alpha >= 0, f"a power of {alpha:g} would favour the least similar", "alpha", "Use 0 or more.")
    similarity, rows = nearest(queries, shards, n, cosine=True)
    neighbours = rows_of(shards, rows.flatten().cpu()).to(queries.device).view(*rows.shape, -1)
    weights = similarity.clamp(min=0) ** alpha
    towards = torch.einsum("qn,qnd->qd", weights, F.normalize(neighbours, dim=2))
    return F.normalize(F.normalize(queries.float(), dim=1) + towards, dim=1)
