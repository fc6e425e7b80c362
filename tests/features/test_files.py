"""Features as files: complete, resumable, never mixed, and honest about damage."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from dinotools.configs.classification import KnnConfig
from dinotools.configs.features import FeaturesConfig
from dinotools.features import command, files
from dinotools.features.opening import open_splits
from dinotools.runtime.device import prepare
from dinotools.runtime.errors import DinotoolsError, RunFailed

NETWORK = {"ckpt": "random", "arch": "vit_micro", "patch_size": 16}
SIZES = {"resize_size": 32, "crop_size": 32, "workers": 0, "device": "cpu"}
RUNTIME = prepare("cpu", "auto", 0, 0)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(files, "LARGEST_SHARD", 5)


def extract(data, out, **changes):
    return command.run(
        FeaturesConfig(**{**NETWORK, **SIZES, "data": str(data), "out": out, "batch_size": 2, **changes})
    )


def stored(out):
    return open_splits(KnnConfig(features=out), seed=0).load(RUNTIME)


def test_files_hold_what_extraction_in_memory_gives(image_folder, tmp_path):
    result = extract(image_folder, tmp_path / "f")
    assert [row["images"] for row in result.rows] == [24, 12]
    in_memory = open_splits(KnnConfig(**NETWORK, **SIZES, data=str(image_folder)), seed=0).load(RUNTIME)
    for kept, made in zip(stored(tmp_path / "f"), in_memory, strict=True):
        assert len(kept.shards) == -(-len(kept) // 5)
        # batches do not cross shards, so they differ, and with them the order of a sum
        torch.testing.assert_close(kept.tensor(), made.tensor(), atol=1e-5, rtol=1e-5)
        assert torch.equal(kept.labels, made.labels) and torch.equal(kept.indices, made.indices)


def test_the_index_says_what_made_the_features(image_folder, tmp_path):
    extract(image_folder, tmp_path / "f", pooling="cls2+avg", dtype="float16")
    index = json.loads((tmp_path / "f/train/index.json").read_text())
    assert index["classes"] == ["blue", "green", "red"]
    assert index["settings"]["pooling"] == "cls2+avg" and index["settings"]["dtype"] == "float16"
    assert index["settings"]["crop_size"] == 32 and index["settings"]["sha256"] is None
    names = json.loads((tmp_path / "f/train/names.json").read_text())
    assert len(names) == 24 and names[0].endswith("0.png")
    assert np.load(tmp_path / "f/train/labels.npy").tolist() == [0] * 8 + [1] * 8 + [2] * 8
    shard = np.load(tmp_path / "f/train/shard-00000.npy", mmap_mode="r")
    assert shard.dtype == np.float16 and shard.shape == (5, 3 * 128)
    assert (tmp_path / "f/config.toml").is_file()


def test_an_extraction_goes_on_with_the_shards_that_are_missing(image_folder, tmp_path):
    extract(image_folder, tmp_path / "f")
    whole = [features.tensor().clone() for features in stored(tmp_path / "f")]
    kept = tmp_path / "f/train/shard-00000.npy"
    before = kept.stat().st_mtime_ns
    (tmp_path / "f/train/shard-00002.npy").unlink()
    (tmp_path / "f/val/shard-00001.npy").unlink()
    with pytest.raises(DinotoolsError, match=r"1 of 5 shards are missing.*Repeat"):
        stored(tmp_path / "f")
    again = extract(image_folder, tmp_path / "f")
    assert [row["new"] for row in again.rows] == [5, 5]
    assert kept.stat().st_mtime_ns == before
    assert all(torch.equal(a, b.tensor()) for a, b in zip(whole, stored(tmp_path / "f"), strict=True))
    assert [row["new"] for row in extract(image_folder, tmp_path / "f").rows] == [0, 0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pooling": "avg"}, "pooling was cls, now avg"),
        ({"crop_size": 24}, "crop_size was 32, now 24"),
        ({"dtype": "float16"}, "dtype was float32, now float16"),
        ({"seed": 3}, "seed was 0, now 3"),
        ({"patch_size": 8}, "patch_size was 16, now 8"),
    ],
)
def test_settings_are_never_mixed(image_folder, tmp_path, changes, words):
    extract(image_folder, tmp_path / "f")
    with pytest.raises(DinotoolsError, match=words):
        extract(image_folder, tmp_path / "f", **changes)
    extract(image_folder, tmp_path / "f", **changes, overwrite=True)


def test_changed_images_are_noticed(image_folder, tmp_path):
    shutil.copytree(image_folder, tmp_path / "data")
    extract(tmp_path / "data", tmp_path / "f")
    Image.new("RGB", (50, 50)).save(tmp_path / "data/train/red/0.png")
    with pytest.raises(DinotoolsError, match="images or their classes have changed"):
        extract(tmp_path / "data", tmp_path / "f")


def test_overwriting_spares_what_is_no_feature(image_folder, tmp_path):
    (tmp_path / "f/photos").mkdir(parents=True)
    with pytest.raises(DinotoolsError, match="something beside features"):
        extract(image_folder, tmp_path / "f", overwrite=True)
    (tmp_path / "g/train").mkdir(parents=True)
    (tmp_path / "g/train/mine.txt").write_text("")
    with pytest.raises(DinotoolsError, match="holds something, but no features"):
        extract(image_folder, tmp_path / "g")


def test_overwriting_spares_an_index_of_somebody_else(image_folder, tmp_path):
    (tmp_path / "site/page").mkdir(parents=True)
    (tmp_path / "site/page/index.json").write_text('{"title": "mine"}')
    with pytest.raises(DinotoolsError, match="something beside features"):
        extract(image_folder, tmp_path / "site", overwrite=True)
    assert (tmp_path / "site/page/index.json").read_text() == '{"title": "mine"}'


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["config.toml", "results.json"])
def test_a_runs_options_and_results_are_spared(name, overwrite, image_folder, tmp_path):
    (tmp_path / name).write_text("of a run")
    (tmp_path / "checkpoint.pth").write_text("of a run")
    with pytest.raises(DinotoolsError, match="results of another command"):
        extract(image_folder, tmp_path, overwrite=overwrite)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        name: "of a run",
        "checkpoint.pth": "of a run",
    }


def test_a_file_is_no_folder_for_features(image_folder, tmp_path):
    (tmp_path / "f").write_text("mine")
    with pytest.raises(DinotoolsError, match="is a file"):
        extract(image_folder, tmp_path / "f")


def test_a_kill_before_the_index_is_no_obstacle(image_folder, tmp_path, monkeypatch):
    (tmp_path / "f/train").mkdir(parents=True)
    for left in ("names.json", "labels.npy", ".17-index.json.tmp"):
        (tmp_path / "f/train" / left).write_text("half")
    extract(image_folder, tmp_path / "f")
    assert len(stored(tmp_path / "f")[0]) == 24


def test_two_commands_can_write_one_file_at_the_same_moment(tmp_path, monkeypatch):
    def other_command(path):
        monkeypatch.setattr(files.os, "getpid", lambda: -1)
        files._write(tmp_path / "shard", lambda p: p.write_text("whole"))

    files._write(tmp_path / "shard", lambda path: (path.write_text("whole"), other_command(path)))
    assert [path.name for path in tmp_path.iterdir()] == ["shard"]
    assert (tmp_path / "shard").read_text() == "whole"


def test_unreadable_images_have_no_row(image_folder, tmp_path):
    shutil.copytree(image_folder, tmp_path / "data")
    broken = tmp_path / "data/train/green/0.png"
    broken.write_bytes(b"broken")
    with pytest.raises(DinotoolsError, match="--max-bad"):
        extract(tmp_path / "data", tmp_path / "f")
    extract(tmp_path / "data", tmp_path / "f", max_bad=0.1)
    train, _ = stored(tmp_path / "f")
    assert len(train) == 23 and train.skipped == (str(broken),)
    assert train.indices.tolist() == [i for i in range(24) if i != 8]
    assert train.labels.tolist() == [0] * 8 + [1] * 7 + [2] * 8


def test_damage_is_named(image_folder, tmp_path):
    extract(image_folder, tmp_path / "f")
    shard = tmp_path / "f/train/shard-00001.npy"
    rows = np.load(shard)
    rows[2, 3] = np.nan
    np.save(shard, rows)
    with pytest.raises(DinotoolsError, match=r"shard-00001.npy: holds features that are not finite"):
        stored(tmp_path / "f")
    shard.write_bytes(b"no array")
    with pytest.raises(DinotoolsError, match=r"shard-00001.npy: is no shard of features"):
        stored(tmp_path / "f")
    np.save(shard, rows[:2])
    with pytest.raises(DinotoolsError, match="2 rows for 5 images"):
        stored(tmp_path / "f")
    shard.write_bytes(b"")
    with pytest.raises(DinotoolsError, match=r"shard-00001.npy: is no shard of features"):
        stored(tmp_path / "f")


def test_a_limit_of_open_files_is_not_blamed_on_the_shard(image_folder, tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(24, "Too many open files")

    extract(image_folder, tmp_path / "f")
    monkeypatch.setattr(np, "load", refuse)
    with pytest.raises(DinotoolsError, match="Too many open files") as caught:
        files.read_features(tmp_path / "f/train")
    assert "Remove" not in str(caught.value)


def test_values_beyond_half_precision_are_refused(image_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(files.Extractor, "_features", lambda self, images: torch.full((len(images), 4), 1e5))
    with pytest.raises(RunFailed, match=r"exceed the range of float16.*float32"):
        extract(image_folder, tmp_path / "f", dtype="float16")


def test_images_without_classes_or_splits_have_features_too(image_folder, tmp_path):
    result = extract(image_folder / "train/red", tmp_path / "f")
    assert [(row["split"], row["images"]) for row in result.rows] == [("train", 8)]
    assert files.read_features(tmp_path / "f/train").labels.tolist() == [-1] * 8
    with pytest.raises(DinotoolsError, match="features of train/ only: its extraction was interrupted, or its data"):
        open_splits(KnnConfig(features=tmp_path / "f"), seed=0)


@pytest.mark.parametrize(("images", "expected"), [(24, 64), (1400, 88), (1_281_167, 4096)])
def test_a_shard_is_a_share_of_a_small_set_and_bounded(images, expected, monkeypatch, tmp_path):
    monkeypatch.setattr(files, "LARGEST_SHARD", 4096)
    monkeypatch.setattr(files, "fingerprint", lambda source: "")
    source = type("Source", (), {"labels": None, "classes": None, "name": str, "__len__": lambda self: images})()
    files._prepare_folder(tmp_path / "f", source, {}, {})
    assert files.read_index(tmp_path / "f")["shard_images"] == expected
