import io
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dinotools.data.channels import ChannelImages, decode_channels
from dinotools.data.images import ImageSource, UnreadableImage
from dinotools.data.sources import open_images, open_labelled_splits
from dinotools.data.transforms import EvalImages, EvalTransform, collate_by_shape, normalize
from dinotools.runtime.errors import DinotoolsError


def numbers(*shape: int, dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256 if dtype == "uint8" else 30000, shape).astype(dtype)


def read(array: np.ndarray, in_chans: int) -> torch.Tensor:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return decode_channels("x.npy", buffer.getvalue(), in_chans=in_chans)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float16", "float32", "float64", "bool", ">u2"])
@pytest.mark.parametrize(
    ("shape", "in_chans"), [((4, 5), 1), ((1, 4, 5), 1), ((4, 5, 1), 1), ((3, 4, 5), 3), ((4, 5, 7), 7), ((2, 9, 9), 2)]
)
def test_npy_of_any_shape_and_numbers(shape, in_chans, dtype):
    array = numbers(*shape).astype(dtype)
    pixels = read(array, in_chans)
    assert pixels.dtype == (torch.uint8 if dtype == "uint8" else torch.float32)
    assert pixels.is_contiguous()
    assert pixels.shape[0] == in_chans
    expected = array[None] if array.ndim == 2 else array if shape[0] == in_chans else array.transpose(2, 0, 1)
    assert (pixels.numpy() == expected).all()


@pytest.mark.parametrize(
    ("array", "in_chans", "what"),
    [
        (numbers(4, 5), 2, "4 x 5 values are not 2 channels of an image"),
        (numbers(4, 5), 5, "4 x 5 values are not 5 channels"),  # not five columns of one pixel each
        (numbers(3, 4, 5), 2, "3 x 4 x 5 values are not 2 channels"),
        (numbers(4, 9, 4), 4, "first and the last axis could both be the channels"),
        (numbers(2, 2, 4, 5), 2, "an array of 2 x 2 x 4 x 5 is no image"),
        (np.zeros((2, 0, 5)), 2, "is no image"),
        (np.array(1.0), 1, "an array of one number is no image"),
        (np.array([[1.0, np.nan]]), 1, "not all finite"),
        (np.array([[1.0, -np.inf]]), 1, "not all finite"),
        (np.array([[1e300, 1.0]]), 1, "not all finite"),
        (np.ones((3, 3), complex), 1, "type complex128 are no pixels"),
        (np.array([["a"]]), 1, "are no pixels"),
    ],
)
def test_what_is_no_image(array, in_chans, what):
    with pytest.raises(UnreadableImage, match=what) as caught:
        read(array, in_chans)
    assert caught.value.path == "x.npy"


def test_pickled_objects_are_never_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    np.save(tmp_path / "x.npy", np.array([[Trap()]], dtype=object), allow_pickle=True)
    with pytest.raises(UnreadableImage, match="Object arrays"):
        decode_channels(str(tmp_path / "x.npy"), None, in_chans=1)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00v\x00{'descr'", b"II*\x00torn", b"GIF89a"])
def test_damaged_files_are_unreadable(tmp_path, content):
    (tmp_path / "x.tif").write_bytes(content)
    with pytest.raises(UnreadableImage, match=r"x\.tif"):
        decode_channels(str(tmp_path / "x.tif"), None, in_chans=1)
    with pytest.raises(UnreadableImage, match="No such file"):
        decode_channels(str(tmp_path / "y.tif"), None, in_chans=1)


@pytest.mark.parametrize(
    ("array", "mode", "dtype"),
    [
        (numbers(4, 5), "L", torch.uint8),
        (numbers(4, 5, dtype="uint16"), "I;16", torch.float32),
        (numbers(4, 5, 4), "RGBA", torch.uint8),
        (numbers(4, 5).astype(np.float32) / 7 - 3, "F", torch.float32),
    ],
)
def test_what_pillow_reads_keeps_its_range(tmp_path, array, mode, dtype):
    image = Image.fromarray(array)
    assert image.mode == mode
    for kind in ("tif",) if mode == "F" else ("png", "tif"):
        image.save(tmp_path / f"x.{kind}")
        pixels = decode_channels(str(tmp_path / f"x.{kind}"), None, in_chans=4 if array.ndim == 3 else 1)
        assert pixels.dtype == dtype
        assert (pixels.numpy() == (array[None] if array.ndim == 2 else array.transpose(2, 0, 1))).all()


@pytest.mark.parametrize(
    ("shape", "dtype", "options"),
    [
        ((5, 16, 20), "uint16", {"photometric": "minisblack"}),  # pages
        ((5, 16, 20), "float32", {"photometric": "minisblack", "planarconfig": "separate"}),
        ((16, 20, 6), "uint8", {"photometric": "minisblack", "planarconfig": "contig"}),
        ((16, 20), "float64", {"photometric": "minisblack"}),
        ((16, 20), "uint32", {"photometric": "minisblack"}),
        ((16, 20), "int16", {"photometric": "minisblack"}),
        ((2, 16, 20), "int8", {"photometric": "minisblack", "byteorder": ">"}),
    ],
)
def test_scientific_tiff(tmp_path, shape, dtype, options):
    tifffile = pytest.importorskip("tifffile")
    array = numbers(*shape, dtype="uint8").astype(dtype)
    tifffile.imwrite(tmp_path / "x.tif", array, **options)
    in_chans = 1 if len(shape) == 2 else min(shape)
    pixels = decode_channels(str(tmp_path / "x.tif"), None, in_chans=in_chans)
    expected = array[None] if array.ndim == 2 else array if shape[0] == in_chans else array.transpose(2, 0, 1)
    assert (pixels.numpy() == expected).all()


def test_without_tifffile_the_extra_is_named(tmp_path, monkeypatch):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "x.tif", numbers(5, 16, 20), photometric="minisblack")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(UnreadableImage, match=r"pip install 'dinotools\[tiff\]'"):
        decode_channels(str(tmp_path / "x.tif"), None, in_chans=5)


# sources


def five_channels(folder: Path, dtype: str = "uint16") -> Path:
    for seed, name in enumerate(("train/a/1", "train/b/2", "val/a/3", "val/b/4")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{name}.npy", numbers(5, 20, 24, dtype=dtype, seed=seed))
    (folder / "train" / "a" / "preview.jpg").write_bytes(b"not looked at")
    return folder


def test_a_folder_of_five_channels(tmp_path):
    train, val = open_labelled_splits(str(five_channels(tmp_path)), in_chans=5)
    assert (train.labels, val.labels, train.classes) == ([0, 1], [0, 1], ["a", "b"])
    assert train.load(1).shape == (5, 20, 24)
    assert train.load(1).dtype == torch.float32
    assert Path(train.name(0)).name == "1.npy"


def test_shards_and_lists_of_channels(tmp_path):
    pytest.importorskip("webdataset")
    five_channels(tmp_path)
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        archive.add(tmp_path / "train" / "a" / "1.npy", "1.npy")
    (tmp_path / "list.txt").write_text("train/b/2.npy\n")
    source = open_images(f"{tmp_path}/0.tar,{tmp_path}/list.txt", "train", in_chans=5)
    assert [tuple(source.load(i).shape) for i in range(2)] == [(5, 20, 24)] * 2
    assert (source.load(0).numpy() == numbers(5, 20, 24, dtype="uint16")).all()


def test_other_channels_are_told_at_once(tmp_path):
    with pytest.raises(DinotoolsError, match="5 x 20 x 24 values are not 4 channels") as caught:
        open_images(five_channels(tmp_path), "train", in_chans=4)
    assert caught.value.where == str(tmp_path / "train" / "a" / "1.npy")
    assert "--in-chans 4" in caught.value.remedy
    with pytest.raises(DinotoolsError, match="three channels"):
        open_images("digits", "train", in_chans=1)


def test_bytes_and_larger_numbers_do_not_mix(tmp_path):
    five_channels(tmp_path)
    np.save(tmp_path / "train" / "b" / "2.npy", numbers(5, 20, 24))
    source = open_images(tmp_path, "train", in_chans=5)
    assert isinstance(source, ChannelImages)
    with pytest.raises(UnreadableImage, match="its values are bytes, those of the first images larger numbers"):
        source.load(1)
    five_channels(tmp_path / "bytes", "uint8")
    with pytest.raises(DinotoolsError, match="some images have bytes"):
        open_labelled_splits(str(tmp_path), val=str(tmp_path / "bytes" / "val"), in_chans=5)
    with pytest.raises(DinotoolsError, match="some images have bytes"):
        open_images(f"{tmp_path},{tmp_path / 'bytes'}", "train", in_chans=5)


def test_the_first_image_may_be_unreadable(tmp_path):
    five_channels(tmp_path)
    (tmp_path / "train" / "a" / "1.npy").write_bytes(b"torn")
    source: ImageSource = open_images(tmp_path, "train", in_chans=5)
    assert source.load(1).shape == (5, 20, 24)


def test_evaluation_of_other_channels(tmp_path):
    source = open_images(five_channels(tmp_path), "val", in_chans=5)
    batch = collate_by_shape([EvalImages(source, EvalTransform(16, 12))[i] for i in range(2)])
    (alike,) = batch.by_shape()
    assert alike.images.shape == (2, 5, 12, 12)
    assert alike.images.dtype == torch.float32
    pixels = torch.stack([source.load(i) for i in range(2)])
    assert (alike.images.mean() - pixels.mean()).abs() < 0.05 * pixels.mean()
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
    normalized = normalize(pixels, mean.tolist(), std.tolist())
    expected = (pixels - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(normalized, expected, rtol=1e-4, atol=1e-4)
