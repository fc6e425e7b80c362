import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dinotools.configs.data import DataStatsConfig
from dinotools.data.stats import Moments, drawn, run
from dinotools.runtime.errors import DinotoolsError


@pytest.fixture
def photos(tmp_path):
    """Three images of different sizes, and what lies on their path."""
    rng = np.random.RandomState(0)
    arrays = [rng.randint(low, 256, (height, 7, 3)).astype(np.uint8) for low, height in ((0, 4), (100, 9), (200, 5))]
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(tmp_path / f"{i}.png")
    return tmp_path, np.concatenate([array.reshape(-1, 3) for array in arrays]) / 255


@pytest.mark.parametrize("workers", [0, 2])
def test_every_pixel_counts_the_same(photos, workers):
    folder, pixels = photos
    (folder / "torn.png").write_bytes(b"torn")
    result = run(DataStatsConfig(data=str(folder), workers=workers))
    np.testing.assert_allclose(result.metrics["mean"], pixels.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(result.metrics["std"], pixels.std(axis=0), rtol=1e-12)
    assert {name: result.metrics[name] for name in ("images", "unreadable", "in_all")} == {
        "images": 3,
        "unreadable": 1,
        "in_all": 4,
    }
    assert result.metrics["height"] == {"min": 4, "median": 5, "max": 9}
    assert result.metrics["width"] == {"min": 7, "median": 7, "max": 7}
    assert result.details["data"]["skipped"] == [str(folder / "torn.png")]
    mean = ",".join(f"{value:.5g}" for value in pixels.mean(axis=0))
    assert any(f"--channel-mean {mean} --channel-std " in note for note in result.notes)


def test_other_channels_are_in_their_own_units(tmp_path):
    values = 30000 + np.random.RandomState(0).randn(4, 2, 30, 20)
    for i, array in enumerate(values):
        np.save(tmp_path / f"{i}.npy", array)
    result = run(DataStatsConfig(data=str(tmp_path), in_chans=2, workers=0))
    stored = values.astype(np.float32).astype(np.float64).transpose(1, 0, 2, 3).reshape(2, -1)
    np.testing.assert_allclose(result.metrics["mean"], stored.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(result.metrics["std"], stored.std(axis=1), rtol=1e-9)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.floats(-1e6, 1e6), st.integers(0, 99))
def test_moments_add_up(widths, offset, seed):
    rng = np.random.RandomState(seed)
    images = [torch.from_numpy(rng.randn(2, 3, width) + offset) for width in widths]
    total = Moments.of(images[0])
    for image in images[1:]:
        total = total + Moments.of(image)
    pixels = torch.cat(images, dim=2).flatten(1).numpy()
    assert total.pixels == pixels.shape[1]
    np.testing.assert_allclose(total.mean, pixels.mean(axis=1), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(total.std, pixels.std(axis=1), rtol=1e-6)


def test_a_draw_is_ascending_distinct_and_seeded(photos):
    positions = drawn(1000, 20, seed=1)
    assert positions == sorted(set(positions))
    assert len(positions) == 20
    assert positions == drawn(1000, 20, seed=1) != drawn(1000, 20, seed=2)
    assert list(drawn(5, 9, seed=0)) == list(drawn(5, None, seed=0)) == [0, 1, 2, 3, 4]
    result = run(DataStatsConfig(data=str(photos[0]), images=2, workers=0))
    assert (result.metrics["images"], result.metrics["in_all"]) == (2, 3)


@pytest.mark.parametrize("option", ["images", "in_chans"])
def test_numbers_that_mean_nothing(option):
    with pytest.raises(DinotoolsError, match="above 0"):
        run(DataStatsConfig(data="digits", **{option: 0}))


def test_nothing_readable(tmp_path):
    for name in ("1.png", "2.png"):
        (tmp_path / name).write_bytes(b"torn")
    with pytest.raises(DinotoolsError, match="none of 2 images can be read") as caught:
        run(DataStatsConfig(data=str(tmp_path), workers=0))
    assert caught.value.where == str(tmp_path / "1.png")
