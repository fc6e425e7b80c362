"""`dinotools davis --video`: a video and its first mask in, masks and an overlay out."""

import shutil
import weakref
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from dinotools.configs.video import DavisConfig
from dinotools.data.masks import palette, read_mask, write_mask
from dinotools.data.video import open_video
from dinotools.data.video_writing import VideoWriter
from dinotools.evaluation.davis import clip, command
from dinotools.runtime.errors import DinotoolsError
from tests.data.test_video import QUARTER_RIGHT, turned
from tests.evaluation.davis.drawn import Sequence

NETWORK = {"ckpt": "random", "arch": "vit_micro", "patch_size": 8, "device": "cpu", "workers": 0}
PROTOCOL = {"short_side": 64, "multiple": 32, "size_mask_neighborhood": 3, "n_last_frames": 2}
SEQUENCE = Sequence(1, 5, 72, 130, ((30, 40, 10, 20, 2, 4), (20, 30, 40, 80, -2, -3)))
HEIGHT, WIDTH = SEQUENCE.height, SEQUENCE.width


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """DAVIS with one sequence; its frames and its first annotation are also a video with a first mask."""
    root = tmp_path_factory.mktemp("davis")
    frames, mask = SEQUENCE.frames()
    for folder in ("JPEGImages/480p/boat", "ImageSets/2017"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets" / "2017" / "val.txt").write_text("boat")
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(root / "JPEGImages" / "480p" / "boat" / f"{i:05d}.jpg", quality=95)
        write_mask(root / "Annotations" / "480p" / "boat" / f"{i:05d}.png", mask)
    return root


@pytest.fixture(scope="module")
def video(data):
    return data / "JPEGImages" / "480p" / "boat"


@pytest.fixture(scope="module")
def mask(data):
    return data / "Annotations" / "480p" / "boat" / "00000.png"


def follow(video, mask, out, **options):
    return clip.run_clip(DavisConfig(video=video, mask=mask, out=out, **{**NETWORK, **PROTOCOL, **options}))


@pytest.fixture(scope="module")
def done(video, mask, tmp_path_factory):
    """The folder and the result of a run."""
    out = tmp_path_factory.mktemp("out") / "clip"
    return out, follow(video, mask, out, soft=True)


def masks_in(out):
    return np.stack([read_mask(path) for path in sorted((out / "masks").iterdir())])


def film(path, frames, fps=25):
    with VideoWriter(path, fps, frames[0].shape[1], frames[0].shape[0]) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def test_masks_are_those_of_davis(data, done, tmp_path):
    command.run(DavisConfig(data=data, out=tmp_path, **NETWORK, **PROTOCOL))
    found = masks_in(done[0])
    assert len(found) == SEQUENCE.length
    assert [path.name for path in sorted((done[0] / "masks").iterdir())] == [f"{i:05}.png" for i in range(len(found))]
    for i, of_frame in enumerate(found):
        np.testing.assert_array_equal(of_frame, read_mask(tmp_path / "masks" / "boat" / f"{i:05}.png"))
    assert len(np.unique(found[-1])) == 3
    assert (found[-1] != found[0]).any()
    with Image.open(done[0] / "masks" / "00001.png") as image:
        assert image.mode == "P"
        assert bytes(image.getpalette("RGB")) == palette()[: len(image.getpalette("RGB"))]


def test_soft_labels_are_shares_of_which_the_largest_marks_the_mask(done):
    paths = sorted((done[0] / "soft").iterdir())
    assert len(paths) == SEQUENCE.length
    for path, of_frame in zip(paths, masks_in(done[0]), strict=True):
        labels = np.load(path)["labels"]
        assert labels.shape == (3, 8, 12)  # 64 x 96 pixels, patches of 8
        assert labels.dtype == np.float32
        np.testing.assert_allclose(labels.sum(axis=0), 1, atol=1e-5)
        small = np.array(Image.fromarray(of_frame).resize((12, 8), Image.Resampling.NEAREST))
        assert (labels.argmax(axis=0) == small).mean() > 0.8
    assert set(np.unique(np.load(paths[0])["labels"])) == {0, 1}


def test_the_overlay_has_the_size_and_the_rate_of_the_video_and_colours_where_the_masks_are(mask, done, tmp_path):
    frames = SEQUENCE.frames()[0]
    source = film(tmp_path / "clip.mp4", frames, Fraction(30000, 1001))
    result = follow(source, mask, tmp_path / "out")
    made = open_video(tmp_path / "out" / "overlay.mp4")
    assert (made.width, made.height, made.fps) == (WIDTH, HEIGHT, Fraction(30000, 1001))
    assert made.n_frames == SEQUENCE.length
    for shown, frame, of_frame in zip(made.frames(), frames, masks_in(tmp_path / "out"), strict=True):
        changed = np.abs(shown.astype(int) - frame).mean(axis=2)
        assert changed[of_frame > 0].mean() > 4 * changed[of_frame == 0].mean()
    assert not (tmp_path / "out" / "soft").exists()
    assert result.details["data"] == {"size": [HEIGHT, WIDTH], "fps": pytest.approx(29.97, abs=0.01), "frames": 5}


def test_the_result_counts_every_object(done):
    found = masks_in(done[0])
    for row, number in zip(done[1].rows, (1, 2), strict=True):
        assert row["object"] == number
        assert row["% of first frame"] == pytest.approx(100 * (found[0] == number).mean())
        assert row["% of last frame"] == pytest.approx(100 * (found[-1] == number).mean())
        assert row["in frames"] == (found == number).any(axis=(1, 2)).sum()
    assert "dino-v1 but for short_side 64" in done[1].title


def test_a_folder_of_masks_is_an_object_each(video, mask, done, tmp_path):
    for number in (1, 2):
        of_object = (read_mask(mask) == number).astype(np.uint8) * 255
        (tmp_path / "objects").mkdir(exist_ok=True)
        Image.fromarray(of_object).save(tmp_path / "objects" / f"{number}.png")
    follow(video, tmp_path / "objects", tmp_path / "out")
    np.testing.assert_array_equal(masks_in(tmp_path / "out"), masks_in(done[0]))


def spoiled(video, folder, *numbers):
    copy = shutil.copytree(video, folder)
    for number in numbers:
        (copy / f"{number:05}.jpg").write_bytes(b"\xff\xd8 no picture")
    return copy


def test_a_bad_frame_is_named_and_nothing_half_written_stays(video, mask, tmp_path):
    with pytest.raises(DinotoolsError, match=r"frame 3 \(00003.jpg\).*--skip-bad-frames"):
        follow(spoiled(video, tmp_path / "video", 3), mask, tmp_path / "out", soft=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["config.toml"]
    follow(video, mask, tmp_path / "out")  # needs no --overwrite


def test_skipped_frames_repeat_the_mask_before_and_change_no_other(video, mask, tmp_path):
    source = spoiled(video, tmp_path / "video", 2, 3)
    result = follow(source, mask, tmp_path / "out", skip_bad_frames=True)
    found = masks_in(tmp_path / "out")
    assert result.metrics["repeated_frames"] == [2, 3]
    assert open_video(tmp_path / "out" / "overlay.mp4").n_frames == len(found) == SEQUENCE.length
    np.testing.assert_array_equal(found[2], found[1])
    np.testing.assert_array_equal(found[3], found[1])
    for number in (2, 3):
        (source / f"{number:05}.jpg").unlink()
    follow(source, mask, tmp_path / "short")
    np.testing.assert_array_equal(found[[0, 1, 4]], masks_in(tmp_path / "short"))


def test_without_the_first_frame_the_mask_belongs_to_none(video, mask, tmp_path):
    with pytest.raises(DinotoolsError, match=r"frame 0 .*there is none before it to repeat"):
        follow(spoiled(video, tmp_path / "video", 0), mask, tmp_path / "out", skip_bad_frames=True)


def test_a_change_of_size_names_the_frame_and_leaves_nothing(video, mask, tmp_path):
    source = shutil.copytree(video, tmp_path / "video")
    Image.new("RGB", (WIDTH, HEIGHT + 1)).save(source / "00004.jpg")
    with pytest.raises(DinotoolsError, match="frame 4 is 130 x 73, others 130 x 72"):
        follow(source, mask, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["config.toml"]


def test_a_turned_video_takes_the_mask_as_it_is_shown(mask, tmp_path):
    frames = [np.rot90(frame) for frame in SEQUENCE.frames()[0]]  # as a phone stores what it filmed upright
    source = turned(film(tmp_path / "clip.mp4", frames), QUARTER_RIGHT)
    follow(source, mask, tmp_path / "out")
    assert masks_in(tmp_path / "out").shape == (SEQUENCE.length, HEIGHT, WIDTH)
    write_mask(tmp_path / "stored.png", np.ascontiguousarray(np.rot90(read_mask(mask))))
    with pytest.raises(DinotoolsError, match="another aspect"):
        follow(source, tmp_path / "stored.png", tmp_path / "other")


def test_a_mask_of_the_same_aspect_is_scaled_with_a_warning(video, mask, tmp_path, capsys):
    large = read_mask(mask).repeat(2, axis=0).repeat(2, axis=1)
    write_mask(tmp_path / "large.png", large)
    follow(video, tmp_path / "large.png", tmp_path / "out")
    assert "is 260 x 144, the video 130 x 72; scaled" in capsys.readouterr().err
    np.testing.assert_array_equal(masks_in(tmp_path / "out")[0], read_mask(mask))


def test_an_object_without_a_patch_is_named_and_with_none_there_is_an_error(video, mask, tmp_path, capsys):
    marked = read_mask(mask)
    marked[0, 0], marked[marked == 2] = 1, 3
    marked[marked == 1] = 0
    marked[0, 0] = 1
    write_mask(tmp_path / "first.png", marked)
    result = follow(video, tmp_path / "first.png", tmp_path / "out")
    assert "1 of 2 objects are too small to have a patch of their own and are lost: 1" in capsys.readouterr().err
    assert set(np.unique(masks_in(tmp_path / "out")[1:])) == {0, 3}
    assert [(row["object"], row["in frames"]) for row in result.rows] == [(1, 1), (3, SEQUENCE.length)]
    write_mask(tmp_path / "dot.png", (marked == 1).astype(np.uint8))
    with pytest.raises(DinotoolsError, match="--short-side larger"):
        follow(video, tmp_path / "dot.png", tmp_path / "other")


def many(folder, count):
    folder.mkdir()
    for number in range(count):
        pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
        pixels[number // WIDTH, number % WIDTH] = 255
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    return folder


def drawn(folder, mask):
    write_mask(folder / "first.png", mask)
    return folder / "first.png"


def text(folder):
    (folder / "clip.mp4").write_text("no video")
    return folder / "clip.mp4"


@pytest.mark.parametrize(
    "options, message",
    [
        (lambda tmp: {"mask": None}, "--mask: is missing"),
        (lambda tmp: {"data": tmp}, "--data: was given beside --video"),
        (lambda tmp: {"mask": tmp}, r"holds no \.png"),
        (lambda tmp: {"mask": many(tmp / "many", 256)}, "256 objects are more than 255"),
        (lambda tmp: {"mask": drawn(tmp, np.zeros((HEIGHT, WIDTH), np.uint8))}, "marks no object"),
        (lambda tmp: {"mask": drawn(tmp, np.ones((HEIGHT, HEIGHT), np.uint8))}, "another aspect"),
        (lambda tmp: {"video": tmp}, "holds no images"),
        (lambda tmp: {"video": text(tmp)}, "is not a video"),
        (lambda tmp: {"out": text(tmp)}, "is a file"),
        (lambda tmp: {"out": text(tmp) / "out"}, "cannot be written"),
        (lambda tmp: {"ckpt": None}, "--ckpt"),
        (lambda tmp: {"short_side": 4, "multiple": 4}, "less than a patch of 8"),
        (lambda tmp: {"topk": 0}, "--topk"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(video, mask, tmp_path, options, message):
    given = {"video": video, "mask": mask, "out": tmp_path / "out"} | options(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DinotoolsError, match=message):
        follow(**given)
    assert sorted(tmp_path.rglob("*")) == before


def test_memory_holds_the_context_and_nothing_before_it(mask, tmp_path, monkeypatch):
    source = film(tmp_path / "clip.mp4", SEQUENCE.frames()[0] * 6)
    overlay, write_labels = clip.overlay, clip.write_labels
    frames, labels, alive = [], [], []

    def watched_overlay(frame, *others):
        frames.append(weakref.ref(frame))
        alive.append([sum(ref() is not None for ref in refs) for refs in (frames, labels)])
        return overlay(frame, *others)

    def watched_labels(path, of_frame):
        labels.append(weakref.ref(of_frame))
        write_labels(path, of_frame)

    monkeypatch.setattr(clip, "overlay", watched_overlay)
    monkeypatch.setattr(clip, "write_labels", watched_labels)
    follow(source, mask, tmp_path / "out", soft=True)
    assert len(frames) == len(labels) == 6 * SEQUENCE.length
    most_frames, most_labels = np.max(alive, axis=0)
    assert most_frames <= 2
    assert most_labels <= 1 + PROTOCOL["n_last_frames"]
