"""Patch tokens as colours: the arithmetic by hand, and files that show it."""

import numpy as np
import pytest
import torch
from PIL import Image

from dinotools.configs.embedding import EmbedConfig
from dinotools.data.transforms import EvalTransform, normalize
from dinotools.evaluation.embedding import patches
from dinotools.evaluation.embedding.command import run
from dinotools.models.checkpoints import load_backbone
from dinotools.runtime.errors import DinotoolsError

SMALL = {"ckpt": "random", "arch": "vit_micro", "patch_size": 8, "resize_size": 34, "crop_size": 34, "workers": 0}


def test_colours_span_the_whole_range_of_each_component():
    tokens = np.random.RandomState(0).randn(40, 6) * [9, 5, 3, 1, 1, 1]
    colours, explained = patches.colours(tokens)
    assert (colours.dtype, colours.shape) == (np.uint8, (40, 3))
    assert colours.min(axis=0).tolist() == [0, 0, 0]
    assert colours.max(axis=0).tolist() == [255, 255, 255]
    assert np.corrcoef(colours[:, 0], tokens[:, 0])[0, 1] > 0.9  # red is the first component, upwards
    assert 1 > explained[0] > explained[1] > explained[2]


@pytest.mark.parametrize("tokens", [np.ones((7, 5)), np.random.RandomState(0).randn(7, 2)])
def test_fewer_than_three_components_leave_colours_out(tokens):
    colours, _ = patches.colours(tokens)
    assert colours.shape == (7, 3)
    assert not colours[:, 2].any()


def test_a_pixel_becomes_a_square():
    maps = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    large = patches.enlarge(maps, 3)
    assert large.shape == (1, 6, 6, 3)
    assert (large[0, 3:, :3] == maps[0, 1, 0]).all()


def test_files_of_one_name_are_kept_apart():
    assert patches.file_names(["a/x.png", "b/x.jpg", "y.png"]) == [
        "x-patches.png",
        "x-2-patches.png",
        "y-patches.png",
    ]


def test_every_image_gets_its_map(image_folder, tmp_path):
    named = image_folder / "val" / "green"
    result = run(EmbedConfig(**SMALL, patches=str(named), out=tmp_path / "out"))
    files = sorted(named.iterdir())
    maps = np.stack([np.asarray(Image.open(tmp_path / "out" / f"{path.stem}-patches.png")) for path in files])
    assert maps.shape == (4, 32, 32, 3)  # 34 pixels hold four patches of 8
    assert result.metrics["patches"] == [4, 4]

    pixels = torch.stack([EvalTransform(34, 34)(Image.open(path)) for path in files])
    model = load_backbone("random", arch="vit_micro", patch_size=8, img_size=34).model
    with torch.no_grad():
        tokens = model.get_intermediate_layers(normalize(pixels))[0][:, 1:].double().numpy().reshape(64, -1)
    centred = tokens - tokens.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:3]
    components = centred @ (axes * np.sign(axes[range(3), np.abs(axes).argmax(axis=1)])[:, None]).T
    expected = 255 * (components - components.min(axis=0)) / np.ptp(components, axis=0)
    difference = maps[:, 4::8, 4::8].reshape(64, 3) - expected
    assert np.abs(difference).max() < 1
    assert Image.open(tmp_path / "out" / "patches.png").width > 300


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arch": "resnet18", "patch_size": None}, "resnet18 has no patch tokens"),
        ({"data": "digits"}, "--data: was given beside --patches"),
        ({"patches": "digits"}, "more than 100"),
        ({"patches": "nowhere"}, "neither a folder nor a data set"),
        ({"ckpt": None}, "--ckpt"),
    ],
)
def test_what_cannot_be_mapped_is_refused_before_anything_is_written(changes, words, tmp_path):
    with pytest.raises(DinotoolsError) as error:
        run(EmbedConfig(**{**SMALL, "patches": "photos", "out": tmp_path / "out", **changes}))
    assert words in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_single_file_will_do(image_folder, tmp_path):
    file = image_folder / "val" / "red" / "0.png"
    assert run(EmbedConfig(**SMALL, patches=str(file), out=tmp_path / "out")).metrics["images"] == 1
    assert (tmp_path / "out" / "0-patches.png").is_file()
