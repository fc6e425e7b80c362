import pytest
from PIL import Image

from dinotools.data.mixture import Mixture, part_sizes, split_names
from dinotools.data.sources import open_available_splits, open_images, open_labelled_splits
from dinotools.runtime.errors import DinotoolsError


def folder(path, *names):
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3), "red").save(path / name)
    return path


def test_parts_follow_one_another(tmp_path):
    folder(tmp_path / "x", "1.png", "2.png")
    folder(tmp_path / "y", "3.png")
    folder(tmp_path / "z", "4.png", "5.png", "6.png")
    source = open_images(f"{tmp_path}/x, {tmp_path}/y,{tmp_path}/z", "train")
    assert part_sizes(source) == (2, 1, 3)
    assert len(source) == 6
    assert [source.name(i).rpartition("/")[2] for i in range(6)] == [f"{i}.png" for i in range(1, 7)]
    assert source.load(5).size == (4, 3)
    assert (source.labels, source.classes) == (None, None)
    with pytest.raises(IndexError):
        source.load(6)


def test_one_name_is_one_part():
    source = open_images("digits", "train")
    assert not isinstance(source, Mixture)
    assert part_sizes(source) == (1400,)


def test_classes_stay_if_all_parts_have_the_same(tmp_path):
    x = folder(tmp_path / "x", "train/a/1.png", "train/b/2.png", "val/b/3.png")
    y = folder(tmp_path / "y", "train/a/4.png", "train/b/5.png", "train/b/6.png", "val/b/7.png")
    train, val = open_labelled_splits(f"{x},{y}")
    assert (train.labels, train.classes, val.labels) == ([0, 1, 0, 1, 1], ["a", "b"], [1, 1])
    z = folder(tmp_path / "z", "train/a/8.png", "train/c/9.png")
    assert open_images(f"{x},{z}", "train").labels is None
    assert list(open_available_splits(f"{x},{y}")) == ["train", "val"]
    assert list(open_available_splits(f"{x},{z}")) == ["train"]


def test_commas(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert split_names("a") == ["a"]
    assert split_names("a,b") == ["a", "b"]
    assert split_names("s/{000,005}.tar,b/{1..3,7}.tar") == ["s/{000,005}.tar", "b/{1..3,7}.tar"]
    assert split_names(",".join(["name"] * 100)) == ["name"] * 100  # longer than any file's name
    folder(tmp_path / "a,b", "1.png")
    assert split_names("a,b") == ["a,b"]
    assert len(open_images("a,b", "train")) == 1


@pytest.mark.parametrize("spec", ["a,", ",a", "a,,b", ","])
def test_a_comma_too_many(spec):
    with pytest.raises(DinotoolsError, match="a comma too many"):
        open_images(spec, "train")


@pytest.mark.parametrize("spec", ["", " "])
def test_no_name_is_not_the_current_folder(spec, tmp_path, monkeypatch):
    folder(tmp_path, "1.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DinotoolsError, match="is empty"):
        open_images(spec, "train")


def test_a_part_that_is_not_there_is_named(tmp_path):
    folder(tmp_path / "x", "1.png")
    with pytest.raises(DinotoolsError) as caught:
        open_images(f"{tmp_path}/x,{tmp_path}/nowhere", "train")
    assert caught.value.where == f"{tmp_path}/nowhere"
