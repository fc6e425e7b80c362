import json
from pathlib import Path

import pytest
from PIL import Image

from dinotools.data.sources import open_images, open_labelled_splits
from dinotools.runtime.errors import DinotoolsError


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DINOTOOLS_CACHE", str(tmp_path))
    return tmp_path / "datasets" / "inaturalist2019"


def annotate(folder: Path, split: str, images: dict[str, int]) -> None:
    """Writes images of one colour each, and the list of them in the form of the competition."""
    for name in images:
        path = folder / "train_val2019" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (images[name], 0, 0)).save(path)
    document = {
        "images": [{"id": 100 + i, "file_name": f"train_val2019/{name}"} for i, name in enumerate(images)],
        "annotations": [{"id": i, "image_id": 100 + i, "category_id": c} for i, c in enumerate(images.values())][::-1],
    }
    (folder / f"{split}2019.json").write_text(json.dumps(document))


def test_splits_are_those_of_the_official_lists(folder):
    annotate(folder, "train", {"Birds/17/a.png": 17, "Birds/9/b.png": 9, "Plants/200/c.png": 200})
    annotate(folder, "val", {"Plants/200/d.png": 200, "Birds/9/e.png": 9})
    train, val = open_labelled_splits("inaturalist2019")
    assert train.classes == ["9", "17", "200"]
    assert (train.labels, val.labels) == ([1, 0, 2], [2, 0])
    assert [train.load(i).getpixel((0, 0))[0] for i in range(3)] == [17, 9, 200]
    assert Path(val.name(0)) == folder / "train_val2019/Plants/200/d.png"


@pytest.mark.parametrize("split", ["train", "val"])
def test_what_is_missing_is_named(folder, split):
    with pytest.raises(DinotoolsError) as error:
        open_images("inaturalist2019", split)
    assert error.value.where == folder
    assert f"{split}2019.json" in str(error.value)
    assert "train_val2019/" in error.value.remedy


@pytest.mark.parametrize("text", ["{", "[]", '{"images": []}', '{"images": [{"id": 1}], "annotations": []}'])
def test_a_damaged_list_is_named(folder, text):
    folder.mkdir(parents=True)
    (folder / "train2019.json").write_text(text)
    with pytest.raises(DinotoolsError, match=r"train2019\.json: is no list"):
        open_images("inaturalist2019", "train")


def test_a_near_name_is_suggested():
    with pytest.raises(DinotoolsError, match="Did you mean inaturalist2018"):
        open_images("inaturalist218", "train")
