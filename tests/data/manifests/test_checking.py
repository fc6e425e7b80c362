"""What `dinotools data check` says of folders that are whole, and of those that are not."""

import errno
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from dinotools import cli
from dinotools.configs.data_sets import DataCheckConfig
from dinotools.data.manifests import checking, looking
from dinotools.data.manifests.manifest import Expected, Split, read
from dinotools.options import run_app
from dinotools.runtime.errors import DinotoolsError


def picture(kind="JPEG", size=(64, 48)):
    content = io.BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(content, kind)
    return content.getvalue()


JPEG, PNG = picture(), picture("PNG")


def put(path, content=JPEG):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def small(monkeypatch):
    """Lets a manifest expect other counts: those of the splits, and of the parts in their order."""

    def expect(name, counts, splits=()):
        known = read(name)
        parts = tuple(replace(part, count=count) for part, count in zip(known.expect, counts, strict=True))
        known = replace(known, expect=parts, splits=tuple(splits))
        monkeypatch.setattr(checking, "read", lambda name: known)

    return expect


def check(name, folder, **more):
    return checking.run(DataCheckConfig(name=name, folder=folder, **more))


def classes(folder, train=(2, 2), val=(1, 1)):
    for split, numbers in (("train", train), ("val", val)):
        for label, number in enumerate(numbers):
            (folder / split / f"c{label}").mkdir(parents=True)
            for i in range(number):
                put(folder / split / f"c{label}" / f"{i}.png", PNG)


SPLITS = (Split(name="train", images=4, classes=2), Split(name="val", images=2, classes=2))


def test_a_whole_set_is_fine(tmp_path, small):
    classes(tmp_path)
    small("cifar10", (4, 2), SPLITS)
    result = check("cifar10", tmp_path)
    assert result.failure is None
    assert result.metrics == {"fine": True, "missing": 0, "superfluous": 0, "unreadable": 0, "classes": 0}
    assert [(row["part"], row["files"], row["expected"]) for row in result.rows] == [
        ("train/*/*.png", 4, 4),
        ("val/*/*.png", 2, 2),
        ("classes of train/", 2, 2),
        ("classes of val/", 2, 2),
    ]


def test_missing_superfluous_and_empty(tmp_path, small):
    classes(tmp_path, train=(2, 0), val=(1, 1, 1))
    small("cifar10", (4, 2), SPLITS)
    result = check("cifar10", tmp_path)
    assert not result.metrics["fine"]
    assert set(result.notes) == {
        "2 missing in train/*/*.png",
        "1 superfluous in val/*/*.png",
        "1 missing in classes of train/, which are empty: c1",
        "1 superfluous in classes of val/",
        "2 superfluous in classes of val/, which have no training images: c1, c2",
    }


def test_unreadable_files_are_named_with_the_reason(tmp_path, small):
    small("copydays", (6, 1, 1, 1))
    put(tmp_path / "original" / "200000.jpg")
    put(tmp_path / "original" / "200100.jpg", b"")
    put(tmp_path / "original" / "200200.jpg", b"<html>not found</html>")
    put(tmp_path / "original" / "200300.jpg", JPEG[:-40])
    put(tmp_path / "original" / "200400.jpg", JPEG + b"\0" * 9)  # a picture, with something after its end
    put(tmp_path / "original" / "200500.jpg", PNG)  # another format under this name is read as well
    for name in ("strong/200001.jpg", "crops/10/200000.jpg", "jpegqual/3/200000.jpg"):
        put(tmp_path / name)
    result = check("copydays", tmp_path)
    (finding,) = result.details["findings"]
    assert finding["count"] == 3
    empty, other, cut = finding["names"]
    assert empty == "original/200100.jpg (the file is empty)"
    assert other == "original/200200.jpg (not an image of a known format)"
    assert cut.startswith("original/200300.jpg (image file is truncated")
    assert result.rows[0]["unreadable"] == 3


@pytest.mark.parametrize("workers", [0, 1])
def test_damage_in_the_middle_shows_when_decoded(tmp_path, small, workers):
    small("copydays", (1, 1, 1, 1))
    damaged = PNG[: len(PNG) // 2] + b"\0" * 200 + PNG[len(PNG) // 2 + 200 :]
    for name in ("original/200000.jpg", "crops/10/200000.jpg", "jpegqual/3/200000.jpg"):
        put(tmp_path / name)
    put(tmp_path / "strong" / "200001.jpg", damaged)
    assert check("copydays", tmp_path).metrics["fine"]
    result = check("copydays", tmp_path, decode=True, workers=workers)
    assert result.metrics["unreadable"] == 1
    assert result.details["findings"][0]["names"][0].startswith("strong/200001.jpg (")


def test_photos_that_the_ground_truth_names(tmp_path, small):
    one = {"bbx": [0, 0, 4, 4], "easy": [0], "hard": [], "junk": []}
    truth = {"imlist": [f"a{i}" for i in range(8)], "qimlist": ["q"], "gnd": [one]}
    (tmp_path / "gnd_roxford5k.json").write_text(json.dumps(truth))
    small("roxford5k", (1, None), (Split(name="database", images=8), Split(name="queries", images=1)))
    put(tmp_path / "jpg" / "a0.jpg")
    put(tmp_path / "jpg" / "q.jpg")
    put(tmp_path / "jpg" / "of_no_list.jpg")
    result = check("roxford5k", tmp_path)
    assert result.notes[0] == "7 missing in jpg/*.jpg: jpg/a1, jpg/a2, jpg/a3, jpg/a4, jpg/a5 and 2 more"
    for i in range(1, 8):
        put(tmp_path / "jpg" / f"a{i}.jpg")
    assert check("roxford5k", tmp_path).failure is None
    small("roxford5k", (1, None), read("roxford5k").splits)
    assert check("roxford5k", tmp_path).notes[0] == "5,054 missing in what the ground truth names"


def write_davis(folder):
    put(folder / "ImageSets" / "2017" / "val.txt", b"cat\ndog\n")
    for name in ("cat", "dog"):
        put(folder / "JPEGImages" / "480p" / name / "00000.jpg")
        put(folder / "Annotations" / "480p" / name / "00000.png", PNG)


def test_frames_without_masks_and_sequences_without_frames(tmp_path, small):
    small("davis2017", (1, 2, 2))
    write_davis(tmp_path)
    assert check("davis2017", tmp_path).failure is None
    (tmp_path / "Annotations" / "480p" / "cat" / "00000.png").unlink()
    put(tmp_path / "ImageSets" / "2017" / "val.txt", b"cat\ndog\nowl\n")
    small("davis2017", (1, 7, 3))
    assert check("davis2017", tmp_path).notes == (
        "5 missing in JPEGImages/480p/*/*.jpg: JPEGImages/480p/owl/00000 and 4 more",
        "2 missing in Annotations/480p/*/*.png: Annotations/480p/cat/00000, Annotations/480p/owl/00000",
    )


def test_masks_that_voc_lists(tmp_path, small):
    small("voc2012", (1, 2, 2, 2))
    put(tmp_path / "ImageSets" / "Segmentation" / "val.txt", b"a\nb\n")
    for name in ("a", "b"):
        put(tmp_path / "JPEGImages" / f"{name}.jpg")
        put(tmp_path / "SegmentationClass" / f"{name}.png", PNG)
    put(tmp_path / "SegmentationObject" / "a.png", PNG)
    assert check("voc2012", tmp_path).notes == ("1 missing in SegmentationObject/*.png: SegmentationObject/b",)
    put(tmp_path / "SegmentationObject" / "c.png", PNG)  # as many as expected, and not those
    assert check("voc2012", tmp_path).notes == (
        "1 missing in SegmentationObject/*.png: SegmentationObject/b",
        "1 superfluous in SegmentationObject/*.png",
    )


def test_landmarks_that_the_list_of_the_clean_part_names(tmp_path, small):
    small("gldv2", (2, 1))
    put(tmp_path / "clean.txt", b"train/0/1/2/012a.jpg\t7\ntrain/0/1/3/013a.jpg\t8\n")
    put(tmp_path / "train" / "0" / "1" / "2" / "012a.jpg")
    assert check("gldv2", tmp_path).notes == ("1 missing in train/?/?/?/*.jpg: train/0/1/3/013a",)


def test_distractors_are_as_many_as_their_list_names(tmp_path):
    put(tmp_path / "revisitop1m.txt", b"1.jpg\n2.jpg\n3.jpg\n")
    put(tmp_path / "jpg" / "a" / "1.jpg")
    put(tmp_path / "jpg" / "2.jpg")
    assert check("r1m", tmp_path).metrics["missing"] == 1
    put(tmp_path / "jpg" / "b" / "3.jpg")
    assert check("r1m", tmp_path).failure is None


def test_an_unpacked_set_that_is_not_prepared_is_sent_there(tmp_path):
    write_davis(tmp_path / "DAVIS")
    failure = check("davis2017", tmp_path).failure
    assert f"`dinotools data prepare davis2017 {tmp_path}`" in failure


def test_an_empty_folder_is_sent_to_fetch_or_to_the_manifest(tmp_path):
    assert f"`dinotools data fetch davis2017 --to {tmp_path}`" in check("davis2017", tmp_path).failure
    assert "`dinotools data info imagenet`" in check("imagenet", tmp_path).failure


def test_the_remedy_is_for_what_is_wrong(tmp_path, small):
    classes(tmp_path, train=(2, 3))
    put(tmp_path / "val" / "c0" / "0.png", b"")
    small("cifar10", (4, 2), SPLITS)
    assert check("cifar10", tmp_path).failure.endswith("Move away what is superfluous. Replace what is unreadable.")


def test_a_list_beside_it_is_nothing_to_prepare(tmp_path):
    put(tmp_path / "ImageSets" / "Segmentation" / "val.txt", b"1")
    for part in ("JPEGImages/1.jpg", "SegmentationClass/1.png", "sources.tsv"):
        put(tmp_path / part)
    assert "`dinotools data fetch voc2012" in check("voc2012", tmp_path).failure
    put(tmp_path / "VOCdevkit" / "VOC2012" / "SegmentationObject" / "1.png")
    assert check("voc2012", tmp_path).failure.endswith("puts what lies there into its place.")


def test_a_folder_that_cannot_be_read_is_named(tmp_path, small, monkeypatch):
    classes(tmp_path)
    small("cifar10", (4, 2), SPLITS)
    shut, listing = tmp_path / "train" / "c1", Path.iterdir

    def iterdir(path):
        if path == shut:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(DinotoolsError, match=r"c1: cannot be looked into \(Permission denied\)\. Make it readable"):
        check("cifar10", tmp_path)


def test_what_no_command_reads_is_told_and_no_fault(tmp_path, small):
    classes(tmp_path)
    put(tmp_path / "notes.txt", b"mine")
    (tmp_path / ".dinotools").mkdir()
    small("cifar10", (4, 2), SPLITS)
    result = check("cifar10", tmp_path)
    assert result.failure is None
    assert result.notes == ("Also there, and read by no command: notes.txt",)


def test_the_command_shows_its_table_and_ends_with_1(tmp_path, small, capsys):
    classes(tmp_path, train=(2, 1))
    small("cifar10", (4, 2), SPLITS)
    arguments = ["data", "check", "cifar10", str(tmp_path)]
    shown = CliRunner().invoke(cli.app, [*arguments, "--json"])
    assert json.loads(shown.stdout)["metrics"]["missing"] == 1
    assert run_app(lambda: cli.app(args=arguments), debug=False) == 1
    captured = capsys.readouterr()
    assert "1 missing in train/*/*.png" in captured.out
    assert "1 missing in train/*/*.png" in " ".join(captured.err.split())
    put(tmp_path / "train" / "c1" / "1.png", PNG)
    assert run_app(lambda: cli.app(args=arguments), debug=False) == 0


def test_there_must_be_a_folder(tmp_path):
    with pytest.raises(DinotoolsError, match="there is no such folder"):
        check("voc2012", tmp_path / "voc2012")


def test_looking_settles_doubts_by_decoding(tmp_path):
    """Whatever it calls unreadable is so when decoded, for every length of a picture."""
    path = tmp_path / "a.jpg"
    for end in range(0, len(JPEG), 97):
        put(path, JPEG[:end])
        assert looking.look(str(path))
        assert looking.look_closely(str(path))
    put(path)
    assert looking.look(str(path)) == looking.look_closely(str(path)) == ""


def test_a_part_without_a_count_must_not_be_empty():
    part = Expected(path="jpg/**/*.jpg")
    assert checking._compare(part, 0, [])[0].kind == "missing"
    assert not checking._compare(part, 1, [])
