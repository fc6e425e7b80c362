import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dinotools.configs.copydays import CopydaysMakeConfig
from dinotools.data import copydays_making
from dinotools.data.attacks import KINDS
from dinotools.data.copydays import open_copydays
from dinotools.data.copydays_making import run
from dinotools.data.images import decode
from dinotools.runtime.errors import DinotoolsError

PLACES = ("a/0.png", "a/1.jpg", "b/2.png", "b/3.png", "b/4.jpg", "b/5.jpg")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six pictures in two folders, the third grey, the fifth rotated by its EXIF tag; one will be a page."""
    random = np.random.RandomState(0)
    for i, place in enumerate(PLACES):
        path = tmp_path / "photos" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.randint(0, 256, (5, 6, 3)).astype(np.uint8)
        image = Image.fromarray(pixels).resize((64 + 8 * i, 48), Image.Resampling.BICUBIC)
        exif = Image.Exif()
        exif[0x0112] = 6 if i == 4 else 1
        (image.convert("L") if i == 2 else image).save(path, exif=exif)
    return tmp_path / "photos"


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.jp*g")}


def made(photos: Path, **options) -> Path:
    out = photos.parent / f"out-{len(list(photos.parent.iterdir()))}"
    run(CopydaysMakeConfig(images=photos, out=out, **options))
    return out


def test_the_set_is_opened_by_its_reader(photos):
    out = photos.parent / "out"
    result = run(CopydaysMakeConfig(images=photos, out=out, strong=3))
    data = open_copydays(out)
    counts = {block.name: len(block.images) for block in data.blocks}
    assert counts == result.metrics["images"] == {row["block"]: row["images"] for row in result.rows}
    assert list(counts)[:3] == ["original", "strong", "jpegqual/3"]
    assert (len(counts), counts["original"], counts["strong"], counts["crops/80"]) == (20, 5, 15, 5)
    assert [Path(path).name for path in data.originals.paths] == [f"200{i}00.jpg" for i in range(5)]
    assert [Path(path).name for path in data.blocks[1].images.paths][:4] == [
        "200001.jpg",
        "200002.jpg",
        "200003.jpg",
        "200101.jpg",
    ]
    assert data.blocks[1].positives == tuple((i,) for i in range(5) for _ in range(3))
    assert all(block.positives == tuple((i,) for i in range(5)) for block in data.blocks if block.name != "strong")
    assert str(out) in result.notes[0]


def test_every_file_is_what_its_folder_says(photos):
    out = made(photos)
    data = open_copydays(out)
    blocks = {block.name: block.images for block in data.blocks}
    for i, source in enumerate(json.loads((out / "attacks.json").read_text())["original"].values()):
        original = data.originals.load(i)
        upright = decode(source)
        assert original.size == upright.size
        assert np.abs(np.asarray(original, float) - np.asarray(upright, float)).mean() < 3
        width, height = original.size
        assert blocks["jpegqual/3"].load(i).size == (round(width / 4), round(height / 4))
        small = blocks["crops/80"].load(i)
        assert small.width * small.height == pytest.approx(0.2 * width * height, rel=0.06)
    sizes = [Path(blocks[f"jpegqual/{quality}"].paths[0]).stat().st_size for quality in (3, 20, 75)]
    assert sizes[0] < sizes[1] < sizes[2]


def test_attacks_json_says_what_was_done_to_what(photos):
    out = made(photos, strong=4)
    told = json.loads((out / "attacks.json").read_text())
    assert list(told["original"]) == [f"200{i}00.jpg" for i in range(5)]
    places = [Path(path).relative_to(photos).as_posix() for path in told["original"].values()]
    assert len(set(places)) == 5
    assert places == [place for place in PLACES if place in places]  # in the order of the folder
    assert list(told["strong"]) == [f"200{i}{k:02d}.jpg" for i in range(5) for k in range(1, 5)]
    kinds = ["mixture" if "+" in attack else attack for attack in told["strong"].values()]
    assert kinds == [KINDS[turn % len(KINDS)] for turn in range(20)]
    mirrored = np.asarray(Image.open(out / "strong" / "200001.jpg"), float)
    assert told["strong"]["200001.jpg"] == "mirror"
    assert np.abs(mirrored[:, ::-1] - np.asarray(Image.open(out / "original" / "200000.jpg"), float)).mean() < 3


def test_the_page_that_a_copy_is_pasted_into_is_no_original(photos):
    for i, place in enumerate(PLACES):  # every picture in a grey of its own
        Image.new("RGB", (64, 48), (40 * i,) * 3).save(photos / place)
    out = made(photos, strong=2)
    told = json.loads((out / "attacks.json").read_text())
    (page,) = {str(photos / place) for place in PLACES} - set(told["original"].values())
    assert told["strong"]["200002.jpg"] == "insertion"
    seen = set(decode(out / "strong" / "200002.jpg").convert("L").tobytes())
    pasted = decode(out / "original" / "200000.jpg").getpixel((0, 0))[0]
    background = decode(page).getpixel((0, 0))[0]
    assert {grey for grey in range(0, 240, 40) if any(abs(grey - s) < 4 for s in seen)} == {pasted, background}


def test_the_same_options_give_the_same_bytes_and_another_seed_others(photos):
    first = content(made(photos))
    assert len(first) == 5 * (1 + 9 + 9 + 2)
    assert content(made(photos)) == first
    other = content(made(photos, seed=1))
    assert other.keys() == first.keys()
    assert len([name for name in first if name.startswith("crops") and other[name] != first[name]]) > 40  # of 45


def test_more_strong_copies_change_no_other_file(photos):
    folders = ("original", "jpegqual", "crops")
    few, many = content(made(photos, strong=1)), content(made(photos, strong=3))
    assert len(many) == len(few) + 10
    assert all(many[name] == few[name] for name in few if name.startswith(folders))


def test_originals_are_drawn_and_large_ones_shrunk(photos, monkeypatch):
    monkeypatch.setattr(copydays_making, "LONGEST", 60)
    told = [json.loads((made(photos, originals=3, seed=s) / "attacks.json").read_text()) for s in range(4)]
    drawn = {tuple(one["original"].values()) for one in told}
    assert all(len(names) == 3 and list(names) == sorted(names) for names in drawn)
    assert len(drawn) > 1
    data = open_copydays(made(photos, originals=2))
    assert [max(data.originals.load(i).size) for i in range(2)] == [60, 60]


def test_an_unreadable_photo_is_named_and_leaves_no_gap(photos):
    for place in PLACES[:2]:  # one original at least
        (photos / place).write_bytes(b"no image")
    out = photos.parent / "out"
    result = run(CopydaysMakeConfig(images=photos, out=out, max_bad=0.4))
    assert set(result.details["skipped"]) == {str(photos / place) for place in PLACES[:2]}
    data = open_copydays(out)
    assert [Path(path).name for path in data.originals.paths] == [
        f"200{i}00.jpg" for i in range(result.metrics["images"]["original"])
    ]
    with pytest.raises(DinotoolsError, match=r"not an image.* 1 unreadable of 6 images"):
        made(photos)


def test_what_was_interrupted_is_no_set(photos, monkeypatch):
    out = photos.parent / "out"

    def interrupted(image: Image.Image, name: str, *_) -> Image.Image:
        if name == "blur":  # of the third original
            raise KeyboardInterrupt
        return image

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(copydays_making.attacks, "attack", interrupted)
        run(CopydaysMakeConfig(images=photos, out=out))
    assert (out / "strong" / "200201.jpg").is_file()
    with pytest.raises(DinotoolsError, match="interrupted here, repeat it with --overwrite"):
        open_copydays(out)
    with pytest.raises(DinotoolsError, match="not empty"):
        run(CopydaysMakeConfig(images=photos, out=out))
    run(CopydaysMakeConfig(images=photos, out=out, overwrite=True))
    assert content(out) == content(made(photos))


@pytest.mark.parametrize(
    "options, fault",
    [
        ({"originals": 0}, "--originals"),
        ({"originals": 8001}, "--originals"),
        ({"strong": 0}, "--strong"),
        ({"strong": 100}, "--strong"),
        ({"seed": -1}, "--seed"),
        ({"seed": 2**32}, "--seed"),
        ({"max_bad": 1.5}, "--max-bad"),
    ],
)
def test_an_option_out_of_range_is_named(photos, options, fault):
    with pytest.raises(DinotoolsError, match=fault):
        made(photos, **options)


def test_a_folder_with_one_photo_or_none_is_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(DinotoolsError, match="holds no images"):
        made(tmp_path / "photos")
    Image.new("RGB", (20, 20)).save(tmp_path / "photos" / "one.png")
    with pytest.raises(DinotoolsError, match="fewer than two readable images"):
        made(tmp_path / "photos")
    (tmp_path / "photos" / "two.png").touch()
    with pytest.raises(DinotoolsError, match="fewer than two readable images"):
        made(tmp_path / "photos", max_bad=1.0)


def test_photos_within_the_output_are_not_deleted(photos):
    out = made(photos)
    with pytest.raises(DinotoolsError, match="would delete what this command reads"):
        run(CopydaysMakeConfig(images=out / "original", out=out, overwrite=True))
    assert len(content(out / "original")) == 5


def test_a_set_among_its_photos_is_refused(photos):
    before = sorted(photos.rglob("*"))
    with pytest.raises(DinotoolsError, match="among the photographs of the next set"):
        run(CopydaysMakeConfig(images=photos, out=photos / "attacked"))
    assert sorted(photos.rglob("*")) == before
