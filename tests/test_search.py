"""Nearest neighbours against a full sort."""

import pytest
import torch

from dinotools import search


@pytest.mark.parametrize(("n_queries", "n_database", "k"), [(1, 1, 1), (7, 30, 30), (33, 101, 5), (50, 64, 17)])
@pytest.mark.parametrize(("query_chunk", "database_chunk"), [(8, 16), (1024, 16384), (5, 7)])
def test_equals_a_full_sort(monkeypatch, n_queries, n_database, k, query_chunk, database_chunk):
    monkeypatch.setattr(search, "QUERY_CHUNK", query_chunk)
    monkeypatch.setattr(search, "DATABASE_CHUNK", database_chunk)
    generator = torch.Generator().manual_seed(n_queries)
    queries = torch.randn(n_queries, 6, generator=generator, dtype=torch.float64)
    database = torch.randn(n_database, 6, generator=generator, dtype=torch.float64)
    similarity, index = search.nearest(queries, database, k)
    expected, order = (queries @ database.T).sort(dim=1, descending=True)
    torch.testing.assert_close(similarity, expected[:, :k])
    assert torch.equal(index, order[:, :k])


def test_memory_does_not_grow_with_the_database(monkeypatch):
    """No similarity matrix larger than one pair of chunks is ever asked for."""
    seen = []
    matmul = torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: seen.append(len(a) * b.shape[1]) or matmul(a, b))
    search.nearest(torch.randn(3000, 2), torch.randn(40_000, 2), 3)
    assert len(seen) == 9
    assert max(seen) <= search.QUERY_CHUNK * search.DATABASE_CHUNK
