"""FAISS indexes against exact search."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from dinotools.runtime.errors import DinotoolsError, RunFailed
from dinotools.search import approximate
from dinotools.search.approximate import FEWEST, Index, build, open_index, recall, rescored
from dinotools.search.exact import nearest

faiss = pytest.importorskip("faiss")
CPU = torch.device("cpu")


def clustered(n, dim, seed=0, centres=200):
    """Vectors of length 1 around centres that are the same for every seed."""
    around = torch.randn(centres, dim, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, dim, generator=generator)
    return F.normalize(around[torch.randint(centres, (n,), generator=generator)] + 0.7 * noise, dim=1)


def on_disk(folder, vectors, sizes):
    """Mapped half-precision shards."""
    shards = []
    for i, part in enumerate(vectors.split(sizes)):
        np.save(folder / f"{i}.npy", part.half().numpy())
        shards.append(torch.from_numpy(np.load(folder / f"{i}.npy", mmap_mode="c")))
    return shards


@pytest.fixture
def eager(monkeypatch):
    """Codewords learned from few vectors, which is quick."""
    monkeypatch.setattr(approximate, "SAMPLED", 4)
    monkeypatch.setattr(approximate, "FEWEST", 1024)


@pytest.fixture(scope="module")
def million(tmp_path_factory):
    """What a million would be: mapped shards, one of them small, and their IVF-PQ index."""
    folder = tmp_path_factory.mktemp("million")
    shards = on_disk(folder, clustered(12_000, 100), [5000, 20, 6980])
    build(shards, "ivfpq", folder / "index", device=CPU, seed=0)
    return shards, folder / "index"


# -- what is found


@pytest.mark.parametrize("dim", [3, 100, 384])
def test_a_flat_index_finds_what_exact_search_finds(dim, tmp_path):
    shards = on_disk(tmp_path, clustered(700, dim), [300, 400])
    queries = clustered(300, dim, seed=1)  # two chunks
    build(shards, "flat", tmp_path / "index", device=CPU, seed=0)
    index = open_index(tmp_path / "index")
    assert (index.kind, len(index), index.dim) == ("flat", 700, dim)
    similarity, rows = index.search(queries, 10)
    expected, expected_rows = nearest(queries, shards, 10)
    torch.testing.assert_close(similarity, expected, atol=1e-6, rtol=0)
    assert recall(rows, expected_rows) > 0.999  # in three dimensions some are closer than rounding tells


def test_compressed_candidates_are_compared_exactly(million):
    shards, path = million
    queries = clustered(300, 100, seed=1)
    exact_similarity, exact = nearest(queries, shards, 20)
    index = open_index(path)
    assert (index.kind, len(index), index.dim) == ("ivfpq", 12_000, 100)
    estimate, proposed = index.search(queries, 20)
    similarity, rows = index.search(queries, 20, shards)
    products = torch.stack([torch.cat(shards).float()[r] @ q for r, q in zip(rows, queries, strict=True)])
    torch.testing.assert_close(similarity, products, atol=1e-6, rtol=0)
    assert (similarity.diff(dim=1) <= 0).all()
    assert (estimate.diff(dim=1) <= 0).all()
    assert recall(proposed, exact) > 0.63  # codewords of whole vectors, not of residuals, would reach 0.61
    assert recall(rows, exact) > 0.98
    found_best = rows[:, 0] == exact[:, 0]
    torch.testing.assert_close(similarity[found_best, 0], exact_similarity[found_best, 0], atol=1e-6, rtol=0)
    assert found_best.float().mean() > 0.95


@pytest.mark.parametrize("dim", [5, 101, 1536])
def test_any_width_is_compressed_to_a_byte_for_eight_dimensions(dim, tmp_path, eager):
    vectors = clustered(1024, dim)
    build([vectors], "ivfpq", tmp_path / "index", device=CPU, seed=0)
    index = open_index(tmp_path / "index")
    lists = faiss.downcast_index(index.faiss.index)
    assert (index.kind, index.dim, lists.pq.M) == ("ivfpq", dim, -(-dim // 8))
    own = torch.arange(0, 1024, 10)
    assert (index.search(vectors[own], 10, [vectors])[1][:, 0] == own).float().mean() > 0.95


def test_a_flat_index_is_one_of_faiss(tmp_path):
    """Which finds the same in it."""
    vectors, queries = clustered(500, 12), clustered(20, 12, seed=1)
    build(vectors.split(300), "flat", tmp_path / "index", device=CPU, seed=0)
    similarity, rows = faiss.read_index(str(tmp_path / "index")).search(queries.numpy(), 5)
    ours, our_rows = open_index(tmp_path / "index").search(queries, 5)
    torch.testing.assert_close(ours, torch.from_numpy(similarity))
    assert torch.equal(our_rows, torch.from_numpy(rows))


def test_computes_on_the_device_it_is_given(fake_cuda):
    with fake_cuda:
        queries, sample = torch.randn(20, 12), torch.randn(400, 12)
    flat = Index(Path("index"), "flat", SimpleNamespace(ntotal=500, d=12), torch.randn(500, 12))
    similarity, rows = flat.search(queries, 5)
    assert (similarity.device.type, rows.device.type, rows.shape) == ("cuda", "cuda", (20, 5))
    assert approximate._centres(sample, torch.arange(7)).device.type == "cuda"


def test_the_seed_decides_everything(tmp_path, eager):
    vectors = clustered(3000, 16)
    for name, seed in {"first": 4, "again": 4, "other": 5}.items():
        build([vectors], "ivfpq", tmp_path / name, device=CPU, seed=seed)
    first, again, other = ((tmp_path / name).read_bytes() for name in ("first", "again", "other"))
    assert first == again
    assert first != other


@pytest.mark.parametrize("n", [1, 300, FEWEST - 1])
def test_few_vectors_are_kept_whole(n, tmp_path):
    vectors = clustered(n, 8)
    build([vectors], "ivfpq", tmp_path / "index", device=CPU, seed=0)
    index = open_index(tmp_path / "index")
    assert index.kind == "flat"
    assert torch.equal(index.search(vectors[:5], 1, [vectors])[1][:, 0], torch.arange(min(n, 5)))


@pytest.mark.parametrize("kind", ["flat", "ivfpq"])
def test_where_fewer_are_found_the_rest_is_empty(kind, tmp_path, million):
    shards, path = million
    if kind == "flat":
        shards, path = [clustered(7, 100)], tmp_path / "index"
        build(shards, kind, path, device=CPU, seed=0)
    index = open_index(path)
    k = len(index) + 3
    similarity, rows = index.search(clustered(4, 100, seed=1), k, shards)
    empty = rows < 0
    assert empty.any(dim=1).all()
    assert torch.equal(similarity == -torch.inf, empty)
    assert (rows[empty] == -1).all()
    assert (empty.int().diff(dim=1) >= 0).all()
    for found in rows:
        found = found[found >= 0]
        assert len(found.unique()) == len(found) > 0


# -- a saved index


def test_an_index_is_mapped_and_not_copied(tmp_path):
    """The file has changed since it was opened, and the search sees it."""
    vectors = clustered(500, 32)
    build([vectors], "flat", tmp_path / "index", device=CPU, seed=0)
    index = open_index(tmp_path / "index")
    content = np.memmap(tmp_path / "index", np.uint8, "r+")
    content[-4 * vectors.numel() :] = 0
    content.flush()
    assert (index.search(vectors[:3], 5)[0] == 0).all()


@pytest.mark.parametrize("kind", ["flat", "ivfpq"])
@pytest.mark.parametrize("damage", ["half", "tail", "empty", "text", "missing"])
def test_a_damaged_file_is_refused(kind, damage, tmp_path, million):
    path = tmp_path / "index"
    if kind == "flat":
        build([clustered(100, 8)], kind, path, device=CPU, seed=0)
        content = path.read_bytes()
    else:
        content = million[1].read_bytes()
    damaged = {"half": content[: len(content) // 2], "tail": content[:-8], "empty": b"", "text": b"rows,of,text\n" * 9}
    path.unlink(missing_ok=True)
    if damage in damaged:
        path.write_bytes(damaged[damage])
    with pytest.raises(DinotoolsError, match=r"no such index|damaged one.*Build the index again"):
        open_index(path)


def test_an_index_of_another_kind_is_refused(tmp_path):
    faiss.write_index(faiss.IndexHNSWFlat(8, 4), str(tmp_path / "index"))
    with pytest.raises(DinotoolsError, match="another kind, IndexHNSWFlat"):
        open_index(tmp_path / "index")


def test_queries_and_features_that_do_not_fit_are_refused(million):
    shards, path = million
    index = open_index(path)
    with pytest.raises(DinotoolsError, match="vectors of width 100, and the queries have 99"):
        index.search(torch.randn(2, 99), 3)
    with pytest.raises(DinotoolsError, match=r"holds 12000 vectors .* the features are 5020 of 100"):
        index.search(torch.randn(2, 100), 3, shards[:2])


def test_nothing_makes_no_index(tmp_path):
    with pytest.raises(DinotoolsError, match="there are no vectors"):
        build([torch.empty(0, 8)], "flat", tmp_path / "index", device=CPU, seed=0)


def test_a_disk_that_takes_no_more_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(index, path):
        raise RuntimeError("No space left on device")

    monkeypatch.setattr(faiss, "write_index", full)
    with pytest.raises(RunFailed, match=r"No space left.*Is the disk full"):
        build([clustered(10, 8)], "flat", tmp_path / "index", device=CPU, seed=0)
    assert not list(tmp_path.iterdir())


def test_without_faiss_there_is_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    for attempt in (
        lambda: build([torch.ones(1, 2)], "flat", tmp_path / "index", device=CPU, seed=0),
        lambda: open_index(tmp_path / "index"),
    ):
        with pytest.raises(DinotoolsError, match=r"FAISS is not installed.*Search without one, or pip install"):
            attempt()


# -- exact similarities of candidates, and recall


@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    queries=st.integers(1, 4),
    wide=st.integers(1, 12),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_rescored_candidates_are_the_best_of_them(sizes, queries, wide, seed, data):
    n = sum(sizes)
    k = data.draw(st.integers(1, wide))
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randint(-2, 3, (n, 3), generator=generator).float()  # many ties
    asked = torch.randint(-2, 3, (queries, 3), generator=generator).float()
    lists = [torch.randperm(n, generator=generator)[:wide].tolist() for _ in range(queries)]
    rows = torch.tensor([[*found, *[-1] * (wide - len(found))] for found in lists])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(approximate, "CHUNK", 5)
        similarity, best = rescored(asked, rows, vectors.split(sizes), k)
    for i, found in enumerate(lists):
        scores = {row: float(asked[i] @ vectors[row]) for row in found}
        expected = sorted(found, key=lambda row: (-scores[row], row))[:k]
        padding = k - len(expected)
        assert best[i].tolist() == [*expected, *[-1] * padding]
        assert similarity[i].tolist() == [*(scores[row] for row in expected), *[-torch.inf] * padding]


def test_recall_is_the_share_of_the_exact_rows():
    exact = torch.tensor([[3, 1, 4], [0, 2, -1]])
    assert recall(exact.flip(1), exact) == 1
    assert recall(torch.tensor([[1, 9, 3], [5, -1, -1]]), exact) == pytest.approx(2 / 5)
    assert recall(torch.tensor([[4], [7]]), exact) == pytest.approx(1 / 5)
