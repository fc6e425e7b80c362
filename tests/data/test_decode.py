import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dinotools.data.images import UnreadableImage, decode

RNG = np.random.RandomState(0)
COLOURS = RNG.randint(0, 256, (6, 4, 3)).astype(np.uint8)  # 4 wide, 6 high
ORIENTATION = 0x0112


def save(path: Path, image: Image.Image | None = None, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or Image.fromarray(COLOURS)).save(path, **options)
    return path


def pixels(path: Path) -> np.ndarray:
    image = decode(path)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("extension", ["bmp", "gif", "png", "ppm", "tif", "tiff", "webp", "PNG", "Tiff"])
def test_lossless_formats_keep_every_pixel(tmp_path, extension):
    options = {"lossless": True} if extension == "webp" else {}
    assert (pixels(save(tmp_path / f"a.{extension}", **options)) == COLOURS).all()


def test_jpeg_is_what_pillow_decodes(tmp_path):
    path = save(tmp_path / "a.jpg", Image.fromarray(COLOURS).resize((40, 60)), quality=90)
    assert (pixels(path) == np.asarray(Image.open(path).convert("RGB"))).all()


def test_gray_is_repeated(tmp_path):
    gray = COLOURS[..., 0]
    assert (pixels(save(tmp_path / "a.png", Image.fromarray(gray))) == gray[..., None]).all()
    assert (pixels(save(tmp_path / "a.pgm", Image.fromarray(gray))) == gray[..., None]).all()


def test_one_bit_becomes_black_and_white(tmp_path):
    bits = COLOURS[..., 0] > 127
    assert (pixels(save(tmp_path / "a.png", Image.fromarray(bits))) == bits[..., None] * 255).all()


def test_transparency_lies_over_white(tmp_path):
    alpha = np.array([[0, 255, 128, 64]] * 6, np.uint8)
    expected = np.round(COLOURS * (alpha[..., None] / 255) + 255 * (1 - alpha[..., None] / 255))
    rgba = Image.fromarray(np.dstack([COLOURS, alpha]))
    assert np.abs(pixels(save(tmp_path / "rgba.png", rgba)) - expected).max() <= 1
    la = Image.merge("LA", (Image.fromarray(COLOURS[..., 0]), Image.fromarray(alpha)))
    expected = np.repeat(expected[..., :1], 3, axis=2)
    assert np.abs(pixels(save(tmp_path / "la.png", la)) - expected).max() <= 1


def test_the_transparent_entry_of_a_palette_becomes_white(tmp_path):
    indices = (COLOURS[..., 0] % 3).astype(np.uint8)
    palette = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]], np.uint8)
    image = Image.fromarray(indices).convert("P")
    image.putdata(indices.ravel().tolist())
    image.putpalette(palette.ravel().tolist())
    opaque = palette[indices]
    assert (pixels(save(tmp_path / "opaque.png", image)) == opaque).all()
    for name in ("one.png", "one.gif"):
        expected = np.where((indices == 1)[..., None], 255, opaque)
        assert (pixels(save(tmp_path / name, image, transparency=1)) == expected).all()


def test_the_transparent_colour_of_an_rgb_png_becomes_white(tmp_path):
    image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    assert pixels(save(tmp_path / "a.png", image, transparency=(1, 2, 3))).tolist() == [[[255] * 3, [4, 5, 6]]]


def test_cmyk(tmp_path):
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # no cyan, all magenta and yellow: red
    for name in ("a.jpg", "a.tif"):
        assert np.abs(pixels(save(tmp_path / name, cmyk)).astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, name):
    values = np.array([[0, 257, 300, 1000], [32767, 32768, 65278, 65535]], np.uint16)
    found = pixels(save(tmp_path / name, Image.fromarray(values)))
    assert (found == np.round(values / 257)[..., None]).all()


def test_thirty_two_bit_integers_are_read_as_sixteen(tmp_path):
    values = np.array([[0, 25700, 65535, 1_000_000, -5]], np.int32)
    assert pixels(save(tmp_path / "a.tif", Image.fromarray(values)))[0, :, 0].tolist() == [0, 100, 255, 255, 0]


def test_big_endian_sixteen_bit_tiff(tmp_path):
    body = struct.pack(">HH", 257 * 7, 257 * 200)
    tags = [(256, 2), (257, 1), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 4)]
    entries = b"".join(struct.pack(">HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    header = struct.pack(">2sHI", b"MM", 42, 12) + body
    (tmp_path / "a.tif").write_bytes(header + struct.pack(">H", len(tags)) + entries + struct.pack(">I", 0))
    assert pixels(tmp_path / "a.tif")[0, :, 0].tolist() == [7, 200]


def test_floating_point_pixels_are_refused(tmp_path):
    path = save(tmp_path / "a.tif", Image.fromarray(np.ones((2, 2), np.float32)))
    with pytest.raises(UnreadableImage, match="no agreed range"):
        decode(path)


@pytest.mark.parametrize("extension", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, extension, orientation):
    # what a camera held so would have stored: the inverse of what a viewer does (EXIF 2.3, tag 274)
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](COLOURS)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"lossless": True} if extension == "webp" else {}
    path = save(tmp_path / f"a.{extension}", Image.fromarray(np.ascontiguousarray(stored)), exif=exif, **options)
    assert (pixels(path) == COLOURS).all()


def test_damaged_exif_does_not_hide_the_pixels(tmp_path):
    path = save(tmp_path / "a.jpg", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff garbage")
    assert pixels(path).shape == COLOURS.shape


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 6), colour) for colour in ((250, 0, 0), (0, 250, 0))]
    for name in ("a.gif", "a.webp", "a.png", "a.tif"):
        options = {"lossless": True} if name == "a.webp" else {}
        path = save(tmp_path / name, frames[0], save_all=True, append_images=frames[1:], **options)
        assert pixels(path)[0, 0].tolist() == [250, 0, 0]


def bomb(path: Path) -> Path:
    path.write_bytes(b"P6 200000 200000 255\n")
    return path


def truncated(path: Path) -> Path:
    data = save(path, Image.fromarray(RNG.randint(0, 256, (64, 64, 3)).astype(np.uint8))).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.bmp", "a.tif", "a.webp", "a.ppm"])
def test_truncated_files_are_unreadable(tmp_path, name):
    with pytest.raises(UnreadableImage) as caught:
        decode(truncated(tmp_path / name))
    assert caught.value.path == str(tmp_path / name)
    assert caught.value.reason


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda path: path.touch(), "empty"),
        (lambda path: path.write_text("<html>404</html>"), "not an image of a known format"),
        (lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "not an image"),
        (bomb, "decompression bomb"),
        (lambda path: None, "No such file"),
        (lambda path: path.symlink_to("nowhere"), "No such file"),
        (lambda path: path.mkdir(), "directory"),
    ],
)
def test_why_a_file_is_unreadable(tmp_path, write, reason):
    path = tmp_path / "a.png"
    write(path)
    with pytest.raises(UnreadableImage) as caught:
        decode(path)
    assert reason in str(caught.value)
    assert caught.value.path == str(path)


@given(data=st.data())
def test_damage_anywhere_is_either_unseen_or_unreadable(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damage")
    extension = data.draw(st.sampled_from(["jpg", "png", "gif", "tif", "webp", "bmp", "ppm"]))
    path = save(folder / f"a.{extension}")
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        assert decode(path).mode == "RGB"
    except UnreadableImage as error:
        assert error.reason


def test_unreadable_images_travel_between_processes():
    copy = pickle.loads(pickle.dumps(UnreadableImage("a.png", "torn")))
    assert (copy.path, copy.reason, str(copy)) == ("a.png", "torn", "a.png: torn")
