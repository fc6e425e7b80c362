"""What a protocol measures, wherever it comes from."""

import json

import pytest
import torch

from dinotools.configs.classification import KnnConfig
from dinotools.configs.features import FeaturesConfig
from dinotools.features import command
from dinotools.features.opening import open_splits
from dinotools.models.vit import build_vit
from dinotools.runtime.device import prepare
from dinotools.runtime.errors import DinotoolsError

SIZES = {"resize_size": 32, "crop_size": 32, "workers": 0}
RUNTIME = prepare("cpu", "auto", 0, 0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("network") / "vit.pth"
    torch.save(build_vit("vit_micro", patch_size=16, img_size=32).state_dict(), path)
    return str(path)


@pytest.fixture(scope="module")
def folder(checkpoint, image_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("features")
    command.run(FeaturesConfig(ckpt=checkpoint, data=str(image_folder), out=out, pooling="cls2+avg", **SIZES))
    return out


def test_stored_features_serve_every_pooling_they_hold(checkpoint, image_folder, folder):
    for word in ("cls", "avg", "cls+avg", "cls2+avg"):
        kept, _ = open_splits(KnnConfig(features=folder), seed=0, pooling=word).load(RUNTIME)
        images = KnnConfig(ckpt=checkpoint, data=str(image_folder), **SIZES)
        made, _ = open_splits(images, seed=0, pooling=word).load(RUNTIME)
        torch.testing.assert_close(kept.tensor(), made.tensor(), atol=1e-5, rtol=1e-5)
    with pytest.raises(DinotoolsError, match=r"holds cls2\+avg, but cls4 is needed.*--pooling cls4"):
        open_splits(KnnConfig(features=folder), seed=0, pooling="cls4")


def test_a_selection_has_the_same_rows_from_files_and_from_images(checkpoint, image_folder, folder):
    positions = [1, 7, 9, 23]
    kept, _ = open_splits(KnnConfig(features=folder), seed=0, pooling="cls").load(RUNTIME, positions)
    made, _ = open_splits(KnnConfig(ckpt=checkpoint, data=str(image_folder), **SIZES), seed=0).load(RUNTIME, positions)
    torch.testing.assert_close(kept.tensor(), made.tensor(), atol=1e-5, rtol=1e-5)
    assert kept.labels.tolist() == made.labels.tolist() == [0, 0, 1, 2]
    assert kept.indices.tolist() == made.indices.tolist() == positions


def test_a_cache_is_found_again_and_keyed_by_everything(checkpoint, image_folder, tmp_path):
    def load(**changes):
        options = {"ckpt": checkpoint, "data": str(image_folder), "cache": tmp_path, **SIZES, **changes}
        pooling = options.pop("pooling", "cls")
        return open_splits(KnnConfig(**options), seed=0, pooling=pooling).load(RUNTIME)[0].tensor()

    first = load()
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/shard-*.npy")}
    assert len(made) == 2
    assert torch.equal(load(), first)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/shard-*.npy")} == made
    load(crop_size=16)
    load(pooling="avg")
    assert len(list(tmp_path.iterdir())) == 6


def test_features_of_another_checkpoint_are_refused(folder, checkpoint, tmp_path):
    assert len(open_splits(KnnConfig(features=folder, ckpt=checkpoint), seed=0).train_labels) == 24
    torch.manual_seed(6)
    torch.save(build_vit("vit_micro", patch_size=16, img_size=32).state_dict(), tmp_path / "other.pth")
    with pytest.raises(DinotoolsError, match="of another checkpoint"):
        open_splits(KnnConfig(features=folder, ckpt=str(tmp_path / "other.pth")), seed=0)


@pytest.mark.parametrize(
    ("changes", "seed"),
    [({"ckpt": "pixels"}, 0), ({"patch_size": 8}, 0), ({"arch": "vit_tiny"}, 0), ({}, 1)],
)
def test_features_of_another_random_network_are_refused(changes, seed, image_folder, tmp_path):
    network = {"ckpt": "random", "arch": "vit_micro", "patch_size": 16}
    command.run(FeaturesConfig(**network, data=str(image_folder), out=tmp_path, **SIZES))
    assert len(open_splits(KnnConfig(features=tmp_path, **network), seed=0).train_labels) == 24
    with pytest.raises(DinotoolsError, match="of another checkpoint"):
        open_splits(KnnConfig(features=tmp_path, **{**network, **changes}), seed=seed)


def test_a_pooling_in_adjacent_columns_stays_in_the_files(folder):
    kept, _ = open_splits(KnnConfig(features=folder), seed=0, pooling="cls+avg").load(RUNTIME)
    whole, _ = open_splits(KnnConfig(features=folder), seed=0).load(RUNTIME)
    assert kept.width == 2 * 128 and kept.shards[0].stride() == (3 * 128, 1)  # a view: no row was copied
    assert torch.equal(kept.tensor(), whole.tensor()[:, 128:])


def test_contradictions_are_refused(folder, image_folder):
    with pytest.raises(DinotoolsError, match="--data: was given beside --features"):
        open_splits(KnnConfig(features=folder, data=str(image_folder)), seed=0)
    with pytest.raises(DinotoolsError, match="--crop-size: is 96, but the features' images had 32"):
        open_splits(KnnConfig(features=folder, crop_size=96), seed=0)
    open_splits(KnnConfig(features=folder, crop_size=32), seed=0)
    with pytest.raises(DinotoolsError, match="no network to measure"):
        open_splits(KnnConfig(data=str(image_folder)), seed=0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": ["blue", "green", "violet"]}, "number other classes"),
        ({"classes": None}, "have no classes"),
        ({"settings": {"pooling": "cls"}}, "with other settings"),
        ({"format": 0}, "another version"),
    ],
)
def test_splits_that_do_not_belong_together_are_refused(folder, tmp_path, changes, words):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        for path in (folder / split).iterdir():
            (tmp_path / split / path.name).write_bytes(path.read_bytes())
    index = json.loads((tmp_path / "val/index.json").read_text())
    (tmp_path / "val/index.json").write_text(json.dumps(index | changes))
    with pytest.raises(DinotoolsError, match=words):
        open_splits(KnnConfig(features=tmp_path), seed=0)
