import numpy as np
import pytest
import torch
import torchvision.transforms as T
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from dinotools.data.images import ImageFiles
from dinotools.data.samples import Digits, photos
from dinotools.data.transforms import EvalImages, EvalTransform, collate_by_shape, normalize, to_uint8_tensor


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.RandomState(0).randint(0, 256, (height, width, 3)).astype(np.uint8))


def official(resize_size: int, crop_size: int) -> T.Compose:
    resize = T.Resize(resize_size, interpolation=T.InterpolationMode.BICUBIC)
    return T.Compose([resize, T.CenterCrop(crop_size), T.PILToTensor()])


def test_tensor_of_an_image():
    image = noise(5, 3)
    tensor = to_uint8_tensor(image)
    assert tensor.shape == (3, 3, 5)
    assert tensor.dtype == torch.uint8
    assert tensor[2, 1, 4] == image.getpixel((4, 1))[2]


@pytest.mark.parametrize("sizes", [{}, {"mean": (0.485, 0.456, 0.406), "std": (0.228, 0.224, 0.225)}])
def test_normalize_is_to_tensor_and_normalize_for_every_value(sizes):
    values = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).repeat(2, 3, 1, 1)
    kept = values.clone()
    mean, std = sizes.get("mean", (0.485, 0.456, 0.406)), sizes.get("std", (0.229, 0.224, 0.225))
    expected = T.Normalize(mean, std)(values.float().div(255))
    torch.testing.assert_close(normalize(values, **sizes), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(normalize(values[0], **sizes), expected[0], rtol=0, atol=1e-6)
    assert torch.equal(values, kept)


def test_normalize_leaves_float_inputs_alone():
    images = torch.full((1, 3, 2, 2), 128.0)
    normalize(images)
    assert (images == 128).all()


def test_normalize_stays_on_the_device(fake_cuda):
    batch = torch.empty(4, 3, 8, 8, dtype=torch.uint8, device=fake_cuda)
    assert normalize(batch).device.type == "cuda"
    assert normalize(batch).dtype == torch.float32


@pytest.mark.parametrize("sizes", [(256, 224), (32, 32), (36, 32), (100, 120)])
@pytest.mark.parametrize(
    "image",
    [photos().load(0), photos().load(2), noise(32, 32), noise(255, 257)],
    ids=lambda image: f"{image.width}x{image.height}",
)
def test_eval_transform_is_torchvisions(image, sizes):
    assert torch.equal(EvalTransform(*sizes)(image), official(*sizes)(image))


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 40), st.integers(1, 40))
@example(1, 1, 256, 224)
@example(1, 99, 8, 8)
def test_eval_transform_of_any_size(width, height, resize_size, crop_size):
    image = noise(width, height)
    found = EvalTransform(resize_size, crop_size)(image)
    assert found.shape == (3, crop_size, crop_size)
    if max(width, height) <= 100 * min(width, height):
        assert torch.equal(found, official(resize_size, crop_size)(image))


def test_a_line_of_pixels_does_not_fill_the_memory():
    line = noise(60_000, 1)
    found = EvalTransform()(line)
    assert found.shape == (3, 224, 224)
    middle = line.crop((30_000 - 2, 0, 30_000 + 2, 1))  # the centre crop sees less than one pixel
    assert found.float().mean(dim=(1, 2)).sub(torch.tensor(np.asarray(middle)[0, 1:3].mean(0))).abs().max() < 64


def test_samples_labels_and_indices():
    digits = EvalImages(Digits("val"), EvalTransform(32, 28))
    assert len(digits) == 397
    sample = digits[5]
    assert sample.image.shape == (3, 28, 28)
    assert (sample.label, sample.index) == (digits.source.labels[5], 5)
    assert EvalImages(photos(), EvalTransform())[0].label == -1


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_are_set_apart(tmp_path, workers):
    for name in ("a/0.png", "a/2.png", "b/3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        noise(9, 12).save(tmp_path / name)
    (tmp_path / "a" / "1.png").write_text("no image")
    (tmp_path / "b" / "4.png").touch()
    (tmp_path / "b" / "5.png").touch()
    images = EvalImages(ImageFiles.in_folder(tmp_path), EvalTransform(8, 8))
    batches = list(DataLoader(images, batch_size=2, num_workers=workers, collate_fn=collate_by_shape))
    assert [batch.indices.tolist() for batch in batches] == [[0], [2, 3], []]
    assert [batch.labels.tolist() for batch in batches] == [[0], [0, 1], []]
    found = [[alike.images.shape for alike in batch.by_shape()] for batch in batches]
    assert found == [[(1, 3, 8, 8)], [(2, 3, 8, 8)], []]
    assert all(batch.indices.dtype == batch.labels.dtype == torch.int64 for batch in batches)
    bad = [image for batch in batches for image in batch.bad]
    assert [image.path for image in bad] == [str(tmp_path / name) for name in ("a/1.png", "b/4.png", "b/5.png")]
    assert [image.reason for image in bad] == [
        "not an image of a known format",
        "the file is empty",
        "the file is empty",
    ]
