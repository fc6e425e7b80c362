"""A search finds what was asked for, with the network that made the index and no other."""

import shutil

import pytest

from dinotools.configs.photos import IndexConfig, SearchConfig
from dinotools.photos import indexing, searching
from dinotools.runtime.errors import DinotoolsError
from tests.photos.conftest import RANDOM, SIZES, coloured_noise, save_weights


@pytest.fixture
def index(folder, checkpoint, tmp_path):
    """An index made with a file of weights."""
    out = tmp_path / "index"
    indexing.run(IndexConfig(dir=str(folder), out=out, ckpt=str(checkpoint), **SIZES))
    return out


def search(index, *queries, **options):
    words = tuple(str(query) for query in queries)
    return searching.run(SearchConfig(index=index, query=words, workers=0, device="cpu", **options))


def test_a_photo_finds_itself_and_then_its_copy(index, folder, checkpoint, tmp_path):
    coloured_noise(5).resize((60, 50)).save(folder / "trip/small.jpg")
    indexing.run(IndexConfig(dir=str(folder), out=index, ckpt=str(checkpoint), **SIZES))
    outside = tmp_path / "outside.png"
    coloured_noise(7).save(outside)
    result = search(index, folder / "05.png", outside, top=3)
    first, second = result.metrics["queries"].values()
    assert [hit["path"] for hit in first[:2]] == [str(folder / "05.png"), str(folder / "trip/small.jpg")]
    assert first[0]["similarity"] == pytest.approx(1, abs=1e-4)
    assert second[0]["path"] == str(folder / "07.png")
    for hits in (first, second):
        similarities = [hit["similarity"] for hit in hits]
        assert len(hits) == 3
        assert similarities == sorted(similarities, reverse=True)
    assert [row["rank"] for row in result.rows] == [1, 2, 3, 1, 2, 3]


def test_random_weights_are_made_again_from_the_seed(folder, tmp_path):
    indexing.run(IndexConfig(dir=str(folder), out=tmp_path / "random", seed=3, **RANDOM))
    [hits] = search(tmp_path / "random", folder / "09.png", top=100).metrics["queries"].values()
    assert len(hits) == 30
    assert hits[0] == {"path": str(folder / "09.png"), "similarity": pytest.approx(1, abs=1e-4)}
    assert hits[1]["similarity"] < 0.9999


def test_the_page_shows_query_and_photos(index, folder, tmp_path):
    result = search(index, folder / "03.png", top=4, html=tmp_path / "pages/found.html")
    page = (tmp_path / "pages/found.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 5
    assert "03.png" in page
    assert any("found.html" in note for note in result.notes)


def test_a_moved_folder_is_told(index, folder, tmp_path):
    shutil.copy(folder / "03.png", tmp_path / "query.png")
    folder.rename(tmp_path / "elsewhere")
    result = search(index, tmp_path / "query.png", html=tmp_path / "found.html")
    assert "photos is gone" in result.notes[-1]
    assert (tmp_path / "found.html").read_text().count("no picture") == 10


def test_missing_and_unreadable_queries_are_named(index, folder, tmp_path):
    with pytest.raises(DinotoolsError, match=r"a.png, .*b.png: there is no such file"):
        search(index, folder / "01.png", tmp_path / "a.png", tmp_path / "b.png")
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(DinotoolsError, match=r"a.png: not an image"):
        search(index, tmp_path / "a.png")
    with pytest.raises(DinotoolsError, match=r"photos: there is no such file.*no folders"):
        search(index, folder)
    with pytest.raises(DinotoolsError, match=r"is a folder.*--html"):
        search(index, folder / "01.png", html=tmp_path)
    with pytest.raises(DinotoolsError, match="holds no index"):
        search(folder, folder / "01.png")
    with pytest.raises(DinotoolsError, match="--top: is 0"):
        search(index, folder / "01.png", top=0)


def test_an_index_brought_up_to_date_notes_where_its_network_lies_now(index, folder, checkpoint, tmp_path):
    moved = checkpoint.rename(tmp_path / "moved.pth")
    indexing.run(IndexConfig(dir=str(folder), out=index, ckpt=str(moved), **SIZES))
    [hits] = search(index, folder / "01.png").metrics["queries"].values()
    assert hits[0]["path"] == str(folder / "01.png")


def test_only_the_network_of_the_index_will_do(index, folder, checkpoint, tmp_path):
    moved = checkpoint.rename(tmp_path / "moved.pth")
    with pytest.raises(DinotoolsError, match=r"its network is gone: there is no .*weights.pth"):
        search(index, folder / "01.png")
    [hits] = search(index, folder / "01.png", ckpt=str(moved)).metrics["queries"].values()
    assert hits[0]["path"] == str(folder / "01.png")
    save_weights(checkpoint, seed=1)
    with pytest.raises(DinotoolsError, match=r"weights.pth: is not the network of .*sha256 was"):
        search(index, folder / "01.png")
    with pytest.raises(DinotoolsError, match=r"weights.pth: is not the network of"):
        search(index, folder / "01.png", ckpt=str(checkpoint))
