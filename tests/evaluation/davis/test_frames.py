"""Frames and masks on their way in and out, against the official ones."""

import numpy as np
import pytest
import torch
from PIL import Image

from dinotools.configs.normalization import IMAGENET_MEAN
from dinotools.data.transforms import normalize
from dinotools.evaluation.davis.frames import DAVIS_STD, WorkingSize, first_labels, full_size_mask, norm_mask, resize
from tests.evaluation.davis.drawn import DRAWN, RUNS
from tests.golden.official import arrays

GOLDEN = "davis_propagation"
MEAN, STD = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, DAVIS_STD))


def test_the_official_geometry():
    cases = arrays(GOLDEN)["geometry_h_w_framehw_seghw16"].tolist()
    for height, width, *frame, rows, columns in cases:
        size = WorkingSize().of(height, width)
        assert list(size) == frame
        if height != width:  # there the official mask lies the other way round
            assert (size[0] // 16, size[1] // 16) == (rows, columns)
    assert any(height == width for height, width, *_ in cases)


def test_a_frame_too_small_for_the_multiple_is_refused():
    assert WorkingSize(32, 16).of(100, 100) == (32, 32)
    with pytest.raises(ValueError, match="not 64 pixels long at 32"):
        WorkingSize(32).of(48, 60)


@pytest.mark.parametrize("run", RUNS)
def test_the_official_input_of_the_network(run):
    frames, _ = DRAWN[RUNS[run].sequence].frames()
    golden = {name: value for name, value in arrays(GOLDEN).items() if name.startswith(run)}
    working_size = WorkingSize(RUNS[run].short_side)
    for i, frame in enumerate(frames[:2]):
        pixels = working_size(Image.fromarray(frame))
        assert list(pixels.shape[1:]) == golden[f"{run}/resized_hw"].tolist()
        # in the official order of operations the means are equal to the bit, so the pixels are those of OpenCV, all
        exact = (pixels.float() / 255 - MEAN) / STD
        np.testing.assert_allclose(exact.double().mean(dim=(1, 2)), golden[f"{run}/frame{i}_channel_mean"], rtol=1e-12)
        if i == 0:
            top, left = (side // 2 for side in pixels.shape[1:])
            found = normalize(pixels, std=DAVIS_STD)
            np.testing.assert_allclose(found[:, :8, :8], golden[f"{run}/frame0_corner8"], atol=1e-6)
            centre = found[:, top : top + 8, left : left + 8]
            np.testing.assert_allclose(centre, golden[f"{run}/frame0_center8"], atol=1e-6)


def test_resizing_is_bilinear_to_a_level_and_leaves_what_has_the_size_already():
    frame = np.random.RandomState(0).randint(0, 256, size=(37, 53, 3)).astype(np.uint8)
    np.testing.assert_array_equal(resize(frame, 37, 53), frame)
    for height, width in ((20, 31), (90, 41), (37, 106)):
        exact = torch.nn.functional.interpolate(
            torch.from_numpy(frame).permute(2, 0, 1)[None].double(), (height, width), mode="bilinear"
        )[0].permute(1, 2, 0)
        assert np.abs(resize(frame, height, width) - exact.numpy()).max() < 1.01


def test_the_first_mask_is_nearest_pixels_and_classes_go_up_to_the_largest_left():
    mask = np.zeros((48, 64), np.uint8)
    mask[16:32, 32:64] = 2
    mask[0, 0] = 5  # a pixel that no patch takes
    labels = first_labels(mask, 3, 4)
    assert labels.shape == (3, 3, 4)
    expected = torch.zeros(3, 4, dtype=torch.long)
    expected[1, 2:] = 2
    assert torch.equal(labels.argmax(dim=0), expected)
    assert torch.equal(labels.sum(dim=0), torch.ones(3, 4))


@pytest.mark.parametrize("run", RUNS)
def test_the_official_first_mask(run):
    golden = arrays(GOLDEN)[f"{run}/first_seg_onehot"][0]
    _, mask = DRAWN[RUNS[run].sequence].frames()
    np.testing.assert_array_equal(first_labels(mask, *golden.shape[1:]), golden)


def test_the_official_stretch():
    given = torch.from_numpy(arrays(GOLDEN)["norm_mask/input"])
    expected = arrays(GOLDEN)["norm_mask/output"]
    assert np.isnan(expected).any()
    np.testing.assert_allclose(norm_mask(given), expected, rtol=1e-6)


def test_a_mask_at_full_size():
    labels = torch.zeros(3, 2, 3)
    labels[0] = 0.9
    labels[1, :, 0] = 0.6  # stretched to 1, it wins over a background that is nowhere less
    labels[0, :, 0] = 0.4
    mask = full_size_mask(labels, 8, 30, 72)
    assert mask.shape == (30, 72)
    assert mask.dtype == np.uint8
    assert (mask[:, :12] == 1).all()
    assert (mask[:, 36:] == 0).all()


def test_where_only_background_is_left_the_mask_is_background():
    labels = torch.stack([torch.ones(3, 4), torch.zeros(3, 4)])  # the background is constant: nan, which wins
    assert (full_size_mask(labels, 4, 12, 16) == 0).all()
