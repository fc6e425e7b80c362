"""Nearest neighbours against sorting everything."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from dinotools.runtime.errors import DinotoolsError
from dinotools.search import exact
from dinotools.search.exact import nearest, stable_topk


def sorted_by_hand(queries, database, k):
    """Rows by falling similarity, of equal ones the lower first."""
    similarities = queries.double() @ database.double().T
    rows = similarities.sort(dim=1, descending=True, stable=True).indices[:, :k]
    return similarities.gather(1, rows).float(), rows


def whole_numbers(n, dim, seed):
    """Vectors whose products are exact, with many ties."""
    return torch.randint(-2, 3, (n, dim), generator=torch.Generator().manual_seed(seed)).float()


@pytest.mark.parametrize("chunks", [(512, 8192, 1024, 8), (8, 16, 8, 8), (5, 24, 3, 4)])
@pytest.mark.parametrize(("q", "n", "k"), [(1, 1, 1), (7, 30, 30), (33, 101, 5), (50, 640, 17), (3, 3000, 200)])
def test_equals_a_full_sort_even_among_ties(q, n, k, chunks, monkeypatch):
    for name, size in zip(("QUERY_CHUNK", "DATABASE_CHUNK", "FIRST_CHUNK", "BLOCK"), chunks, strict=True):
        monkeypatch.setattr(exact, name, size)
    queries, database = whole_numbers(q, 6, seed=q), whole_numbers(n, 6, seed=n)
    similarities, rows = nearest(queries, database, k)
    expected = sorted_by_hand(queries, database, k)
    assert torch.equal(similarities, expected[0])
    assert torch.equal(rows, expected[1])


@settings(max_examples=40)
@given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=6), seed=st.integers(0, 1000), data=st.data())
def test_shards_count_as_one_database(sizes, seed, data):
    database = whole_numbers(sum(sizes), 4, seed)
    if len(database) == 0:
        return
    k = data.draw(st.integers(1, len(database)))
    queries = whole_numbers(5, 4, seed + 1)
    whole, parts = nearest(queries, database, k), nearest(queries, database.split(sizes), k)
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_rising_similarity_is_the_worst_case_and_still_right(monkeypatch):
    monkeypatch.setattr(exact, "DATABASE_CHUNK", 64)
    monkeypatch.setattr(exact, "FIRST_CHUNK", 16)
    database = torch.arange(1000.0)[:, None]
    similarities, rows = nearest(torch.tensor([[1.0], [-1.0]]), database, 50)
    assert rows[0].tolist() == list(range(999, 949, -1))
    assert rows[1].tolist() == list(range(50))
    assert similarities[1, 3] == -3


def test_cosine_divides_by_lengths_and_half_precision_is_widened(tmp_path):
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(20, 16, generator=generator)
    np.save(tmp_path / "half.npy", torch.randn(300, 16, generator=generator).half().numpy())
    database = torch.from_numpy(np.load(tmp_path / "half.npy", mmap_mode="c"))
    similarities, rows = nearest(queries, [database[:120], database[120:]], 10, cosine=True)
    expected = F.normalize(queries, dim=1).double() @ F.normalize(database.double(), dim=1).T
    values, order = expected.topk(10)
    torch.testing.assert_close(similarities, values.float(), atol=1e-6, rtol=1e-6)
    assert torch.equal(rows, order)


def test_memory_does_not_grow_with_the_database(monkeypatch):
    """Every product is of one chunk with another, into the same space."""
    seen = []
    mm = torch.mm

    def recording(a, b, *, out):
        seen.append((len(a), b.shape[1], out.untyped_storage().data_ptr(), out.untyped_storage().nbytes()))
        return mm(a, b, out=out)

    monkeypatch.setattr(torch, "mm", recording)
    nearest(torch.randn(1300, 2), torch.randn(40_000, 2), 3)
    assert max(rows for rows, *_ in seen) == exact.DATABASE_CHUNK
    assert max(queries for _, queries, *_ in seen) == exact.QUERY_CHUNK
    assert sum(rows * queries for rows, queries, *_ in seen) == 1300 * 40_000
    assert len({space for _, _, space, _ in seen}) == 1
    assert seen[0][3] == 4 * exact.QUERY_CHUNK * exact.DATABASE_CHUNK


@given(st.lists(st.sampled_from([-1.5, -0.0, 0.0, 1e-30, 2.0, 3.0]), min_size=1, max_size=30), st.integers(1, 30))
def test_stable_topk_puts_the_lower_column_first(values, k):
    k = min(k, len(values))
    best, columns = stable_topk(torch.tensor([values]), k)
    expected = sorted(range(len(values)), key=lambda i: (-values[i], i))[:k]
    assert columns[0].tolist() == expected
    assert best[0].tolist() == [torch.tensor(values)[i].item() for i in expected]


def test_faiss_finds_the_same():
    pytest.importorskip("faiss")
    generator = torch.Generator().manual_seed(1)
    queries, database = torch.randn(30, 8, generator=generator), torch.randn(500, 8, generator=generator)
    ours = nearest(queries, database.split([100, 400]), 7)
    theirs = nearest(queries, database.split([100, 400]), 7, "faiss")
    torch.testing.assert_close(theirs[0], ours[0])
    assert torch.equal(theirs[1], ours[1])


def test_without_faiss_there_is_a_remedy(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(DinotoolsError, match="FAISS is not installed"):
        nearest(torch.randn(2, 3), torch.randn(4, 3), 1, "faiss")


def test_computes_where_the_queries_lie(fake_cuda):
    with fake_cuda:
        queries = torch.randn(20, 8)
    similarities, rows = nearest(queries, torch.randn(3000, 8), 5, cosine=True)
    assert (similarities.device.type, rows.device.type, rows.shape) == ("cuda", "cuda", (20, 5))
