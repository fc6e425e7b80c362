"""The copies that were planted are found, and nothing else; the one to keep stands first."""

import json
import shutil

import pytest
from PIL import Image

from dinotools.configs.photos import DuplicatesConfig
from dinotools.photos import duplicates
from dinotools.runtime.errors import DinotoolsError
from tests.photos.conftest import RANDOM, coloured_noise


@pytest.fixture
def planted(folder):
    """The folder with copies of five of its photos: smaller, compressed, mirrored, and two the same file."""
    with Image.open(folder / "01.png") as image:
        image.resize((64, 54)).save(folder / "trip/01-small.png")
    with Image.open(folder / "02.png") as image:
        image.save(folder / "02-compressed.jpg", quality=60)
    coloured_noise(3, 192, 160).save(folder / "03-large.png")
    shutil.copy(folder / "04.png", folder / "trip/04-same.png")
    shutil.copy(folder / "04.png", folder / "trip/04-again.png")
    return folder


def find(folder, tmp_path, **options):
    return duplicates.run(DuplicatesConfig(dir=str(folder), **{"index": tmp_path / "index"} | RANDOM | options))


def names(result):
    return [[copy["path"].rpartition("/")[2] for copy in group] for group in result.metrics["groups_found"]]


def test_planted_copies_and_no_others_are_found(planted, tmp_path):
    result = find(planted, tmp_path, html=tmp_path / "page.html", out=tmp_path / "out")
    found = {group[0]: set(group[1:]) for group in names(result)}
    assert found == {
        "01.png": {"01-small.png"},
        "02.png": {"02-compressed.jpg"},  # of equal pixels the larger file is kept
        "03-large.png": {"03.png"},
        "04.png": {"04-same.png", "04-again.png"},
    }
    metrics = result.metrics
    assert (metrics["photos"], metrics["groups"], metrics["copies"], metrics["identical"]) == (35, 4, 5, 2)
    copies = [copy for group in metrics["groups_found"] for copy in group[1:]]
    assert metrics["bytes"] == sum(copy["bytes"] for copy in copies)
    assert {copy["path"].rpartition("/")[2] for copy in copies if copy["identical"]} == {"04-same.png", "04-again.png"}
    assert all(copy["similarity"] >= metrics["threshold"] for copy in copies)
    freed = [sum(copy["bytes"] for copy in group[1:]) for group in metrics["groups_found"]]
    assert freed == sorted(freed, reverse=True)
    calibration = result.details["calibration"]
    assert calibration["found"]["JPEG 75"] > 0.5
    assert set(calibration) == {"false_share", "found", "attacked", "compared"}
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 9
    assert "JPEG 75" in page
    assert len(list(planted.rglob("*.*"))) == 35  # nothing is deleted


def test_the_index_is_kept_in_the_cache_and_used_again(planted, tmp_path, monkeypatch, decoded):
    monkeypatch.setenv("DINOTOOLS_CACHE", str(tmp_path / "cache"))
    first = find(planted, tmp_path, index=None, threshold=0.9999)
    assert len(decoded) == 35
    decoded.clear()
    again = find(planted, tmp_path, index=None, threshold=0.9999)
    assert not decoded
    assert again.metrics == first.metrics
    assert len(list((tmp_path / "cache/photos").iterdir())) == 1
    find(planted, tmp_path, index=None, threshold=0.9999, imsize=40)
    assert len(list((tmp_path / "cache/photos").iterdir())) == 2


def test_a_threshold_is_taken_as_given(planted, tmp_path):
    only_identical = find(planted, tmp_path, threshold=1.0)
    assert names(only_identical) == [["04.png", "04-again.png", "04-same.png"]]
    assert only_identical.details["calibration"] is None
    everything = find(planted, tmp_path, threshold=0.01)
    assert len(everything.metrics["groups_found"]) == 1
    assert everything.metrics["copies"] == 34
    assert everything.metrics["identical"] == 2
    for threshold in (0.0, 1.5, -1.0):
        with pytest.raises(DinotoolsError, match="--threshold"):
            find(planted, tmp_path, threshold=threshold)


def test_too_few_photos_need_a_threshold(folder, tmp_path):
    for path in folder.glob("0*.png"):
        path.unlink()
    (folder / "10.png").unlink()
    with pytest.raises(DinotoolsError, match=r"19 photos are too few to find a threshold.*--threshold"):
        find(folder, tmp_path)
    assert find(folder, tmp_path, threshold=0.9999).metrics["groups"] == 0


def test_a_folder_without_copies_has_no_groups(folder, tmp_path):
    result = find(folder, tmp_path, html=tmp_path / "page.html")
    assert result.metrics["groups_found"] == []
    assert "There are none" in (tmp_path / "page.html").read_text()


def test_results_are_plain_json(planted, tmp_path):
    result = find(planted, tmp_path, threshold=0.9999)
    assert json.loads(json.dumps([result.metrics, result.details])) == [result.metrics, result.details]
