from random import Random

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as TF
from PIL import Image, ImageFilter, ImageOps
from torch._subclasses.fake_tensor import FakeTensorMode

from dinotools.data import photometric
from dinotools.data.augment import MultiCrop
from dinotools.data.samples import photos
from dinotools.data.training import CropBatch, finish

NOISE = Image.fromarray(np.random.RandomState(0).randint(0, 256, (120, 90, 3)).astype(np.uint8))
PHOTO = photos().load(1).crop((90, 60, 330, 290))
PLAIN = {"jitter": (), "gray": False, "blur_radius": None, "solarize": False}


def tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def table(*rows: dict) -> list[list[float]]:
    return [photometric.row(**{**PLAIN, **row}) for row in rows]


def pillow(image: Image.Image, jitter=(), gray=False, blur_radius=None, solarize=False) -> Image.Image:
    """The oracle: torchvision's operations for Pillow's images, one after the other."""
    for name, factor in jitter:
        image = getattr(TF, f"adjust_{name}")(image, factor)
    if gray:
        image = image.convert("L").convert("RGB")
    if blur_radius is not None:
        image = image.filter(ImageFilter.GaussianBlur(blur_radius))
    return ImageOps.solarize(image, 128) if solarize else image


def differences(image: Image.Image, row: dict) -> torch.Tensor:
    ours = photometric.apply(tensor(image)[None], table(row))[0]
    return (ours.int() - tensor(pillow(image, **row)).int()).abs()


@pytest.mark.parametrize("image", [NOISE, PHOTO], ids=["noise", "photo"])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_blends_are_pillows_to_the_bit(name, image):
    for factor in (0.6, 0.831, 1.0, 1.123, 1.4):
        assert differences(image, {"jitter": ((name, factor),)}).max() == 0


@pytest.mark.parametrize("row", [{}, {"gray": True}, {"solarize": True}, {"gray": True, "solarize": True}])
def test_gray_and_solarize_are_pillows_to_the_bit(row):
    for image in (NOISE, PHOTO):
        assert differences(image, row).max() == 0


@pytest.mark.parametrize("factor", [-0.1, -0.0523, 0.0, 0.0017, 0.0684, 0.1])
def test_hues_are_pillows_to_rounding(factor):
    # Pillow's hue is a byte: where its rounding falls the other way, a channel moves by up to 255 x 6 / 255 levels
    for image in (NOISE, PHOTO):
        wrong = differences(image, {"jitter": (("hue", factor),)})
        assert wrong.max() <= 6
        assert (wrong > 0).float().mean() < 1e-3


def test_hues_of_grays_and_of_pure_colours():
    colours = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]], np.uint8)
    image = Image.fromarray(colours[:, None] * np.arange(256, dtype=np.uint8)[:, None])
    for factor in (-0.1, 0.0, 0.07):
        assert differences(image, {"jitter": (("hue", factor),)}).max() == 0


@pytest.mark.parametrize("radius", [0.1, 0.2, 0.37, 0.61, 0.83, 1.07, 1.29, 1.41, 1.43, 1.66, 1.93, 2.03, 3.7, 9.1])
def test_blurs_are_pillows_to_rounding(radius):
    for image in (NOISE, PHOTO):
        wrong = differences(image, {"blur_radius": radius})
        assert wrong.max() <= 2
        assert (wrong > 0).float().mean() < 0.05


def test_radii_that_are_drawn_rarely_differ_by_a_level():
    rng = Random(0)
    shares = [float((differences(PHOTO, {"blur_radius": rng.uniform(0.1, 2)}) > 0).float().mean()) for _ in range(40)]
    assert sum(shares) / len(shares) < 2e-3


def test_a_blur_wider_than_the_crop():
    wrong = differences(PHOTO.resize((4, 3)), {"blur_radius": 5.3})
    assert wrong.max() <= 1


def drawn(n: int) -> list[dict]:
    crops = MultiCrop((24,) * n).draw(100, 100, Random(3))
    return [{name: getattr(crop, name) for name in PLAIN} for crop in crops]


def test_a_batch_is_its_crops_and_each_has_its_own_order():
    rows = drawn(60)
    crops = torch.stack([tensor(PHOTO.crop((i, i, i + 50, i + 40))) for i in range(60)])
    together = photometric.apply(crops, table(*rows))
    assert together.dtype == torch.uint8
    for crop, row, ours in zip(crops, rows, together, strict=True):
        assert torch.equal(ours, photometric.apply(crop[None], table(row))[0])
        wrong = (ours.int() - tensor(pillow(Image.fromarray(crop.permute(1, 2, 0).numpy()), **row)).int()).abs()
        assert wrong.float().mean() < 0.1
        assert row["solarize"] or wrong.max() <= 12  # one level of hue, made more of by contrast and saturation
    assert len({tuple(name for name, _ in row["jitter"]) for row in rows}) > 12


def test_crops_with_an_empty_row_are_unchanged():
    crops = torch.stack([tensor(NOISE)] * 3)
    before = crops.clone()
    everything = {"jitter": (("hue", 0.1), ("contrast", 1.3)), "blur_radius": 1.0, "solarize": True}
    after = photometric.apply(crops, table({}, everything, {}))
    assert torch.equal(crops, before)
    assert torch.equal(after[[0, 2]], before[[0, 2]])
    none = photometric.apply(crops, table({}, {}, {}))
    assert torch.equal(none, before)
    assert none.data_ptr() != crops.data_ptr()
    assert not torch.equal(after[1], before[1])


def test_the_order_of_jitter_matters():
    pairs = (("contrast", 1.4), ("brightness", 1.3), ("saturation", 0.8))
    one, other = photometric.apply(
        torch.stack([tensor(PHOTO)] * 2), table({"jitter": pairs}, {"jitter": tuple(reversed(pairs))})
    )
    assert not torch.equal(one, other)


def test_floats_of_any_channels_are_blurred_without_rounding():
    crops = torch.rand(2, 5, 20, 30) * 4000 - 1000
    blurred = photometric.apply(crops, table({"blur_radius": 1.3}, {}))
    assert blurred.dtype == torch.float32
    assert torch.equal(blurred[1], crops[1])
    assert blurred[0].frac().abs().max() > 0.1
    # three boxes with fractional ends: the same in float64, along one axis after the other
    reach, centre, edge = photometric.box(1.3)
    expected = crops[0].double().numpy()
    kernel = np.array([edge] + [centre] * (2 * reach + 1) + [edge])
    for axis in (2, 1):
        for _ in range(3):
            rims = [(0, 0)] * axis + [(reach + 1, reach + 1)] + [(0, 0)] * (2 - axis)
            padded = np.pad(expected, rims, mode="edge")
            expected = np.apply_along_axis(np.convolve, axis, padded, kernel, mode="valid")
    np.testing.assert_allclose(blurred[0].numpy(), expected, atol=2e-3)


@pytest.mark.parametrize("radius", [0.1, 0.5, 1.0, 1.5, 2.0, 7.0])
def test_three_boxes_have_the_variance_of_the_gaussian(radius):
    reach, centre, edge = photometric.box(radius)
    distances = np.arange(-reach - 1, reach + 2)
    weights = np.array([edge] + [centre] * (2 * reach + 1) + [edge])
    assert weights.sum() == pytest.approx(1)
    assert 0 <= edge <= centre
    assert 3 * (weights * distances**2).sum() == pytest.approx(radius**2)


def test_runs_on_a_device_without_waiting_for_it():
    rows = torch.tensor(table(*drawn(12)), dtype=torch.float64).view(4, 3, -1)
    with FakeTensorMode(allow_non_fake_inputs=True):  # refuses a mix of devices, and any look at a value
        batch = CropBatch(
            crops=[torch.zeros(3, 3, size, size, dtype=torch.uint8) for size in (16, 16, 8, 8)],
            indices=torch.arange(3),
            bad=[],
            photometrics=rows,
        )
        finished = finish(batch, torch.device("cuda"))
    assert [tuple(crop.shape) for crop in finished] == [tuple(crop.shape) for crop in batch.crops]
    assert {(crop.device.type, crop.dtype) for crop in finished} == {("cuda", torch.uint8)}


def test_finish_computes_what_the_workers_left():
    rows = torch.tensor(table(*drawn(12)), dtype=torch.float64).view(4, 3, -1)
    crops = [torch.stack([tensor(PHOTO.resize((size, size)))] * 3) for size in (32, 32, 24, 24)]
    batch = CropBatch(crops, torch.arange(3), [], rows)
    finished = finish(batch, torch.device("cpu"))
    for crop, parameters, done in zip(crops, rows, finished, strict=True):
        assert torch.equal(done, photometric.apply(crop, parameters.tolist()))
    assert finish(batch._replace(photometrics=None), torch.device("cpu")) == crops


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_device_draws_the_same_pixels():
    crops, rows = torch.randint(0, 256, (40, 3, 48, 48), dtype=torch.uint8), table(*drawn(40))
    ours, device = photometric.apply(crops, rows), photometric.apply(crops.cuda(), rows).cpu()
    assert (ours.int() - device.int()).abs().float().mean() < 0.01
