"""Whole patches out of images of any size, and back to the image's pixels."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dinotools.data.patch_grid import LARGEST, PatchGrid
from dinotools.data.transforms import normalize, to_uint8_tensor
from tests.golden import official


class Stretched(PatchGrid):
    """Resizes to a given height and width as the official script does, whatever the aspect."""

    size = (0, 0)

    def resized(self, height, width):
        return self.size


@pytest.mark.parametrize(
    ("tag", "seed", "size", "patch_size", "asked"),
    [("small8", 871, (96, 128), 8, (64, 96)), ("vit_tiny16", 872, (120, 100), 16, (112, 150))],
)
def test_pixels_are_the_official_ones(tag, seed, size, patch_size, asked):
    golden = official.arrays("attention")
    grid = Stretched(patch_size, "crop")
    type(grid).size = asked
    pixels = normalize(grid(Image.fromarray(official.image(seed, *size))))
    assert (1, *pixels.shape) == tuple(golden[f"{tag}/image_tensor_shape"])
    np.testing.assert_allclose(pixels[:, :8, :8], golden[f"{tag}/image_corner8"], atol=2e-6, rtol=0)
    np.testing.assert_allclose(pixels.double().mean((1, 2)), golden[f"{tag}/image_tensor_channel_mean"], atol=1e-6)


def noise(height: int, width: int) -> Image.Image:
    return Image.fromarray(official.image(1, height, width))


def test_crop_takes_whole_patches_from_the_top_left():
    image = noise(21, 30)
    assert torch.equal(PatchGrid(8, "crop")(image), to_uint8_tensor(image)[:, :16, :24])


def test_pad_repeats_the_last_pixels():
    image = noise(21, 30)
    padded = PatchGrid(8, "pad")(image)
    expected = np.pad(np.asarray(image), ((0, 3), (0, 2), (0, 0)), mode="edge")
    assert np.array_equal(padded.permute(1, 2, 0), expected)


def test_resize_brings_the_sides_to_the_nearest_multiple():
    image = noise(21, 30)
    expected = to_uint8_tensor(image.resize((32, 24), Image.Resampling.BILINEAR))
    assert torch.equal(PatchGrid(8, "resize")(image), expected)


@pytest.mark.parametrize("fit", ["crop", "pad", "resize"])
def test_whole_patches_stay_as_they_are(fit):
    image = noise(16, 24)
    assert torch.equal(PatchGrid(8, fit)(image), to_uint8_tensor(image))


def test_the_longer_side_is_as_asked_and_otherwise_limited():
    assert PatchGrid(8, "crop", 64).resized(100, 200) == (32, 64)
    assert PatchGrid(8, "crop", 400).resized(100, 200) == (200, 400)
    assert PatchGrid(8, "crop").resized(100, 200) == (100, 200)
    assert PatchGrid(8, "crop").resized(2 * LARGEST, 500) == (LARGEST, 250)


def test_too_small_an_image_has_no_patches_unless_it_is_made_larger():
    assert PatchGrid(8, "crop").shape(7, 30) == (0, 3)
    assert PatchGrid(8, "crop")(noise(7, 30)).numel() == 0
    assert PatchGrid(8, "pad").shape(7, 30) == (1, 4)
    assert PatchGrid(8, "resize").shape(2, 30) == (1, 4)


def test_maps_come_back_patch_by_patch():
    maps = torch.arange(6.0).reshape(1, 2, 3) + 1
    squares = maps.repeat_interleave(8, 1).repeat_interleave(8, 2)
    cropped = PatchGrid(8, "crop").enlarge(maps, 21, 30)
    assert torch.equal(cropped[:, :16, :24], squares)
    assert not cropped[:, 16:].any() and not cropped[:, :, 24:].any()
    assert torch.equal(PatchGrid(8, "pad").enlarge(maps, 15, 18), squares[:, :15, :18])
    resized = PatchGrid(8, "resize").enlarge(maps, 15, 26)  # squares of 7.5 x 8.67
    assert torch.equal(resized[:, 3::8, 4::9], maps)
    twice = PatchGrid(8, "crop", 30).enlarge(maps, 40, 60)  # the image was halved
    assert torch.equal(twice[:, :32, :48], squares.repeat_interleave(2, 1).repeat_interleave(2, 2))


def test_smooth_maps_meet_in_the_middle_between_patches():
    maps = torch.tensor([[[0.0, 1.0]]])
    row = PatchGrid(8, "crop").enlarge(maps, 8, 16, smooth=True)[0, 0]
    assert row.diff().min() >= 0
    assert row[7] + row[8] == pytest.approx(1)
    assert 0 < row[7] < row[8] < 1


@given(
    fit=st.sampled_from(["crop", "pad", "resize"]),
    patch_size=st.integers(1, 20),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    longer_side=st.none() | st.integers(1, 90),
)
def test_any_size_gives_the_announced_patches_and_maps_of_its_own_size(fit, patch_size, height, width, longer_side):
    grid = PatchGrid(patch_size, fit, longer_side)
    rows, columns = grid.shape(height, width)
    assert grid(noise(height, width)).shape == (3, rows * patch_size, columns * patch_size)
    if rows and columns:
        large = grid.enlarge(torch.ones(2, rows, columns), height, width)
        assert large.shape == (2, height, width)
        if fit != "crop":
            assert large.all()
