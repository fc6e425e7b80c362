import math
from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as TF
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from torchvision.transforms import ColorJitter, RandomResizedCrop

from dinotools.configs.crops import CropOptions
from dinotools.configs.normalization import IMAGENET_MEAN, IMAGENET_STD
from dinotools.data import photometric
from dinotools.data.augment import CropParameters, MultiCrop, draw_box, draw_jitter
from dinotools.data.geometry import cut, pixels_of
from dinotools.data.samples import photos
from dinotools.data.transforms import normalize, to_uint8_tensor

PHOTO = photos().load(1)
DRAWS = 10_000
SCALES = [(0.4, 1.0), (0.05, 0.4)]
SIZES = [(500, 375), (32, 32), (300, 640)]


class TorchChance:
    """Draws like random.Random, out of torch's generator and in its precision."""

    @staticmethod
    def uniform(low: float, high: float) -> float:
        return torch.empty(1).uniform_(low, high).item()

    @staticmethod
    def randint(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,)))


def official_box(width: int, height: int, scale: tuple[float, float]) -> tuple[int, int, int, int]:
    shape = torch.empty(3, height, width, device="meta")
    top, left, h, w = RandomResizedCrop.get_params(shape, list(scale), [3 / 4, 4 / 3])
    return left, top, w, h


def assert_frequency(count: int, n: int, p: float) -> None:
    assert abs(count - n * p) <= 4 * math.sqrt(n * p * (1 - p)), f"{count} of {n}, expected a share of {p}"


def assert_same_mean(a: np.ndarray, b: np.ndarray) -> None:
    error = math.sqrt(a.var() / len(a) + b.var() / len(b))
    assert abs(a.mean() - b.mean()) < 4 * error


# drawing


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("width", "height"), [*SIZES, (1, 1), (2, 3), (1000, 10), (10, 1000)])
def test_boxes_are_torchvisions_where_chance_is_the_same(width, height, scale):
    differing = 0
    for seed in range(200):
        torch.manual_seed(seed)
        ours = draw_box(width, height, scale, TorchChance())
        torch.manual_seed(seed)
        differing += ours != official_box(width, height, scale)
    assert differing <= 1  # its logarithms are float32, which may round a side otherwise once in a while


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_moments_of_boxes_are_torchvisions(width, height, scale):
    rng = Random(0)
    torch.manual_seed(0)
    ours = np.array([draw_box(width, height, scale, rng) for _ in range(DRAWS)], float)
    theirs = np.array([official_box(width, height, scale) for _ in range(DRAWS)], float)
    for measure in (
        lambda box: box[:, 2] * box[:, 3] / (width * height),
        lambda box: (box[:, 2] * box[:, 3] / (width * height)) ** 2,
        lambda box: np.log(box[:, 2] / box[:, 3]),
        lambda box: np.log(box[:, 2] / box[:, 3]) ** 2,
        lambda box: box[:, 0] / width,
        lambda box: box[:, 1] / height,
    ):
        assert_same_mean(measure(ours), measure(theirs))


def test_frequencies_of_the_operations():
    rng = Random(1)
    multicrop = MultiCrop((224, 224, 96, 96))
    drawn = [multicrop.draw(64, 48, rng) for _ in range(DRAWS)]
    probabilities = [(1.0, 0.0), (0.1, 0.2), (0.5, 0.0), (0.5, 0.0)]  # blur, solarize of each view: the paper's table
    for view, (blur_p, solarize_p) in enumerate(probabilities):
        crops = [crops[view] for crops in drawn]
        assert_frequency(sum(crop.flip for crop in crops), DRAWS, 0.5)
        assert_frequency(sum(bool(crop.jitter) for crop in crops), DRAWS, 0.8)
        assert_frequency(sum(crop.gray for crop in crops), DRAWS, 0.2)
        assert_frequency(sum(crop.blur_radius is not None for crop in crops), DRAWS, blur_p)
        assert_frequency(sum(crop.solarize for crop in crops), DRAWS, solarize_p)
        together = sum(crop.flip and crop.gray and bool(crop.jitter) for crop in crops)
        assert_frequency(together, DRAWS, 0.5 * 0.2 * 0.8)  # independent of one another
    radii = np.array([crops[0].blur_radius for crops in drawn])
    assert 0.1 <= radii.min() < 0.12
    assert 1.98 < radii.max() <= 2.0
    assert abs(radii.mean() - 1.05) < 4 * 1.9 / math.sqrt(12 * DRAWS)


def test_colour_jitter_is_torchvisions():
    rng = Random(2)
    torch.manual_seed(2)
    ours = [draw_jitter(rng) for _ in range(DRAWS)]
    jitter = ColorJitter(0.4, 0.4, 0.2, 0.1)
    limits = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    theirs = [jitter.get_params(*limits)[1:] for _ in range(DRAWS)]
    for i, (name, (low, high)) in enumerate(zip(("brightness", "contrast", "saturation", "hue"), limits, strict=True)):
        factors = np.array([dict(pairs)[name] for pairs in ours])
        width = high - low
        assert low <= factors.min() < low + 0.01 * width
        assert high - 0.01 * width < factors.max() <= high
        assert_same_mean(factors, np.array([factors_of[i] for factors_of in theirs]))
    orders = Counter(tuple(name for name, _ in pairs) for pairs in ours)
    assert len(orders) == 24
    for count in orders.values():
        assert_frequency(count, DRAWS, 1 / 24)


def test_views_have_their_sizes_scales_and_blur():
    multicrop = MultiCrop((64, 64, 24, 24, 16), (0.5, 0.6), (0.1, 0.2), blur_radius=(0.3, 0.4))
    rng = Random(3)
    for _ in range(100):
        crops = multicrop.draw(400, 400, rng)
        assert [crop.size for crop in crops] == [64, 64, 24, 24, 16]
        shares = [crop.box[2] * crop.box[3] / 400**2 for crop in crops]
        assert all(0.49 < share < 0.61 for share in shares[:2])
        assert all(0.09 < share < 0.21 for share in shares[2:])
        assert all(crop.blur_radius is None or 0.3 <= crop.blur_radius <= 0.4 for crop in crops)
    assert len(MultiCrop((8, 8)).draw(9, 9, rng)) == 2


# carrying out


def official(image: Image.Image, crop: CropParameters) -> Image.Image:
    """The same operations in torchvision's own words."""
    left, top, width, height = crop.box
    size = [crop.size, crop.size]
    image = TF.resized_crop(image, top, left, height, width, size, TF.InterpolationMode.BICUBIC)
    if crop.flip:
        image = TF.hflip(image)
    operations = {
        "brightness": TF.adjust_brightness,
        "contrast": TF.adjust_contrast,
        "saturation": TF.adjust_saturation,
        "hue": TF.adjust_hue,
    }
    for name, factor in crop.jitter:
        image = operations[name](image, factor)
    if crop.gray:
        image = TF.rgb_to_grayscale(image, num_output_channels=3)
    if crop.blur_radius is not None:
        image = image.filter(ImageFilter.GaussianBlur(radius=crop.blur_radius))
    return TF.solarize(image, 128) if crop.solarize else image


def carried_out(image: Image.Image, crop: CropParameters) -> torch.Tensor:
    square = cut(pixels_of(image), crop.box, crop.size, crop.flip)
    row = photometric.row(crop.jitter, crop.gray, crop.blur_radius, crop.solarize)
    return photometric.apply(square[None], [row])[0]


def differences(image: Image.Image, crop: CropParameters) -> torch.Tensor:
    return (carried_out(image, crop).int() - to_uint8_tensor(official(image, crop)).int()).abs()


@pytest.mark.parametrize(
    ("change", "most"),
    [
        ({}, 1),
        ({"flip": True}, 1),
        ({"jitter": (("brightness", 1.37),)}, 2),
        ({"jitter": (("contrast", 0.61),)}, 2),
        ({"jitter": (("saturation", 1.19),)}, 2),
        ({"jitter": (("hue", -0.083),)}, 12),
        ({"gray": True}, 1),
        ({"blur_radius": 0.4}, 2),
        ({"blur_radius": 1.9}, 2),
        ({"box": (5, 7, 33, 21)}, 1),
        ({"size": 350}, 1),
    ],
)
def test_each_operation_is_torchvisions_to_rounding(change, most):
    plain = CropParameters(96, (100, 50, 250, 300), False, (), False, None, False)
    crop = replace(plain, **change)
    wrong = differences(PHOTO, crop)
    assert wrong.max() <= most
    assert wrong.float().mean() < 0.03
    assert not change or not torch.equal(carried_out(PHOTO, crop), carried_out(PHOTO, plain))


def test_all_operations_together_are_torchvisions_to_rounding():
    for crop in MultiCrop((64, 64) + (32,) * 100).draw(*PHOTO.size, Random(4)):
        assert differences(PHOTO, crop).float().mean() < 0.1


def test_pixels_outside_of_the_box_have_no_part_in_the_crop():
    image = torch.zeros(3, 60, 80, dtype=torch.uint8)
    image[:, 20:50, 10:70] = 200
    assert (cut(image, (10, 20, 60, 30), 16, False) == 200).all()
    assert (cut(image, (10, 20, 60, 30), 96, True) == 200).all()


def test_unfinished_crops_and_their_table_give_the_finished_ones():
    sizes = (64, 64, 32, 32, 24)
    finished = MultiCrop(sizes)(PHOTO, Random(5))
    left = MultiCrop(sizes, finish=False)(PHOTO, Random(5))
    assert left.photometrics.shape == (5, photometric.COLUMNS)
    for done, crop, row in zip(finished, left.crops, left.photometrics, strict=True):
        assert torch.equal(done, photometric.apply(crop[None], [row.tolist()])[0])
    assert not all(torch.equal(done, crop) for done, crop in zip(finished, left.crops, strict=True))


def test_finished_crops_normalised_are_the_official_float_images():
    crops = MultiCrop((64, 64, 32, 32, 32, 32))
    tensors = crops(PHOTO, Random(5))
    assert [tuple(tensor.shape) for tensor in tensors] == [(3, 64, 64)] * 2 + [(3, 32, 32)] * 4
    for tensor, crop in zip(tensors, crops.draw(*PHOTO.size, Random(5)), strict=True):
        assert tensor.dtype == torch.uint8
        expected = TF.normalize(TF.to_tensor(official(PHOTO, crop)), IMAGENET_MEAN, IMAGENET_STD)
        assert (normalize(tensor) - expected).abs().mean() < 0.1 / 255 / min(IMAGENET_STD)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("channels", [1, 5])
def test_images_of_other_channels_keep_box_size_flip_and_blur(channels, dtype):
    image = torch.randint(0, 256, (channels, 50, 70)).to(dtype)
    multicrop = MultiCrop((24, 24, 12), colors=False)
    drawn, colored = multicrop.draw(70, 50, Random(6)), MultiCrop((24, 24, 12)).draw(70, 50, Random(6))
    assert [(crop.box, crop.flip, crop.blur_radius) for crop in drawn] == [
        (crop.box, crop.flip, crop.blur_radius) for crop in colored
    ]
    assert not any(crop.jitter or crop.gray or crop.solarize for crop in drawn)
    crops = multicrop(image, Random(6))
    assert [(tuple(crop.shape), crop.dtype) for crop in crops] == [((channels, n, n), dtype) for n in (24, 24, 12)]
    assert crops[0].float().std() < image.float().std()


def test_options_decide_where_crops_are_finished():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    for augment_on, device, here in (
        ("auto", cpu, True),
        ("auto", cuda, False),
        ("device", cpu, False),
        ("workers", cuda, True),
    ):
        multicrop = MultiCrop.of(CropOptions(augment_on=augment_on, crops="2x48+1x32+2x16"), device)
        assert multicrop.finish is here
        assert [view.size for view in multicrop.views] == [48, 48, 32, 16, 16]
        assert multicrop.views[0].scale == (0.4, 1.0)
        assert multicrop.views[2].scale == (0.05, 0.4)


@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 40), st.integers(0, 2**32))
@example(1, 1, 224, 0)
@example(1, 5000, 8, 0)
@example(5000, 1, 8, 0)
def test_any_image_can_be_cut(width, height, size, seed):
    multicrop = MultiCrop((size, size, 4, 4))
    for crop in multicrop.draw(width, height, Random(seed)):
        left, top, w, h = crop.box
        assert 0 <= left < left + w <= width
        assert 0 <= top < top + h <= height
    crops = multicrop(Image.new("RGB", (width, height), "teal"), Random(seed))
    assert [tuple(crop.shape) for crop in crops] == [(3, size, size)] * 2 + [(3, 4, 4)] * 2
