import re
from pathlib import Path

import pytest
from PIL import Image

from dinotools.data.copydays import open_copydays
from dinotools.runtime.errors import DinotoolsError


def make(root: Path, files: dict[str, list[str]]) -> Path:
    """Empty files are enough: nothing is decoded."""
    for folder, names in files.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            (root / folder / name).touch()
    return root


def small() -> dict[str, list[str]]:
    originals = ["200100.jpg", "200000.jpg", "200200.png"]
    return {
        "original": originals,
        "strong": ["200201.jpg", "200001.JPG", "200002.jpg"],
        "crops/80": originals[:2],
        "crops/10": originals,
        "jpegqual/10": originals,
        "jpegqual/3": originals[1:],
    }


def names(images) -> list[str]:
    return [Path(path).name for path in images.paths]


def test_blocks_stand_in_the_official_order_and_files_are_sorted(tmp_path):
    data = open_copydays(make(tmp_path, small()))
    assert names(data.originals) == ["200000.jpg", "200100.jpg", "200200.png"]
    assert [block.name for block in data.blocks] == [
        "original",
        "strong",
        "jpegqual/3",
        "jpegqual/10",
        "crops/10",
        "crops/80",
    ]
    assert [len(block.images) for block in data.blocks] == [3, 3, 2, 3, 3, 2]
    assert names(data.blocks[1].images) == ["200001.JPG", "200002.jpg", "200201.jpg"]
    assert data.originals.paths[0] == str(tmp_path / "original" / "200000.jpg")


def test_a_query_belongs_to_the_original_with_its_prefix(tmp_path):
    data = open_copydays(make(tmp_path, small()))
    positives = {block.name: block.positives for block in data.blocks}
    assert positives["original"] == ((0,), (1,), (2,))
    assert positives["strong"] == ((0,), (0,), (2,))
    assert positives["jpegqual/3"] == ((0,), (2,))  # a missing image moves none of the others


def test_the_official_set_is_that_of_the_official_script(tmp_path):
    copies = [1 + (i % 3 == 0) + (i % 8 == 1) for i in range(157)]
    originals = [f"{2000 + i}00.jpg" for i in range(157)]
    files = {
        "original": originals,
        "strong": [f"{2000 + i}{k:02d}.jpg" for i, n in enumerate(copies) for k in range(1, n + 1)],
    }
    for series, numbers in (("jpegqual", (3, 5, 8, 10, 15, 20, 30, 50, 75)), ("crops", (*range(10, 90, 10), 15))):
        files |= {f"{series}/{number}": originals for number in numbers}
    data = open_copydays(make(tmp_path, files))
    assert data.blocks[1].positives == tuple((i,) for i, n in enumerate(copies) for _ in range(n))
    assert all(b.positives == tuple((i,) for i in range(157)) for b in data.blocks if b.name != "strong")
    assert [b.name for b in data.blocks[2:]] == [
        *(f"jpegqual/{quality}" for quality in (3, 5, 8, 10, 15, 20, 30, 50, 75)),
        *(f"crops/{percent}" for percent in (10, 15, 20, 30, 40, 50, 60, 70, 80)),
    ]


def test_only_original_and_strong_are_needed_and_nothing_else_is_read(tmp_path):
    files = {name: small()[name] for name in ("original", "strong")}
    files["original"] += ["._200000.jpg", "Thumbs.db", "README.txt"]
    files |= {"other": ["9.jpg"], "jpegqual/notes": ["1.jpg"], "crops": ["2.jpg"], "original/deeper": ["3.jpg"]}
    data = open_copydays(make(tmp_path, files))
    assert [block.name for block in data.blocks] == ["original", "strong"]
    assert len(data.originals) == 3


def test_images_are_decoded_when_asked_for(tmp_path):
    data = open_copydays(make(tmp_path, small()))
    Image.new("L", (5, 4)).save(tmp_path / "strong" / "200002.jpg")
    assert data.blocks[1].images.load(1).size == (5, 4)


@pytest.mark.parametrize("missing", ["original", "strong"])
def test_a_folder_without_what_is_needed_says_what_is_there(tmp_path, missing):
    files = small()
    del files[missing]
    with pytest.raises(DinotoolsError, match=rf"holds no folder {missing}; it holds crops/, jpegqual/, ") as caught:
        open_copydays(make(tmp_path, files))
    assert caught.value.where == tmp_path
    assert caught.value.remedy


@pytest.mark.parametrize("given", [".", "images/original", "images/jpegqual"])
def test_the_right_folder_near_the_one_given_is_named(tmp_path, given):
    make(tmp_path / "images", small())
    with pytest.raises(DinotoolsError, match=re.escape(f"Give {tmp_path / 'images'}.")):
        open_copydays(tmp_path / given)


def test_loose_images_of_the_tarball_are_to_be_moved(tmp_path):
    make(tmp_path, {".": ["200000.jpg"], "strong": ["200001.jpg"]})
    with pytest.raises(DinotoolsError, match=r"Move the images of copydays_original\.tar\.gz into .*original"):
        open_copydays(tmp_path)


def test_an_interrupted_making_is_recognised(tmp_path):
    make(tmp_path, {".": ["config.toml"], "strong": ["200001.jpg"], ".original": ["200000.jpg"]})
    with pytest.raises(DinotoolsError, match=r"copydays-make.* was interrupted"):
        open_copydays(tmp_path)


@pytest.mark.parametrize(
    "path, fault", [("nothing", "no such folder"), ("file", "it is a file"), ("empty", "it is empty")]
)
def test_what_is_no_folder_of_anything_is_refused(tmp_path, path, fault):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DinotoolsError, match=fault):
        open_copydays(tmp_path / path)


@pytest.mark.parametrize("folder", ["original", "strong", "jpegqual/3"])
def test_an_empty_folder_is_named(tmp_path, folder):
    files = small() | {folder: ["notes.txt"]}
    with pytest.raises(DinotoolsError, match="holds no images") as caught:
        open_copydays(make(tmp_path, files))
    assert caught.value.where == tmp_path / folder


@pytest.mark.parametrize("folder", ["strong", "crops/10"])
def test_copies_of_no_original_are_counted_and_some_are_named(tmp_path, folder):
    files = small()
    files[folder] = ["200001.jpg", *(f"77{i}001.jpg" for i in range(10, 15))]
    with pytest.raises(
        DinotoolsError, match=r"5 of 6 images .* 7710001\.jpg, 7711001\.jpg, 7712001\.jpg and 2 more"
    ) as caught:
        open_copydays(make(tmp_path, files))
    assert caught.value.where == tmp_path / folder
    assert "2000" in caught.value.remedy


@pytest.mark.parametrize("folder", ["original", "strong"])
def test_names_too_short_for_a_prefix_are_refused(tmp_path, folder):
    files = small()
    files[folder].append("12.jpg")  # officially its prefix is `12.j`
    with pytest.raises(DinotoolsError, match=r"shorter than the four characters .*: 12\. "):
        open_copydays(make(tmp_path, files))


def test_originals_that_share_a_prefix_are_refused(tmp_path):
    files = {"original": ["IMG_0001.jpg", "IMG_0002.jpg", "200000.jpg"], "strong": ["IMG_0001.jpg"]}
    with pytest.raises(DinotoolsError, match=r"same four characters: IMG_\. "):
        open_copydays(make(tmp_path, files))
