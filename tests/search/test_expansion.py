"""Query expansion against one query and one neighbour at a time."""

import numpy as np
import pytest
import torch

from dinotools.runtime.errors import DinotoolsError
from dinotools.search.expansion import expand


def expanded_by_hand(query, database, n, alpha):
    query, database = query / np.linalg.norm(query), [row / np.linalg.norm(row) for row in database]
    nearest = sorted(database, key=lambda row: -(row @ query))[:n]
    total = query.copy()
    for row in nearest:
        total += max(row @ query, 0.0) ** alpha * row
    return total / np.linalg.norm(total)


def vectors(seed, n, dim=6):
    return torch.from_numpy(np.random.RandomState(seed).standard_normal((n, dim)).astype(np.float32))


@pytest.mark.parametrize("alpha", [0, 0.5, 1, 3])
@pytest.mark.parametrize(("q", "sizes", "n"), [(1, [1], 1), (5, [30], 4), (7, [3, 0, 11, 1], 15), (40, [600, 700], 50)])
def test_equals_the_sum_written_out(q, sizes, n, alpha):
    queries, database = vectors(q, q) * 3, vectors(n + 100, sum(sizes)) * 2
    expected = [expanded_by_hand(query, database.double().numpy(), n, alpha) for query in queries.double().numpy()]
    for given in (database, database.split(sizes)):
        np.testing.assert_allclose(expand(queries, given, n, alpha), expected, rtol=0, atol=2e-6)


def test_neighbours_that_point_away_change_nothing():
    query = torch.tensor([[1.0, 0.0]])
    assert torch.equal(expand(query, torch.tensor([[-1.0, 0.5], [0.0, -1.0]]), n=2, alpha=1.5), query)


def test_half_precision_shards_are_widened():
    queries, database = vectors(1, 3), vectors(2, 40).half()
    assert torch.equal(expand(queries, database, 5, 3), expand(queries, database.float(), 5, 3))


@pytest.mark.parametrize(
    ("n", "alpha", "complaint"),
    [
        (0, 3, "--query-expansion: 0 neighbours in a database of 40. Use 1 to 40"),
        (41, 3, "--query-expansion: 41 neighbours in a database of 40. Use 1 to 40"),
        (5, -1, "--alpha: a power of -1 would favour the least similar"),
    ],
)
def test_what_cannot_be_asked_for(n, alpha, complaint):
    with pytest.raises(DinotoolsError, match=complaint):
        expand(vectors(1, 3), vectors(2, 40).split(15), n, alpha)
