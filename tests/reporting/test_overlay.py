import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import colormaps

from dinotools.data.masks import palette
from dinotools.reporting.overlay import heat, overlay

COLOURS = np.frombuffer(palette(), np.uint8).reshape(256, 3)


def frame(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)


@given(st.integers(0, 2**31 - 1), st.floats(0, 1))
def test_objects_are_blended_and_the_background_stays(seed, alpha):
    random = np.random.RandomState(seed)
    pixels, mask = frame(7, 9, seed), (random.randint(0, 256, (7, 9)) * random.randint(0, 2, (7, 9))).astype(np.uint8)
    before = pixels.copy()
    blended = overlay(pixels, mask, alpha, contour=False)
    expected = np.where(mask[..., None] > 0, (1 - alpha) * pixels + alpha * COLOURS[mask], pixels)
    np.testing.assert_allclose(blended, expected, atol=1.5)
    np.testing.assert_array_equal(blended[mask == 0], pixels[mask == 0])
    np.testing.assert_array_equal(pixels, before)


def test_the_contour_is_the_inner_edge_of_every_object():
    mask = np.zeros((12, 14), np.uint8)
    mask[3:9, 2:7] = 1
    mask[3:9, 7:12] = 2
    edge = mask > 0
    edge[4:8, 3:6] = edge[4:8, 8:11] = False
    pixels = frame(12, 14)
    drawn, plain = overlay(pixels, mask), overlay(pixels, mask, contour=False)
    np.testing.assert_array_equal(drawn[~edge], plain[~edge])
    np.testing.assert_allclose(drawn[edge], (COLOURS[mask[edge]] + 255.0) / 2, atol=1)


def test_the_end_of_the_frame_is_no_contour():
    pixels, mask = frame(6, 5), np.full((6, 5), 3, np.uint8)
    np.testing.assert_array_equal(overlay(pixels, mask), overlay(pixels, mask, contour=False))


@pytest.mark.parametrize(("height", "width"), [(480, 1), (1080, 2), (2160, 4)])
def test_the_contour_grows_with_the_frame(height, width):
    mask = np.zeros((height, 30), np.uint8)
    mask[:, 10:] = 1
    row = overlay(np.zeros((height, 30, 3), np.uint8), mask)[height // 2]
    assert np.count_nonzero((row == (191, 127, 127)).all(1) | (row == (192, 128, 128)).all(1)) == width


def test_any_shape_and_any_memory_order_will_do():
    for height, width in ((1, 1), (1, 40), (40, 1)):
        mask = np.ones((height, width), np.uint8)
        assert overlay(frame(height, width), mask).shape == (height, width, 3)
    pixels, mask = frame(8, 6), frame(8, 6)[..., 0]
    turned = overlay(pixels.transpose(1, 0, 2), mask.T)
    np.testing.assert_array_equal(turned.transpose(1, 0, 2), overlay(pixels, mask))


def test_heat_has_the_colours_of_its_map():
    values = np.linspace(0, 3, 256, dtype=np.float32).reshape(16, 16)
    for name in ("magma", "viridis"):
        expected = 255 * colormaps[name](np.arange(256))[:, :3].reshape(16, 16, 3)
        shown = heat(frame(16, 16), values, colours=name, alpha=1)
        np.testing.assert_allclose(shown, expected, atol=1)


def test_heat_lets_the_frame_through():
    pixels, values = frame(9, 5), np.random.RandomState(1).rand(9, 5)
    solid = heat(pixels, values, alpha=1)
    np.testing.assert_allclose(heat(pixels, values, alpha=0.25), 0.75 * pixels + 0.25 * solid.astype(float), atol=1.5)
    np.testing.assert_array_equal(heat(pixels, values, alpha=0), pixels)


def test_one_highest_value_makes_frames_of_a_clip_comparable():
    pixels, values = frame(4, 4), np.random.RandomState(1).rand(4, 4)
    np.testing.assert_array_equal(heat(pixels, values), heat(pixels, 7 * values))
    weaker = heat(pixels, values, highest=2, alpha=1)
    assert weaker.sum() < heat(pixels, values, highest=1, alpha=1).sum()
    np.testing.assert_array_equal(heat(pixels, values + 5, highest=2), heat(pixels, np.full((4, 4), 2.0)))
    np.testing.assert_array_equal(heat(pixels, 0 * values), heat(pixels, 0 * values, highest=1))
