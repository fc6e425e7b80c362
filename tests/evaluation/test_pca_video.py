"""Patches of a video as colours: one basis for all frames, and what is written."""

import dataclasses
import weakref
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from dinotools.configs.video import PcaVideoConfig
from dinotools.data.patch_grid import PatchGrid
from dinotools.data.video import open_video
from dinotools.data.video_writing import VideoWriter
from dinotools.evaluation import pca_video
from dinotools.models.checkpoints import load_backbone
from dinotools.runtime import device
from dinotools.runtime.errors import DinotoolsError, RunFailed

NETWORK = {"ckpt": "random", "arch": "vit_micro", "patch_size": 8}
WIDTH, HEIGHT, LENGTH = 96, 64, 9


def picture(number):
    """A bright square that moves over a textured ground which brightens."""
    frame = np.random.RandomState(0).randint(0, 90, (HEIGHT // 8, WIDTH // 8, 3)).astype(np.uint8)
    frame = frame.repeat(8, axis=0).repeat(8, axis=1) + np.uint8(5 * number)
    frame[20:44, 6 * number : 6 * number + 24] = (230, 180, 40)
    return frame


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The frames as PNGs: nothing is lost."""
    path = tmp_path_factory.mktemp("frames")
    for number in range(LENGTH):
        Image.fromarray(picture(number)).save(path / f"{number:05}.png")
    return path


@pytest.fixture(scope="module")
def network():
    return pca_video.PatchNetwork(load_backbone(**NETWORK), PatchGrid(8), device.prepare("cpu", "fp32", 0, 0))


def show(video, out, **options):
    return pca_video.run(PcaVideoConfig(video=video, out=out, device="cpu", **{**NETWORK, **options}))


def read(path):
    return np.stack(list(open_video(path).frames()))


def test_colours_are_the_principal_components_of_all_frames_together(folder, network):
    video = open_video(folder)
    tokens = torch.stack([network.tokens(frame) for frame in video.frames()]).double().numpy()
    assert tokens.shape[:3] == (LENGTH, HEIGHT // 8, WIDTH // 8)
    points = tokens.reshape(-1, tokens.shape[-1])
    centred = points - points.mean(axis=0)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:3] * np.sign(axes[np.arange(3), np.abs(axes[:3]).argmax(axis=1)])[:, None]
    components = centred @ axes.T
    low, high = np.quantile(components, 0.01, axis=0), np.quantile(components, 0.99, axis=0)
    expected = np.clip((components - low) / (high - low), 0, 1).reshape(*tokens.shape[:3], 3)

    colours = pca_video.learn_colours(video, network, skip_bad=False, seed=0)
    found = colours.of(torch.from_numpy(tokens).float()).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-3)
    np.testing.assert_allclose(colours.explained, (values**2 / (values**2).sum())[:3], atol=1e-4)
    pictures = list(pca_video.coloured_frames(video, network, colours, skip_bad=False))
    assert len(pictures) == LENGTH
    for (frame, coloured), of_patches, number in zip(pictures, expected, range(LENGTH), strict=True):
        np.testing.assert_array_equal(frame, picture(number))
        centres = coloured.reshape(HEIGHT // 8, 8, WIDTH // 8, 8, 3)[:, 3:5, :, 3:5].mean(axis=(1, 3))
        # the four pixels around a centre take at most an eighth of their colour from patches beside it
        np.testing.assert_allclose(centres / 255, of_patches, atol=0.15)


def test_a_long_video_is_sampled_evenly(folder, network, monkeypatch):
    video, seen = open_video(folder), []
    tokens = pca_video.PatchNetwork.tokens
    monkeypatch.setattr(
        pca_video.PatchNetwork, "tokens", lambda self, frame: (seen.append(frame), tokens(self, frame))[1]
    )
    monkeypatch.setattr(pca_video, "SAMPLE_FRAMES", 4)
    monkeypatch.setattr(pca_video, "SAMPLE_PATCHES", 90)
    sampled = pca_video.sample(video, network, skip_bad=False, seed=0)
    np.testing.assert_array_equal(seen, [picture(number) for number in (0, 3, 6)])
    assert len(sampled) == 90  # 30 of the 96 patches of each
    assert len(sampled.unique(dim=0)) == 90
    assert torch.equal(pca_video.sample(video, network, skip_bad=False, seed=0), sampled)
    unknown = dataclasses.replace(video, n_frames=None)
    assert torch.equal(pca_video.sample(unknown, network, skip_bad=False, seed=0), sampled)


def test_the_film_has_the_size_and_rate_of_the_video_and_its_frames_beside_if_asked(tmp_path):
    source = tmp_path / "clip.mp4"
    with VideoWriter(source, Fraction(30000, 1001), WIDTH, HEIGHT) as writer:
        for number in range(LENGTH):
            writer.write(picture(number))
    alone = show(source, tmp_path / "alone")
    beside = show(source, tmp_path / "beside", beside=True)
    made = open_video(tmp_path / "alone" / "pca.mp4")
    assert (made.width, made.height, made.fps, made.n_frames) == (WIDTH, HEIGHT, Fraction(30000, 1001), LENGTH)
    both, of_patches = read(tmp_path / "beside" / "pca.mp4"), read(tmp_path / "alone" / "pca.mp4")
    assert both.shape == (LENGTH, HEIGHT, 2 * WIDTH, 3)
    inner = np.s_[:, :, 8:-8]  # where coding does not mix the two
    assert np.abs(both[:, :, :WIDTH][inner] - read(source)[inner].astype(int)).mean() < 6
    assert np.abs(both[:, :, WIDTH:][inner] - of_patches[inner].astype(int)).mean() < 6
    assert alone.metrics == beside.metrics
    assert alone.metrics["frames"] == LENGTH
    assert alone.metrics["patches"] == [8, 12]
    assert 0 < alone.rows[0]["variance shown %"] <= 100


def test_imsize_makes_more_patches(folder, tmp_path):
    assert show(folder, tmp_path / "out", imsize=192).metrics["patches"] == [16, 24]


def test_a_bad_frame_is_named_or_repeats_the_one_before(folder, tmp_path, network):
    source = tmp_path / "video"
    source.mkdir()
    for number in range(LENGTH):
        Image.fromarray(picture(number)).save(source / f"{number:05}.png")
    (source / "00004.png").write_bytes(b"no picture")
    with pytest.raises(DinotoolsError, match=r"frame 4 \(00004.png\).*--skip-bad-frames"):
        show(source, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["config.toml"]
    assert show(source, tmp_path / "out", skip_bad_frames=True).metrics["frames"] == LENGTH
    video = open_video(source)
    colours = pca_video.learn_colours(video, network, skip_bad=True, seed=0)
    pictures = list(pca_video.coloured_frames(video, network, colours, skip_bad=True))
    for before, repeated in zip(pictures[3], pictures[4], strict=True):
        np.testing.assert_array_equal(before, repeated)


def test_memory_holds_a_frame_at_a_time(folder, network, monkeypatch):
    video, refs, most = open_video(folder), [], 0
    colours = pca_video.learn_colours(video, network, skip_bad=False, seed=0)
    for frame, coloured in pca_video.coloured_frames(video, network, colours, skip_bad=False):
        refs += [weakref.ref(frame), weakref.ref(coloured)]
        most = max(most, sum(ref() is not None for ref in refs))
    assert len(refs) == 2 * LENGTH
    assert most <= 4


def test_features_that_are_not_finite_end_the_run(folder, tmp_path, monkeypatch):
    def broken(*arguments, **options):
        backbone = load_backbone(*arguments, **options)
        torch.nn.init.constant_(backbone.model.norm.bias, torch.nan)
        return backbone

    monkeypatch.setattr(pca_video, "load_backbone", broken)
    with pytest.raises(RunFailed, match="not finite"):
        show(folder, tmp_path / "out")
    assert not (tmp_path / "out" / "pca.mp4").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"ckpt": None}, "--ckpt"),
        ({"arch": "resnet18", "patch_size": None}, "resnet18 has no patch tokens"),
        ({"imsize": 0}, "--imsize"),
        ({"video": "nowhere.mp4"}, "there is no such file"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(folder, tmp_path, options, message):
    with pytest.raises(DinotoolsError, match=message):
        show(**{"video": folder, "out": tmp_path / "out", **options})
    assert not (tmp_path / "out").exists()


def test_too_few_patches_to_learn_colours_on(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "00000.png")
    with pytest.raises(DinotoolsError, match="Give a longer or a larger video"):
        show(tmp_path, tmp_path / "out")
