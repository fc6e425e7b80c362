"""What `dinotools attention` leaves on disk is what the network looks at."""

import json
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from matplotlib import colormaps
from PIL import Image

from dinotools.configs.attention import AttentionConfig
from dinotools.data.patch_grid import PatchGrid
from dinotools.data.transforms import normalize
from dinotools.data.video_writing import VideoWriter
from dinotools.evaluation.attention import command, films, pictures
from dinotools.evaluation.attention.inputs import distinct_names
from dinotools.features.attention_maps import attention_maps, keep_mass
from dinotools.models.checkpoints import load_backbone
from dinotools.models.vit import build_vit
from dinotools.runtime.errors import DinotoolsError
from tests.golden import official

HEIGHT, WIDTH, PATCH = 24, 40, 8


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(official.image(5, HEIGHT, WIDTH)).save(path)
    return path


@pytest.fixture
def clip(tmp_path) -> Path:
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, 10, WIDTH, HEIGHT) as film:
        for number in range(5):
            film.write(np.full((HEIGHT, WIDTH, 3), 40 * number, np.uint8))
    return path


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory) -> str:
    """A network with opinions: that of random weights hardly tells one patch from another."""
    path = tmp_path_factory.mktemp("network") / "backbone.pth"
    torch.save(official.fill(build_vit("vit_micro", PATCH)).state_dict(), path)
    return str(path)


def config(network: str, out: Path, *inputs: object, **changes: object) -> AttentionConfig:
    given = {"ckpt": network, "workers": 0, "device": "cpu"}
    return AttentionConfig(inputs=tuple(map(str, inputs)), out=out, **(given | changes))


def maps_of(ckpt: str, pixels: np.ndarray) -> torch.Tensor:
    images = normalize(torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None])
    return attention_maps(load_backbone(ckpt).model, images)[0]


def colours(values: np.ndarray) -> np.ndarray:
    """Magma from 0 to the 99th percentile, each patch as large as it is."""
    steps = np.clip(np.round(values * (255 / float(np.quantile(values, 0.99)))), 0, 255).astype(np.uint8)
    return np.kron(colormaps["magma"](steps, bytes=True)[..., :3], np.ones((PATCH, PATCH, 1), np.uint8))


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_pictures_show_the_maps_and_masks_of_every_head(ckpt, photo, tmp_path):
    result = command.run(config(ckpt, tmp_path / "out", photo, threshold=0.3))
    pixels = read(photo)
    maps = maps_of(ckpt, pixels)
    folder = tmp_path / "out" / "photo"
    heads = {f"head-{n}{kind}.png" for n in (1, 2, 3, 4) for kind in ("", "-mask")}
    assert {path.name for path in folder.iterdir()} == heads | {"mean.png", "mean-overlay.png", "montage.png"}
    pictured = {f"head-{n}.png": of_head for n, of_head in enumerate(maps.numpy(), start=1)}
    for name, values in (pictured | {"mean.png": maps.mean(0).numpy()}).items():
        difference = read(folder / name) - colours(values).astype(int)
        assert np.abs(difference).max() <= 5  # the next colour of 256 may be taken
        assert np.ptp(colours(values)) > 100
    for n, kept in enumerate(keep_mass(maps, 0.3).numpy(), start=1):
        bright = np.kron(kept, np.ones((PATCH, PATCH), bool))
        assert 0 < bright.mean() < 0.5
        shown = read(folder / f"head-{n}-mask.png")
        assert np.array_equal(shown[bright], pixels[bright])
        assert np.array_equal(shown[~bright], pixels[~bright] // 4)
    assert read(folder / "mean-overlay.png").shape == pixels.shape
    assert result.rows == [{"input": "photo.png", "size": "40 x 24", "patches": "5 x 3", "heads": 4}]


@pytest.mark.parametrize(("n_heads", "rows"), [(6, 2), (12, 4)])
def test_a_montage_has_every_head_under_its_name(n_heads, rows):
    image, maps = official.image(1, 16, 24), official.normal(2, (n_heads, 2, 3)).exp()
    drawn = pictures.draw(image, maps, PatchGrid(8), 0.6, smooth=False)
    figure = pictures.montage(drawn)
    shown = {axes.get_title(): axes.images[0].get_array() for axes in figure.axes if axes.images}
    assert set(shown) == {"", "image", "mean", *(f"head {n + 1}" for n in range(n_heads))}
    assert all(np.array_equal(shown[f"head {n + 1}"], of_head) for n, of_head in enumerate(drawn.heads))
    assert len(figure.axes) == 8 * rows
    assert sum(bool(axes.images) for axes in figure.axes) == 2 * (2 + n_heads)


def test_numbers_are_those_of_the_patches(ckpt, photo, tmp_path):
    command.run(config(ckpt, tmp_path / "out", photo, format="npz", threshold=0.8, fit="crop", imsize=36))
    shrunk = np.asarray(Image.open(photo).resize((36, 22), Image.Resampling.BILINEAR))[:16, :32]
    with np.load(tmp_path / "out" / "photo.npz") as found:
        maps = maps_of(ckpt, shrunk)
        np.testing.assert_allclose(found["attention"], maps, atol=1e-6)
        assert np.array_equal(found["masks"], keep_mass(torch.from_numpy(found["attention"]), 0.8))
        assert found["image_size"].tolist() == [HEIGHT, WIDTH]
        assert found["resized"].tolist() == [22, 36]
        assert found["patch_size"] == PATCH


def test_a_very_large_image_is_shrunk_and_that_is_said(ckpt, tmp_path):
    Image.new("RGB", (3840, 64)).save(tmp_path / "wide.png")
    result = command.run(config(ckpt, tmp_path / "out", tmp_path / "wide.png", format="npz"))
    assert result.rows[0]["patches"] == "240 x 4"
    assert "Shrunk to 1,920 pixels before the network saw them: 1;" in result.notes[0]
    result = command.run(config(ckpt, tmp_path / "again", tmp_path / "wide.png", format="npz", imsize=400))
    assert result.rows[0]["patches"] == "50 x 1"
    assert len(result.notes) == 1


def test_several_images_get_an_overview_and_names_of_their_own(ckpt, photo, image_folder, tmp_path):
    out = tmp_path / "out"
    result = command.run(config(ckpt, out, photo, image_folder / "val" / "red", photo, fit="pad"))
    assert len(result.metrics["inputs"]) == 6
    assert len([path for path in out.iterdir() if path.is_dir()]) == 6
    assert (out / "photo").is_dir() and (out / "photo-6").is_dir()
    assert read(out / "0" / "mean.png").shape == (40, 48, 3)
    assert Image.open(out / "overview.png").width > 600
    assert str(out / "overview.png") in result.notes[-1]


def test_names_are_distinct_even_where_case_does_not_count():
    names = distinct_names(["a/x.png", "b/X.jpg", "x-2.png", "c/x.png"])
    assert names[0] == "x"
    assert len({name.lower() for name in names}) == 4


@pytest.mark.parametrize("head", [None, 3])
def test_a_film_has_the_frames_of_the_video_under_its_attention(ckpt, clip, tmp_path, head):
    result = command.run(config(ckpt, tmp_path / "out", clip, head=head, fps=5))
    with av.open(str(clip)) as container:
        originals = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(str(tmp_path / "out" / "clip.mp4")) as container:
        assert container.streams.video[0].average_rate == 5
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert result.rows[0]["frames"] == len(frames) == 5
    maps = maps_of(ckpt, originals[0])
    values = maps.mean(0).numpy() if head is None else maps[head - 1].numpy()
    expected = 0.4 * originals[0] + 0.6 * colours(values)
    assert np.abs(frames[0] - expected).mean() < 10  # compression blurs colours across edges
    assert np.corrcoef(frames[0].mean(2).ravel(), expected.mean(2).ravel())[0, 1] > 0.9


def test_the_numbers_of_a_video_are_a_file_for_each_frame(ckpt, clip, tmp_path):
    command.run(config(ckpt, tmp_path / "out", clip, format="npz"))
    files = sorted((tmp_path / "out" / "clip").iterdir())
    assert [path.name for path in files] == [f"{n:05}.npz" for n in range(5)]
    with np.load(files[4]) as found:
        assert found["attention"].shape == (4, 3, 5)
        assert found["image_size"].tolist() == found["resized"].tolist() == [HEIGHT, WIDTH]


def test_a_bad_frame_repeats_the_one_before():
    good = [np.full((8, 8, 3), value, np.uint8) for value in (1, 2)]
    video = SimpleNamespace(path="clip", frames=lambda skip_bad: iter([good[0], None, good[1]]))
    network = SimpleNamespace(maps=lambda image, name: torch.tensor(image.getpixel((0, 0))[0]))
    seen = [(int(frame[0, 0, 0]), int(maps)) for frame, maps in films.look(video, network, skip_bad=True)]
    assert seen == [(1, 1), (1, 1), (2, 2)]


def test_the_colours_of_a_film_follow_the_scene_slowly():
    frame = np.zeros((8, 16, 3), np.uint8)
    seen = [(frame, torch.tensor([[[value, value]]])) for value in (1.0, 1.0, 0.1)]
    first, second, dark = (
        picture.mean() for picture in films.heated(seen, PatchGrid(8), AttentionConfig(inputs=(), out=Path("out")))
    )
    assert first == second > dark  # its own scale would make it as bright as they are


def test_a_bad_image_of_many_is_named_and_skipped(ckpt, image_folder, tmp_path, capsys):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    result = command.run(config(ckpt, tmp_path / "out", image_folder / "val", bad, format="npz", max_bad=0.1))
    assert result.details["data"] == {"images": 12, "skipped": [str(bad)], "videos": 0}
    assert "bad.png" in capsys.readouterr().err
    json.dumps(result.metrics)
    with pytest.raises(DinotoolsError, match=r"bad\.png: not an image"):
        command.run(config(ckpt, tmp_path / "other", bad))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inputs": ("nowhere.png",)}, "nowhere.png: there is no such file or folder"),
        ({"inputs": ()}, "INPUTS: names nothing"),
        ({"threshold": 0.0}, "--threshold: is 0"),
        ({"threshold": 1.5}, "--threshold: is 1.5"),
        ({"head": 2}, "--head: no input is a video"),
        ({"fps": 5.0}, "--fps: no input is a video"),
        ({"imsize": 0}, "--imsize: is 0"),
        ({"imsize": 7, "fit": "crop"}, "less than a patch of 8"),
        ({"ckpt": None}, "--ckpt"),
    ],
)
def test_bad_input_is_named(ckpt, photo, tmp_path, changes, words):
    given = config(ckpt, tmp_path / "out", *changes.pop("inputs", (photo,)), **changes)
    with pytest.raises(DinotoolsError) as raised:
        command.run(given)
    assert words in str(raised.value)


def test_a_video_has_only_the_heads_of_the_network_and_a_text_is_none(ckpt, clip, tmp_path):
    with pytest.raises(DinotoolsError, match="--head: is 5"):
        command.run(config(ckpt, tmp_path / "out", clip, head=5))
    text = tmp_path / "notes.txt"
    text.write_text("no film")
    with pytest.raises(DinotoolsError, match=r"notes\.txt: is not a video .*Images end in .*\.png"):
        command.run(config(ckpt, tmp_path / "out", text))
