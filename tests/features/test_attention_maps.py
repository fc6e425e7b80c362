"""Attention maps are the [CLS] row of the matrix, laid out as the patches lie; masks keep a share of each."""

import numpy as np
import pytest
import torch
from PIL import Image

from dinotools.configs.attention import AttentionConfig
from dinotools.data.patch_grid import PatchGrid
from dinotools.data.transforms import normalize
from dinotools.features.attention_maps import attention_maps, keep_mass, open_attention
from dinotools.models.vit import build_vit
from dinotools.runtime.device import Runtime
from dinotools.runtime.errors import DinotoolsError, RunFailed
from tests.golden import official

CPU = Runtime(torch.device("cpu"), "fp32", 0)
OPTIONS = AttentionConfig(inputs=("x.png",), out="out", ckpt="random", arch="vit_micro", patch_size=8)


def test_maps_equal_the_row_of_the_full_matrix_on_a_grid_that_is_not_square():
    model = official.fill(official.small_vit()).eval()
    images = official.normal(1, (2, 3, 40, 67))  # 5 rows, 8 columns and 3 pixels to spare
    maps = attention_maps(model, images)
    assert maps.shape == (2, 2, 5, 8)
    with torch.no_grad():
        row = model.get_last_selfattention(images)[:, :, 0]
    torch.testing.assert_close(maps.flatten(2), row[:, :, 1:], atol=5e-6, rtol=0)
    torch.testing.assert_close(maps.sum((2, 3)) + row[:, :, 0], torch.ones(2, 2))


@pytest.mark.parametrize(
    ("tag", "build", "seed", "size", "asked"),
    [
        ("small8", official.small_vit, 871, (96, 128), (64, 96)),
        ("vit_tiny16", lambda: build_vit("vit_tiny", 16), 872, (120, 100), (112, 150)),
    ],
)
def test_maps_and_masks_are_the_official_ones(tag, build, seed, size, asked):
    golden = official.arrays("attention")
    model = official.fill(build()).eval()
    image = Image.fromarray(official.image(seed, *size)).resize(asked[::-1], Image.Resampling.BILINEAR)
    grid = PatchGrid(model.patch_size, "crop")
    maps = attention_maps(model, normalize(grid(image))[None])[0]
    np.testing.assert_allclose(maps, golden[f"{tag}/cls_attention"], atol=5e-6, rtol=0)
    masks = grid.enlarge(keep_mass(maps, 0.6).float(), *asked)
    height, width = golden[f"{tag}/mask_upsampled"].shape[1:]
    assert np.array_equal(masks[:, :height, :width], golden[f"{tag}/mask_upsampled"])
    assert not masks[:, height:].any() and not masks[:, :, width:].any()


def test_the_fewest_patches_that_hold_the_share_are_kept():
    maps = torch.tensor([[[8.0, 1.0], [4.0, 3.0]], [[1.0, 1.0], [1.0, 97.0]]])  # shares of 16 and of 100
    assert keep_mass(maps, 0.5).tolist() == [[[True, False], [False, False]], [[False, False], [False, True]]]
    assert keep_mass(maps, 0.6).tolist() == [[[True, False], [True, False]], [[False, False], [False, True]]]
    assert keep_mass(maps, 0.8).tolist() == [[[True, False], [True, True]], [[False, False], [False, True]]]
    assert keep_mass(maps, 1.0).all()


@pytest.mark.parametrize("threshold", [0.1, 0.6, 0.95])
def test_the_kept_share_is_the_least_that_reaches_the_threshold(threshold):
    maps = official.normal(3, (5, 4, 7, 9)).exp()
    kept = keep_mass(maps, threshold)
    shares = maps / maps.sum((2, 3), keepdim=True)
    share = (shares * kept).sum((2, 3))
    least = shares.masked_fill(~kept, 2).amin((2, 3))
    assert (share >= threshold - 1e-6).all()
    assert (share - least <= threshold + 1e-6).all()  # without the last it would not
    assert (least >= shares.masked_fill(kept, -1).amax((2, 3))).all()


def test_the_network_sees_images_of_any_size():
    network = open_attention(OPTIONS, "crop", None, CPU, 0)
    assert network.n_heads == 4
    assert network.maps(Image.new("RGB", (50, 20)), "a").shape == (4, 2, 6)
    with pytest.raises(DinotoolsError, match=r"a: 50 x 7 pixels are less than a patch of 8\. Enlarge it with --imsize"):
        network.maps(Image.new("RGB", (50, 7)), "a")
    padding = open_attention(OPTIONS, "pad", None, CPU, 0)
    assert padding.maps(Image.new("RGB", (50, 7)), "a").shape == (4, 1, 7)


def test_attention_that_is_no_number_is_a_failure():
    network = open_attention(OPTIONS, "crop", None, CPU, 0)
    network.model.cls_token.data.fill_(torch.nan)
    with pytest.raises(RunFailed, match="not finite"):
        network.maps(Image.new("RGB", (50, 20)), "a")


@pytest.mark.parametrize("arch", ["resnet18", "timm:vit_tiny_patch16_224"])
def test_networks_without_attention_to_show_say_so(arch):
    options = AttentionConfig(inputs=("x.png",), out="out", ckpt="random", arch=arch)
    with pytest.raises(DinotoolsError, match=r"no attention of a \[CLS\] token to show"):
        open_attention(options, "crop", None, CPU, 0)
