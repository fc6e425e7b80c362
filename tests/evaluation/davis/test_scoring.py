"""Folders of masks against folders of annotations: the official numbers, and bad input."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from dinotools.configs.video import DavisScoreConfig
from dinotools.evaluation.davis.scoring import find_masks, run, score_masks, score_sequence
from dinotools.runtime.errors import DinotoolsError
from tests.golden.official import HERE, arrays

OFFICIAL = json.loads((HERE / "davis_metrics.json").read_text())
FRAMES = 6
OBJECTS = {"boat": 2, "otter": 1}


def write(folder, masks):
    folder.mkdir(parents=True)
    for frame, mask in enumerate(masks):
        image = Image.fromarray(mask)
        image.putpalette(bytes(range(256)) * 3)
        image.save(folder / f"{frame:05d}.png", compress_level=1)


def write_split(data, *names):
    (data / "ImageSets" / "2017").mkdir(parents=True, exist_ok=True)
    (data / "ImageSets" / "2017" / "val.txt").write_text("".join(f"{name}\n" for name in names))


@pytest.fixture
def data(tmp_path):
    """A data set of two sequences of 40 x 60 pixels, and predictions in masks/ that equal the annotations."""
    root = tmp_path / "davis"
    for name, n in OBJECTS.items():
        masks = np.zeros((FRAMES, 40, 60), np.uint8)
        for frame, mask in enumerate(masks):
            for i in range(n):
                mask[4 + 16 * i : 16 + 16 * i, 5 + frame : 25 + 4 * frame] = i + 1
        write(root / "Annotations" / "480p" / name, masks)
    write_split(root, *OBJECTS)
    shutil.copytree(root / "Annotations" / "480p", tmp_path / "masks")
    return root


@pytest.fixture
def masks(data):
    return data.parent / "masks"


def change(path, function):
    """Replaces a mask by a function of it."""
    mask = function(np.asarray(Image.open(path)).copy())
    Image.fromarray(mask).save(path)


def score(masks, data):
    return run(DavisScoreConfig(predictions=masks, data=data)).metrics


def test_the_official_numbers_from_files(tmp_path):
    for sequence in OFFICIAL["sequences"]:
        folders = tmp_path / "Annotations" / "480p" / sequence, tmp_path / "masks" / sequence
        for folder, name in zip(folders, ("ground_truth", "prediction"), strict=True):
            write(folder, arrays("davis_metrics")[f"masks/{sequence}/{name}"])
    write_split(tmp_path, *OFFICIAL["sequences"])
    result = run(DavisScoreConfig(predictions=tmp_path / "masks", data=tmp_path))

    def percent(values):
        return pytest.approx({name: 100 * value for name, value in values.items()}, abs=1e-10)

    assert result.metrics["global"] == percent(OFFICIAL["global"])
    of_objects = {
        f"{sequence}_{number}": {name: of_object[name] for name in OFFICIAL["per_object"]["blackswan_1"]}
        for sequence, of in result.metrics["sequences"].items()
        for number, of_object in of["objects"].items()
    }
    assert list(of_objects) == list(OFFICIAL["per_object"])
    for name, expected in OFFICIAL["per_object"].items():
        assert of_objects[name] == percent(expected)
    fish = [100 * of["J-Mean"] for name, of in OFFICIAL["per_object"].items() if name.startswith("gold-fish")]
    assert result.metrics["sequences"]["gold-fish"]["J-Mean"] == pytest.approx(np.mean(fish))
    assert [row["sequence"] for row in result.rows] == ["all objects", *OFFICIAL["sequences"]]
    assert result.rows[0]["J&F Mean"] == pytest.approx(61.0731753)
    scored = sum(of["n_frames"] - 2 for of in OFFICIAL["sequences"].values())
    assert result.details["data"] == {"sequences": 6, "objects": 16, "frames": scored}


def test_annotations_score_full_marks_against_themselves(masks, data):
    metrics = score(masks, data)
    of_each = {"Mean": 100, "Recall": 100, "Decay": 0}
    perfect = {f"{letter}-{name}": value for letter in "JF" for name, value in of_each.items()}
    assert metrics["global"] == {"J&F-Mean": 100, **perfect}
    assert {name: list(of["objects"]) for name, of in metrics["sequences"].items()} == {
        "boat": ["1", "2"],
        "otter": ["1"],
    }


def test_every_frame_but_the_first_and_the_last_is_looked_at(masks, data):
    for frame in range(FRAMES):
        shutil.rmtree(masks)
        shutil.copytree(data / "Annotations" / "480p", masks)
        change(masks / "otter" / f"{frame:05d}.png", np.zeros_like)
        expected = 100 if frame in (0, FRAMES - 1) else 75
        assert score(masks, data)["sequences"]["otter"]["J-Mean"] == expected
    for sequence in OBJECTS:
        (data / "Annotations" / "480p" / sequence / "._00001.png").write_text("left by another system")
        (masks / sequence / "00000.png").unlink()
        (masks / sequence / f"{FRAMES - 1:05d}.png").write_text("not read")
    assert score(masks, data)["sequences"]["boat"]["J-Mean"] == 100


def test_objects_are_those_of_the_first_annotation(masks, data):
    annotations = data / "Annotations" / "480p" / "boat"
    change(annotations / "00000.png", lambda mask: np.where(mask == 2, 255, mask).astype(np.uint8))
    for folder in (annotations, masks / "boat"):  # the other object and void are background further on
        for frame in range(1, FRAMES - 1):
            change(folder / f"{frame:05d}.png", lambda mask: np.where(mask == 1, mask, 0).astype(np.uint8))
    change(annotations / "00002.png", lambda mask: np.where(mask == 0, 255, mask).astype(np.uint8))
    change(annotations / "00003.png", lambda mask: np.where(mask == 0, 2, mask).astype(np.uint8))
    found = score_masks(find_masks(masks, data, "val"))
    np.testing.assert_array_equal(found["boat"], np.ones((1, 2, FRAMES - 2)))


def test_an_object_that_all_masks_lack_is_empty(masks, data):
    for path in (masks / "boat").iterdir():
        change(path, lambda mask: np.where(mask == 2, 0, mask).astype(np.uint8))
    found = score_sequence(find_masks(masks, data, "val")["boat"])
    np.testing.assert_array_equal(found, [np.ones((2, FRAMES - 2)), np.zeros((2, FRAMES - 2))])


def test_a_split_is_scored_in_its_order_and_alone(masks, data):
    write_split(data, "otter")
    shutil.rmtree(masks / "boat")
    assert list(score(masks, data)["sequences"]) == ["otter"]
    (data / "ImageSets" / "2017" / "val.txt").rename(data / "ImageSets" / "2017" / "train.txt")
    result = run(DavisScoreConfig(predictions=masks, data=data, split="train"))
    assert "train" in result.title


def test_out_holds_the_options_and_is_no_folder_that_is_read(masks, data, tmp_path):
    run(DavisScoreConfig(predictions=masks, data=data, out=tmp_path / "out"))
    assert "split" in (tmp_path / "out" / "config.toml").read_text()
    with pytest.raises(DinotoolsError, match="not empty"):
        run(DavisScoreConfig(predictions=masks, data=data, out=masks))
    with pytest.raises(DinotoolsError):
        run(DavisScoreConfig(predictions=masks, data=data, out=masks, overwrite=True))
    assert len(list(masks.rglob("*.png"))) == 2 * FRAMES


# -- bad input


def refused(masks, data, *words):
    with pytest.raises(DinotoolsError) as caught:
        score(masks, data)
    for word in words:
        assert word in str(caught.value)


def test_all_missing_masks_are_named_at_once(masks, data):
    shutil.rmtree(masks / "otter")
    (masks / "boat" / "00002.png").unlink()
    refused(masks, data, str(masks), "5 of 8 masks", "boat (00002.png)", "otter (all)")
    for frame in (1, 4):
        (masks / "boat" / f"{frame:05d}.png").unlink()
    shutil.copytree(data / "Annotations" / "480p" / "otter", masks / "otter")
    refused(masks, data, "3 of 8 masks", "boat (00001.png, 00002.png, 00004.png)")
    refused(masks / "nowhere", data, "no such folder")


def test_missing_annotations_are_named_at_once(masks, data):
    write_split(data, "boat", "heron", "otter", "seal")
    refused(masks, data, "2 of 4 sequences: heron, seal")
    write_split(data, *OBJECTS)
    for path in sorted((data / "Annotations" / "480p" / "otter").iterdir())[2:]:
        path.unlink()
    refused(masks, data, "fewer than 3 annotations: otter (2)")


@pytest.mark.parametrize(
    ("content", "word"), [(b"", "lists no sequence"), (b"boat\nboat\n", "boat"), (b"../a", "../a")]
)
def test_a_list_that_is_none(masks, data, content, word):
    (data / "ImageSets" / "2017" / "val.txt").write_bytes(content)
    refused(masks, data, "val.txt", word)


def test_the_splits_there_are_named(masks, data):
    with pytest.raises(DinotoolsError, match=r"test-dev.txt.*Splits there: val"):
        run(DavisScoreConfig(predictions=masks, data=data, split="test-dev"))
    refused(masks, data / "ImageSets", "A DAVIS folder holds")


def test_an_object_that_there_cannot_be(masks, data):
    change(masks / "otter" / "00003.png", lambda mask: np.where(mask == 0, 7, 2 * mask).astype(np.uint8))
    refused(masks, data, "otter/00003.png", "object 2, 7", "go up to 1")


def test_a_mask_of_another_size(masks, data):
    change(masks / "otter" / "00003.png", lambda mask: mask[:, :-1])
    refused(masks, data, "otter/00003.png", "59 x 40", "60 x 40")


def test_a_picture_is_no_mask(masks, data):
    path = masks / "otter" / "00003.png"
    Image.open(path).convert("RGB").save(path)
    refused(masks, data, "otter/00003.png", "RGB")


@pytest.mark.parametrize("keep", [0, 60])
def test_a_damaged_file(masks, data, keep):
    path = masks / "otter" / "00003.png"
    path.write_bytes(path.read_bytes()[:keep])
    refused(masks, data, "otter/00003.png")


def test_a_first_annotation_without_objects(masks, data):
    change(
        data / "Annotations" / "480p" / "otter" / "00000.png", lambda mask: np.where(mask, 255, mask).astype(np.uint8)
    )
    refused(masks, data, "otter/00000.png", "no object")
