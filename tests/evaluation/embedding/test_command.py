"""`dinotools embed` from images or stored features to picture, page and table."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from dinotools.configs.embedding import EmbedConfig
from dinotools.configs.features import FeaturesConfig
from dinotools.evaluation.embedding.command import project, run
from dinotools.features import command as features_command
from dinotools.runtime.errors import DinotoolsError, RunFailed

NETWORK = {"ckpt": "random", "arch": "vit_micro", "patch_size": 8, "resize_size": 32, "crop_size": 32, "workers": 0}


def table(out):
    with (out / "embedding.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def data_of(out):
    page = (out / "embedding.html").read_text(encoding="utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', page)[1])


def test_a_point_per_image(image_folder, tmp_path):
    result = run(EmbedConfig(**NETWORK, data=str(image_folder), out=tmp_path / "out"))
    rows = table(tmp_path / "out")
    assert sorted(row["name"] for row in rows) == sorted(map(str, (image_folder / "val").glob("*/*.png")))
    assert all(f"/{row['class']}/" in row["name"] for row in rows)
    assert min(Image.open(tmp_path / "out" / "embedding.png").size) > 300
    found = data_of(tmp_path / "out")
    assert [entry["name"] for entry in found["classes"]] == ["blue", "green", "red"]
    assert found["thumbnails"] == list(range(12))
    assert result.metrics["points"] == 12
    assert result.metrics["perplexity"] == pytest.approx(11 / 3)
    assert 0.5 < result.metrics["trustworthiness"] <= 1
    assert any("Perplexity 3.67 rather than 30" in note for note in result.notes)
    assert result.details["data"] == {"images": 12, "skipped": [], "split": 12}


def test_a_point_per_class_is_the_mean_feature(image_folder, tmp_path):
    chosen = {"of": "classes", "method": "pca", "split": "train"}
    config = EmbedConfig(**NETWORK, **chosen, data=str(image_folder), out=tmp_path / "out")
    result = run(config)
    assert [row["class"] for row in table(config.out)] == ["blue", "green", "red"]
    assert all(f"/train/{row['class']}/" in row["name"] for row in table(config.out))
    assert result.metrics["points"] == 3
    assert sum(result.metrics["explained_variance"]) == pytest.approx(1)  # three points lie in a plane


def test_stored_features_give_the_same_points(image_folder, tmp_path):
    stored = tmp_path / "features"
    features_command.run(FeaturesConfig(**NETWORK, data=str(image_folder), out=stored))
    shared = {"method": "pca", "workers": 0, "limit": 6}
    direct = EmbedConfig(**{**NETWORK, **shared}, data=str(image_folder), out=tmp_path / "direct")
    read = EmbedConfig(**shared, features=stored, out=tmp_path / "read")
    notes = run(direct).notes
    assert run(read).notes[0] == notes[0] == "6 of 12 images, evenly over the classes; --limit takes more or fewer."
    assert sorted(row["class"] for row in table(read.out)) == ["blue"] * 2 + ["green"] * 2 + ["red"] * 2
    for one, other in zip(table(direct.out), table(read.out), strict=True):
        assert (one["name"], one["class"]) == (other["name"], other["class"])
        np.testing.assert_allclose(*(np.float64([row["x"], row["y"]]) for row in (one, other)), atol=1e-4)
    assert data_of(direct.out)["sheets"] == data_of(read.out)["sheets"]


def test_images_that_have_moved_leave_points_without_thumbnails(image_folder, tmp_path):
    images = shutil.copytree(image_folder, tmp_path / "images")
    features_command.run(FeaturesConfig(**NETWORK, data=str(images), out=tmp_path / "features"))
    (images / "val" / "red" / "2.png").unlink()
    result = run(EmbedConfig(features=tmp_path / "features", method="pca", workers=0, out=tmp_path / "out"))
    assert any("1 of 12 points have no thumbnail" in note for note in result.notes)
    found = data_of(tmp_path / "out")
    assert [name for name, at in zip(found["names"], found["thumbnails"], strict=True) if at < 0] == ["red/2.png"]


def test_images_without_classes_are_drawn_too(image_folder, tmp_path):
    config = EmbedConfig(**NETWORK, val=str(image_folder / "val" / "red"), method="pca", out=tmp_path / "out")
    assert run(config).metrics["classes"] == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"limit": 0}, "--limit: is 0"),
        ({"limit": 10**6}, "--limit: is 1000000"),
        ({"limit": 2}, "2 images make no picture"),
        ({"perplexity": 12}, "--perplexity: is 12, and there are 12 points"),
        ({"data": None}, "no images"),
        ({"data": "photos"}, "has no val images"),
        ({"ckpt": None}, "--ckpt"),
        ({"features": "somewhere"}, "--ckpt: was given beside --features"),
    ],
)
def test_what_makes_no_picture_is_refused_before_anything_is_written(changes, words, image_folder, tmp_path):
    given = {**NETWORK, "data": str(image_folder), "out": tmp_path / "out", **changes}
    with pytest.raises(DinotoolsError) as error:
        run(EmbedConfig(**given))
    assert words in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_collapsed_network_is_named(tmp_path):
    with pytest.raises(RunFailed, match="collapsed"):
        project(np.ones((20, 4), np.float32), EmbedConfig(out=tmp_path))
