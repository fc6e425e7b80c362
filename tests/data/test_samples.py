import zlib

import numpy as np
from sklearn.datasets import load_digits, load_sample_images

from dinotools.data.samples import Digits, photos


def test_the_split_of_the_digits_is_fixed_disjoint_and_balanced():
    train, val = Digits("train"), Digits("val")
    assert (len(train), len(val)) == (1400, 397)
    assert sorted([*train.indices, *val.indices]) == list(range(1797))
    checksums = [zlib.crc32(split.indices.astype("<i4").tobytes()) for split in (train, val)]
    assert checksums == [2988054357, 2131626522]  # of the first release: results must stay comparable
    assert np.bincount(train.labels).min() > 120
    assert np.bincount(val.labels).min() > 25


def test_digits_are_scikit_learns():
    val = Digits("val")
    original = load_digits()
    assert val.labels == original.target[val.indices].tolist()
    assert [val.classes[label] for label in val.labels] == [str(label) for label in val.labels]
    for index in (0, 200, 396):
        image = val.load(index)
        assert (image.mode, image.size) == ("RGB", (32, 32))
        assert val.name(index) == f"digits/{val.indices[index]}"
        array = np.asarray(image)
        assert (array[..., 0] == array[..., 2]).all()
        shrunk = array[..., 0].reshape(8, 4, 8, 4).mean((1, 3))
        assert np.corrcoef(shrunk.ravel(), original.images[val.indices[index]].ravel())[0, 1] > 0.97
    mean = np.mean([np.asarray(val.load(index)) for index in range(len(val))])
    assert abs(mean / (original.images[val.indices].mean() * 255 / 16) - 1) < 0.03  # 16 is white


def test_photos():
    found = photos()
    assert found.labels is None
    assert [path.replace("\\", "/").rsplit("/", 1)[1] for path in found.paths] == [
        "china.jpg",
        "flower.jpg",
        "grace_hopper.jpg",
    ]
    for index, original in enumerate(load_sample_images().images):
        assert (np.asarray(found.load(index)) == original).all()
    assert found.load(2).size == (512, 600)
