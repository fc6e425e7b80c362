import pytest
from PIL import Image

from dinotools.data.images import UnreadableImage
from dinotools.data.list_files import read_list
from dinotools.data.sources import open_images, open_labelled_splits
from dinotools.runtime.errors import DinotoolsError


@pytest.fixture
def pictures(tmp_path):
    for name in ("1.png", "a b/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 3), "red").save(tmp_path / name)
    return tmp_path


def test_paths_relative_to_the_list_or_absolute(pictures):
    text = f"\ufeff# a comment\n\na b/2.png\r\n  {pictures}/1.png  \n1.png"
    (pictures / "list.txt").write_text(text, encoding="utf-8")
    source = read_list(pictures / "list.txt")
    assert [source.name(i) for i in range(3)] == [f"{pictures}/{name}" for name in ("a b/2.png", "1.png", "1.png")]
    assert (source.labels, source.classes) == (None, None)
    assert source.load(0).size == (4, 3)


def test_classes_after_a_tab(pictures):
    for name in ("train.lst", "val.txt"):
        (pictures / name).write_text("1.png\tzebra\na b/2.png\t big cat \n")
    train, val = open_labelled_splits(None, str(pictures / "train.lst"), str(pictures / "val.txt"))
    assert (train.labels, train.classes, val.labels) == ([1, 0], ["big cat", "zebra"], [1, 0])


def test_missing_images_are_named_and_count_as_unreadable(pictures, capsys):
    (pictures / "list.txt").write_text("1.png\nx1.png\nx2.png\nx3.png\nx4.png\n")
    source = open_images(str(pictures / "list.txt"), "train")
    warning = " ".join(capsys.readouterr().err.split())
    assert "4 of 5 images are missing" in warning
    assert "x3.png, ..." in warning
    assert len(source) == 5
    with pytest.raises(UnreadableImage, match="No such file"):
        source.load(1)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "names no images"),
        (b"# nothing\n\n", "names no images"),
        (b"x.png\ny.png\n", "none of its 2 images are there: .*x.png, .*y.png"),
        (b"1.png\tcat\na b/2.png\n", "1 of its 2 images have no class, such as .*2.png"),
        (b"\x89PNG\xff\xfe", "it is no text"),
    ],
)
def test_lists_that_cannot_be_used(pictures, content, what):
    (pictures / "list.txt").write_bytes(content)
    with pytest.raises(DinotoolsError, match=what) as caught:
        open_images(str(pictures / "list.txt"), "train")
    assert caught.value.where == pictures / "list.txt"


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(DinotoolsError, match="No such file"):
        open_images(str(tmp_path / "list.txt"), "train")


def test_a_list_is_not_split(pictures):
    (pictures / "list.txt").write_text("1.png")
    with pytest.raises(DinotoolsError, match="no val split"):
        open_images(str(pictures / "list.txt"), "val")
