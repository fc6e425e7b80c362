import numpy as np
import pytest
import torchvision.datasets
from PIL import Image
from scipy.io import savemat

from dinotools.data.sources import open_images
from dinotools.data.torchvision_sets import TORCHVISION
from dinotools.runtime.errors import DinotoolsError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DINOTOOLS_CACHE", str(tmp_path))
    return tmp_path / "datasets"


def test_flowers_are_learned_from_two_parts_and_tested_on_the_third(monkeypatch):
    class Fake:
        classes = ("rose", "lily")

        def __init__(self, root: str, split: str, download: bool) -> None:
            self._labels = {"train": [0, 1], "val": [1], "test": [0, 0, 1, 1]}[split]
            self.shade = {"train": 10, "val": 20, "test": 30}[split]

        def __len__(self) -> int:
            return len(self._labels)

        def __getitem__(self, index: int):
            return Image.new("RGB", (2, 2), (self.shade + index, 0, 0)), self._labels[index]

    monkeypatch.setattr(torchvision.datasets, "Flowers102", Fake)
    train, test = open_images("flowers102", "train"), open_images("flowers102", "val")
    assert (train.labels, test.labels) == ([0, 1, 1], [0, 0, 1, 1])
    assert train.classes == test.classes == ["rose", "lily"]
    assert [train.load(i).getpixel((0, 0))[0] for i in range(3)] == [10, 11, 20]
    assert test.load(3).getpixel((0, 0))[0] == 33
    assert train.name(2) == "flowers102/train/2"


def test_cars(cache):
    root = cache / "stanfordcars" / "stanford_cars"
    (root / "devkit").mkdir(parents=True)
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": np.array(["Audi", "BMW", "Seat"], dtype=object)})
    kind = np.dtype([("class", "O"), ("fname", "O")])
    for split, file, numbers in (
        ("train", root / "devkit" / "cars_train_annos.mat", [3, 1]),
        ("test", root / "cars_test_annos_withlabels.mat", [2, 2]),
    ):
        (root / f"cars_{split}").mkdir()
        savemat(file, {"annotations": np.array([(n, f"{i}.jpg") for i, n in enumerate(numbers)], dtype=kind)})
        Image.new("RGB", (4, 4), "red").save(root / f"cars_{split}" / "1.jpg")
    train, test = open_images("stanfordcars", "train"), open_images("stanfordcars", "val", download=True)
    assert (train.labels, test.labels) == ([2, 0], [1, 1])
    assert train.classes == ["Audi", "BMW", "Seat"]
    assert train.load(1).size == (4, 4)


@pytest.mark.parametrize("download", [False, True])
def test_what_cannot_be_fetched_says_what_to_put_where(cache, download):
    with pytest.raises(DinotoolsError) as error:
        open_images("stanfordcars", "train", download=download)
    assert error.value.where == cache / "stanfordcars"
    assert error.value.remedy == TORCHVISION["stanfordcars"].by_hand
