"""An index follows its folder and loses nothing."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from dinotools.configs.photos import IndexConfig
from dinotools.data import images
from dinotools.photos import indexing, storage
from dinotools.photos.storage import Index
from dinotools.runtime.errors import DinotoolsError
from tests.photos.conftest import RANDOM, coloured_noise


@pytest.fixture
def index(folder, tmp_path):
    """Runs the command and returns its counts."""

    def run(directory=folder, **options):
        config = IndexConfig(dir=str(directory), out=tmp_path / "index", **RANDOM | options)
        return indexing.run(config).metrics

    return run


def vectors(path):
    """Path of a photo -> its vector."""
    index = Index(path)
    return dict(zip((photo.path for photo in index.photos), torch.cat(index.shards()).float(), strict=True))


def counts(photos, new=0, changed=0, removed=0, unreadable=0):
    return {"photos": photos, "new": new, "changed": changed, "removed": removed, "unreadable": unreadable}


def test_only_new_and_changed_photos_are_looked_at(index, folder, decoded, tmp_path):
    assert index() == counts(30, new=30)
    before = vectors(tmp_path / "index")
    assert all(abs(vector.norm() - 1) < 1e-3 for vector in before.values())
    decoded.clear()
    assert index() == counts(30)
    assert not decoded
    coloured_noise(100).save(folder / "trip/new.png")
    coloured_noise(101, width=90).save(folder / "03.png")
    (folder / "04.png").unlink()
    assert index() == counts(30, new=1, changed=1, removed=1)
    assert sorted(decoded) == ["03.png", "new.png"]
    after = vectors(tmp_path / "index")
    assert set(after) == set(before) - {"04.png"} | {str(Path("trip/new.png"))}
    same = set(before) - {"03.png", "04.png"}
    assert all(torch.equal(after[name], before[name]) for name in same)
    assert not torch.equal(after["03.png"], before["03.png"])


def test_the_folder_may_move(index, folder, decoded, tmp_path):
    index()
    decoded.clear()
    moved = folder.rename(tmp_path / "elsewhere")
    assert index(moved) == counts(30)
    assert not decoded
    assert Index(tmp_path / "index").facts["photos"] == str(moved.resolve())


def test_another_folder_needs_another_index(index, folder, tmp_path):
    index()
    other = shutil.copytree(folder, tmp_path / "other")
    with pytest.raises(DinotoolsError, match=r"is the index of .*photos, which is still there"):
        index(other)


def test_a_kill_loses_one_lot(index, folder, decoded, monkeypatch, tmp_path):
    index()
    whole = vectors(tmp_path / "index")
    shutil.rmtree(tmp_path / "index")
    monkeypatch.setattr(indexing, "PART", 8)
    real, calls = images.ImageFiles.load, []

    def killed(source, index):
        calls.append(index)
        if len(calls) > 20:
            raise KeyboardInterrupt
        return real(source, index)

    with monkeypatch.context() as patch:
        patch.setattr(images.ImageFiles, "load", killed)
        with pytest.raises(KeyboardInterrupt):
            index(batch_size=4)
    assert [len(lot.photos) for lot in Index(tmp_path / "index").lots] == [8, 8]
    decoded.clear()
    assert index() == counts(30, new=14)
    assert len(decoded) == 14
    assert [len(lot.photos) for lot in Index(tmp_path / "index").lots] == [30]
    resumed = vectors(tmp_path / "index")
    assert resumed.keys() == whole.keys()
    for name, vector in whole.items():
        torch.testing.assert_close(resumed[name], vector, rtol=0, atol=1e-3)


def test_a_kill_between_the_files_of_a_lot_leaves_the_old_index(index, folder, monkeypatch, tmp_path):
    index()
    before = vectors(tmp_path / "index")
    (folder / "00.png").unlink()

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            index()
    assert len(list((tmp_path / "index").glob("lot-*.npy"))) == 2
    assert vectors(tmp_path / "index").keys() == before.keys()
    assert index() == counts(29, removed=1)
    assert len(list((tmp_path / "index").glob("lot-*"))) == 2  # an array and its list


def test_photos_that_come_one_by_one_share_lots(index, folder, monkeypatch, tmp_path):
    monkeypatch.setattr(indexing, "LOT", 16)
    monkeypatch.setattr(indexing, "PART", 8)
    index()
    for seed in range(100, 110):
        coloured_noise(seed).save(folder / f"{seed}.png")
        assert index() == counts(30 + seed - 99, new=1)
    lots = [len(lot.photos) for lot in Index(tmp_path / "index").lots]
    assert sum(lots) == 40
    assert max(lots) <= 16
    assert sum(size < 8 for size in lots) <= 2


@pytest.mark.parametrize("option", [{"imsize": 40}, {"pooling": "cls"}, {"seed": 1}, {"arch": "vit_tiny"}])
def test_other_settings_are_refused(option, index):
    index()
    [[name, value]] = option.items()
    name = {"imsize": "square_side"}.get(name, name)
    with pytest.raises(DinotoolsError, match=f"made otherwise .*{name} was .*, now {value}"):
        index(**option)


def test_unreadable_photos_are_remembered(index, folder, decoded):
    (folder / "bad.jpg").write_bytes(b"no image")
    (folder / "nowhere.jpg").symlink_to(folder / "gone.jpg")
    assert index(max_bad=0.1) == counts(30, new=30, unreadable=2)
    decoded.clear()
    assert index(max_bad=0.1) == counts(30, unreadable=2)
    assert not decoded
    coloured_noise(50).save(folder / "bad.jpg")
    assert index(max_bad=0.1) == counts(31, changed=1, unreadable=1)
    assert decoded == ["bad.jpg"]
    (folder / "nowhere.jpg").unlink()
    assert index() == counts(31, removed=1)


def test_too_many_unreadable_photos_are_an_error(index, folder):
    for i in range(2):
        (folder / f"bad{i}.jpg").write_bytes(b"no image")
    with pytest.raises(DinotoolsError, match=r"2 unreadable of 32 images, more than --max-bad 0\.05"):
        index(max_bad=0.05)
    with pytest.raises(DinotoolsError, match="--max-bad"):
        index(max_bad=0.05)  # remembered or not
    assert index(max_bad=0.1)["photos"] == 30


def test_a_bad_photo_that_comes_alone_is_one_of_all(index, folder):
    index()
    (folder / "bad.jpg").write_bytes(b"no image")
    assert index(max_bad=0.05) == counts(30, unreadable=1)


def test_bad_folders_are_refused(index, folder, tmp_path):
    with pytest.raises(DinotoolsError, match="there is no such folder"):
        index(tmp_path / "nothing")
    (tmp_path / "index").mkdir()
    (tmp_path / "index/diary.txt").write_text("dear diary")
    with pytest.raises(DinotoolsError, match="holds something, but no index"):
        index()
    with pytest.raises(DinotoolsError, match="4 pixels are less than a patch of 8"):
        index(imsize=4)


def test_an_index_that_cannot_be_written_serves_until_a_photo_changes(index, folder, decoded, monkeypatch):
    index()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert index() == counts(30)
    (folder / "04.png").unlink()
    decoded.clear()
    with pytest.raises(DinotoolsError, match=r"read-only.*Choose another folder for the index"):
        index()
    assert not decoded


def test_damaged_files_are_named(index, tmp_path):
    index()
    [array] = (tmp_path / "index").glob("*.npy")
    array.write_bytes(array.read_bytes()[:-100])
    with pytest.raises(DinotoolsError, match=r"lot-00000.npy.*Remove the index"):
        Index(tmp_path / "index").shards()
    array.with_suffix(".json").write_text("{}")
    with pytest.raises(DinotoolsError, match=r"lot-00000.json"):
        Index(tmp_path / "index")


def test_a_name_that_is_no_text_is_kept(index, folder, tmp_path):
    strange = os.fsencode(folder) + b"/\xff.png"
    try:
        Image.new("RGB", (40, 40), "red").save(folder / "red.png")
        (folder / "red.png").rename(os.fsdecode(strange))
    except OSError:
        pytest.skip("this file system has no such names")
    assert index()["photos"] == 31
    assert index() == counts(31)
