from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dinotools.data.masks import palette, read_first_mask, read_mask, write_mask
from dinotools.runtime.errors import DinotoolsError

# the colours of PASCAL VOC as its development kit prints them: background, aeroplane, ..., tvmonitor
VOC_CLASSES = """
0 0 0  128 0 0  0 128 0  128 128 0  0 0 128  128 0 128  0 128 128  128 128 128  64 0 0  192 0 0  64 128 0
192 128 0  64 0 128  192 0 128  64 128 128  192 128 128  0 64 0  128 64 0  0 192 0  128 192 0  0 64 128
"""
VOC_VOID = (224, 224, 192)


def saved(path: Path, pixels: np.ndarray, mode: str | None = None) -> Path:
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(path)
    return path


def squares(*objects: int, side: int = 8) -> np.ndarray:
    """A row of squares: background, then each object."""
    return np.kron(np.array([[0, *objects]], np.uint8), np.ones((side, side), np.uint8))


def test_the_palette_is_that_of_voc():
    colours = np.frombuffer(palette(), np.uint8).reshape(256, 3)
    np.testing.assert_array_equal(colours[:21].ravel(), np.array(VOC_CLASSES.split(), int))
    assert tuple(colours[255]) == VOC_VOID
    assert len(np.unique(colours, axis=0)) == 256


def test_every_number_comes_back_from_an_indexed_png_with_the_palette(tmp_path):
    mask = np.arange(256, dtype=np.uint8).reshape(8, 32)
    write_mask(tmp_path / "new" / "00000.png", mask)
    np.testing.assert_array_equal(read_mask(tmp_path / "new" / "00000.png"), mask)
    with Image.open(tmp_path / "new" / "00000.png") as image:
        assert (image.format, image.mode, bytes(image.getpalette())) == ("PNG", "P", palette())
        np.testing.assert_array_equal(
            np.asarray(image.convert("RGB")).reshape(256, 3), np.frombuffer(palette(), np.uint8).reshape(256, 3)
        )
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["00000.png"]


def test_a_mask_that_cannot_be_written_says_so_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DinotoolsError, match="cannot be written"):
        write_mask(tmp_path / "file" / "00000.png", squares(1))
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DinotoolsError, match="cannot be written"):
        write_mask(tmp_path / "folder.png", squares(1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


def test_numbers_are_read_whatever_the_palette_and_the_depth(tmp_path):
    mask = squares(1, 2, 3)
    for bits in (2, 4, 8):
        image = Image.fromarray(mask)
        image.putpalette(bytes(range(12)))
        image.save(tmp_path / "mask.png", bits=bits)
        np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), mask)
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "grey.png", mask)), mask)
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "one.png", squares(255), "1")), squares(1))


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGB", "colours"), ("RGBA", "colours"), ("LA", "colours"), ("I;16", "large numbers")]
)
def test_colours_and_large_numbers_are_refused_by_name(tmp_path, mode, kind):
    with pytest.raises(DinotoolsError, match=rf"mask\.png: holds {kind} \(mode {mode}\).*indexed"):
        read_mask(saved(tmp_path / "mask.png", squares(1), mode))


def test_what_is_no_mask_is_named(tmp_path):
    saved(tmp_path / "mask.jpg", squares(1))
    whole = saved(tmp_path / "mask.png", np.random.RandomState(0).randint(0, 9, (64, 64)).astype(np.uint8)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    for name, what in [
        ("mask.jpg", "is not a PNG"),
        ("empty.png", "is not a PNG"),
        ("cut.png", "cannot be read"),
        ("none.png", "cannot be read .*No such file"),
    ]:
        with pytest.raises(DinotoolsError, match=what) as error:
            read_mask(tmp_path / name)
        assert error.value.where == tmp_path / name


def test_a_first_mask_keeps_its_numbers(tmp_path):
    path = saved(tmp_path / "mask.png", squares(2, 7))
    np.testing.assert_array_equal(read_first_mask([path], 8, 24), squares(2, 7))


def test_white_is_one_object_alone_and_void_beside_others(tmp_path, capsys):
    path = saved(tmp_path / "mask.png", squares(255))
    np.testing.assert_array_equal(read_first_mask([path], 8, 16), squares(1))
    assert not capsys.readouterr().err
    saved(path, squares(1, 255))
    np.testing.assert_array_equal(read_first_mask([path], 8, 24), squares(1, 0))
    assert "255 is void" in capsys.readouterr().err


def test_binary_masks_are_objects_in_their_order_and_the_later_wins(tmp_path, capsys):
    first = saved(tmp_path / "b.png", squares(255, 255, 0))
    second = saved(tmp_path / "a.png", squares(0, 1, 9))
    np.testing.assert_array_equal(read_first_mask([first, second], 8, 32), squares(1, 2, 2))
    assert "a.png: takes 64 of its 128 pixels" in capsys.readouterr().err


def test_a_mask_without_objects_is_refused(tmp_path):
    empty, one = saved(tmp_path / "empty.png", squares(0)), saved(tmp_path / "one.png", squares(1))
    for paths in ([empty], [one, empty]):
        with pytest.raises(DinotoolsError, match=r"empty\.png: marks no object"):
            read_first_mask(paths, 8, 16)
    with pytest.raises(DinotoolsError, match=r"one\.png: is covered"):
        read_first_mask([one, saved(tmp_path / "all.png", squares(1, side=8) + 1)], 8, 16)
    with pytest.raises(DinotoolsError, match="names no file"):
        read_first_mask([], 8, 16)


def test_there_are_255_objects_and_no_more(tmp_path):
    paths = []
    for number in range(256):
        pixels = np.zeros((16, 16), np.uint8)
        pixels.flat[number] = 1
        paths.append(saved(tmp_path / f"{number:03}.png", pixels))
    np.testing.assert_array_equal(
        read_first_mask(paths[:255], 16, 16).ravel(), np.append(np.arange(1, 256), 0).astype(np.uint8)
    )
    with pytest.raises(DinotoolsError, match="256 objects are more than 255"):
        read_first_mask(paths, 16, 16)


def test_a_mask_of_another_size_is_scaled_if_it_has_the_same_aspect(tmp_path, capsys):
    path = saved(tmp_path / "mask.png", squares(9, 200))
    np.testing.assert_array_equal(read_first_mask([path], 16, 48), squares(9, 200, side=16))
    assert "is 24 x 8, the video 48 x 16; scaled" in capsys.readouterr().err
    for height, width in ((24, 8), (8, 25)):
        with pytest.raises(DinotoolsError, match=f"is 24 x 8, the video {width} x {height}: another aspect"):
            read_first_mask([path], height, width)
    read_first_mask([saved(path, np.ones((480, 854), np.uint8))], 1080, 1920)  # as close as whole pixels come


def test_masks_of_unequal_sizes_are_refused(tmp_path):
    paths = [saved(tmp_path / "a.png", squares(1)), saved(tmp_path / "b.png", squares(1, side=4))]
    with pytest.raises(DinotoolsError, match=r"b\.png: is 8 x 4, .*a\.png 16 x 8"):
        read_first_mask(paths, 8, 16)


def test_an_object_that_scaling_would_lose_is_an_error(tmp_path):
    mask = np.ones((16, 16), np.uint8)
    mask[0, 0] = 5
    with pytest.raises(DinotoolsError, match="object 5 has no pixel left"):
        read_first_mask([saved(tmp_path / "mask.png", mask)], 4, 4)
