import inspect
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image

from dinotools.data.images import ImageFiles, UnreadableImage
from dinotools.data.samples import Digits
from dinotools.data.sources import TORCHVISION, open_images, open_labelled_splits
from dinotools.runtime.errors import DinotoolsError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("DINOTOOLS_CACHE", str(folder))
    return folder / "datasets"


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), "red").save(root / name)
    return root


def names_of(source, root: Path) -> list[str]:
    return [Path(source.name(i)).relative_to(root).as_posix() for i in range(len(source))]


# folders


@pytest.mark.parametrize("val", ["val", "test"])
def test_splits_of_a_folder(tmp_path, val):
    tree(tmp_path, "train/cat/1.png", "train/dog/2.png", f"{val}/dog/3.png", f"{val}/cat/4.png")
    assert names_of(open_images(tmp_path, "train"), tmp_path) == ["train/cat/1.png", "train/dog/2.png"]
    assert names_of(open_images(str(tmp_path), "val"), tmp_path) == [f"{val}/cat/4.png", f"{val}/dog/3.png"]


def test_val_goes_before_test(tmp_path):
    tree(tmp_path, "val/a/1.png", "test/a/2.png")
    assert names_of(open_images(tmp_path, "val"), tmp_path) == ["val/a/1.png"]


def test_a_folder_that_is_not_split_is_all_for_training(tmp_path):
    tree(tmp_path, "cat/1.png", "dog/2.png")
    assert len(open_images(tmp_path, "train")) == 2
    with pytest.raises(DinotoolsError, match="no subfolder val/ or test/"):
        open_images(tmp_path, "val")


def test_test_images_are_never_taken_for_training(tmp_path):
    tree(tmp_path, "cat/1.png", "test/2.png")
    with pytest.raises(DinotoolsError, match="no subfolder train/"):
        open_images(tmp_path, "train")


def test_embedded_sets_go_before_folders_and_folders_before_downloads(tmp_path, monkeypatch):
    tree(tmp_path, "digits/1.png", "cifar10/1.png")
    monkeypatch.chdir(tmp_path)
    assert isinstance(open_images("digits", "train"), Digits)
    assert isinstance(open_images("./digits", "train"), ImageFiles)
    assert isinstance(open_images("cifar10", "train"), ImageFiles)


def test_a_class_called_train_is_no_split(tmp_path):
    tree(tmp_path, "train/1.png", "bus/2.png")
    assert open_images(tmp_path, "train").classes == ["bus", "train"]


# names


def test_embedded_sets():
    assert isinstance(open_images("digits", "val"), Digits)
    assert len(open_images("Digits", "train")) == 1400
    assert len(open_images("photos", "train")) == 3
    with pytest.raises(DinotoolsError, match="no val split"):
        open_images("photos", "val")


@pytest.mark.parametrize(
    ("spec", "hint"), [("cifra10", "cifar10"), ("diggits", "digits"), ("/no/such/place", "photos, cifar10")]
)
def test_unknown_names(spec, hint):
    with pytest.raises(DinotoolsError) as caught:
        open_images(spec, "train")
    assert caught.value.where == spec
    assert hint in caught.value.remedy


@pytest.mark.parametrize("name", TORCHVISION)
def test_the_table_fits_torchvision(name):
    entry = TORCHVISION[name]
    dataset_class = getattr(torchvision.datasets, entry.class_name)
    for arguments in (entry.train, entry.val, entry.more or {}):
        inspect.signature(dataset_class).bind("folder", download=False, **arguments)
    assert any(
        f"self.{entry.labels} " in inspect.getsource(base) or f"self.{entry.labels}:" in inspect.getsource(base)
        for base in dataset_class.__mro__[:2]
    )


@pytest.mark.parametrize("name", [name for name, entry in TORCHVISION.items() if entry.by_hand is None])
@pytest.mark.parametrize("split", ["train", "val"])
def test_what_is_not_downloaded_says_so(name, split, cache, capsys):
    with pytest.raises(DinotoolsError) as caught:
        open_images(name, split)
    assert caught.value.where == cache / name
    assert "--download" in caught.value.remedy
    assert capsys.readouterr().out == ""


def test_a_failed_download_says_why(monkeypatch):
    def unreachable(*arguments: object, **options: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets.cifar, "download_and_extract_archive", unreachable)
    with pytest.raises(DinotoolsError, match="no route to host"):
        open_images("cifar10", "train", download=True)


def test_download_is_passed_on_and_prints_nothing_to_stdout(monkeypatch, capsys, cache):
    class Fake:
        classes = ("a", "b")
        targets = (1, 0, 1)

        def __init__(self, root: str, train: bool, download: bool) -> None:
            print("Files already downloaded")
            assert (root, train, download) == (str(cache / "cifar100"), False, True)

    monkeypatch.setattr(torchvision.datasets, "CIFAR100", Fake)
    source = open_images("cifar100", "val", download=True)
    assert source.labels == [1, 0, 1]
    assert source.classes == ["a", "b"]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "already" in captured.err


def test_cifar10_through_torchvision(cache, monkeypatch):
    folder = cache / "cifar10" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    data = np.random.RandomState(0).randint(0, 256, (3, 3072)).astype(np.uint8)
    (folder / "test_batch").write_bytes(pickle.dumps({"data": data, "labels": [2, 0, 1]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["airplane", "automobile", "bird"]}))
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *_: True)  # not the real files
    source = open_images("cifar10", "val")
    assert (source.labels, source.classes) == ([2, 0, 1], ["airplane", "automobile", "bird"])
    assert source.name(1) == "cifar10/val/1"
    image = source.load(1)
    assert image.mode == "RGB"
    assert (np.asarray(image) == data[1].reshape(3, 32, 32).transpose(1, 2, 0)).all()


def test_food101_through_torchvision_with_a_torn_file(cache):
    root = cache / "food101" / "food-101"
    tree(root / "images", "pie/1.jpg", "soup/2.jpg")
    (root / "images" / "soup" / "2.jpg").write_bytes(b"torn")
    (root / "meta").mkdir()
    (root / "meta" / "train.json").write_text(json.dumps({"pie": ["pie/1"], "soup": ["soup/2"]}))
    source = open_images("food101", "train")
    assert (source.labels, source.classes) == ([0, 1], ["pie", "soup"])
    assert source.load(0).size == (4, 4)
    with pytest.raises(UnreadableImage, match="food101/train/1"):
        source.load(1)


# labelled pairs


def test_labels_of_both_splits_agree(tmp_path):
    tree(tmp_path, "train/a/1.png", "train/b/2.png", "train/c/3.png", "val/c/4.png", "val/a/5.png")
    train, val = open_labelled_splits(str(tmp_path))
    assert train.labels == [0, 1, 2]
    assert val.labels == [0, 2]  # by name: c is the second class of val and the third of train
    assert train.classes == val.classes == ["a", "b", "c"]
    assert names_of(val, tmp_path) == ["val/a/5.png", "val/c/4.png"]
    assert val.load(0).size == (4, 4)


def test_folders_given_one_by_one(tmp_path):
    tree(tmp_path, "x/train/a/1.png", "y/a/2.png", "z/val/a/3.png")
    train, val = open_labelled_splits(None, str(tmp_path / "x" / "train"), str(tmp_path / "y"))
    assert (len(train), len(val)) == (1, 1)
    train, val = open_labelled_splits(str(tmp_path / "z"), train=str(tmp_path / "y"))
    assert names_of(val, tmp_path) == ["z/val/a/3.png"]
    assert names_of(train, tmp_path) == ["y/a/2.png"]


def test_embedded_splits():
    train, val = open_labelled_splits("digits")
    assert (len(train), len(val), len(train.classes)) == (1400, 397, 10)


@pytest.mark.parametrize(
    ("files", "what"),
    [
        (("train/1.png", "val/a/2.png"), "no classes"),
        (("train/a/1.png", "val/2.png"), "no classes"),
        (("train/a/1.png", "val/a/2.png", "val/b/3.png"), "without training images: b"),
        (("train/a/1.png",), "no subfolder val/ or test/"),
        (("a/1.png",), "no subfolder val/ or test/"),
    ],
)
def test_splits_that_do_not_go_together(tmp_path, files, what):
    with pytest.raises(DinotoolsError, match=what):
        open_labelled_splits(str(tree(tmp_path, *files)))


def test_nothing_given():
    with pytest.raises(DinotoolsError, match="--data"):
        open_labelled_splits(None, "x", None)
