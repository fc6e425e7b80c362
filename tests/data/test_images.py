import errno
import os
from pathlib import Path

import pytest

from dinotools.data.images import EXTENSIONS, BadImages, ImageFiles, UnreadableImage
from dinotools.runtime.errors import DinotoolsError


def tree(root: Path, *names: str) -> Path:
    root.mkdir(exist_ok=True)
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def relative(files: ImageFiles, root: Path) -> list[str]:
    return [Path(path).relative_to(root).as_posix() for path in files.paths]


def test_class_folders(tmp_path):
    root = tree(
        tmp_path / "cifar", "frog/2.png", "frog/10.PNG", "airplane/b.jpg", "airplane/a.JPEG", "cat/deep/er.webp"
    )
    files = ImageFiles.in_folder(root)
    assert relative(files, root) == [
        "airplane/a.JPEG",
        "airplane/b.jpg",
        "cat/deep/er.webp",
        "frog/10.PNG",
        "frog/2.png",
    ]
    assert files.labels == [0, 0, 1, 2, 2]
    assert files.classes == ["airplane", "cat", "frog"]
    assert len(files) == 5
    assert files.name(1) == str(root / "airplane" / "b.jpg")


@pytest.mark.parametrize(
    "names",
    [
        ["a.jpg", "b.png"],
        ["top.jpg", "holiday/a.jpg", "work/b.jpg"],
        ["2019/01/a.jpg", "2019/02/b.jpg", "2020/07/c.jpg"],
        ["2019/2019/a.jpg"],
    ],
)
def test_flat_and_nested_folders_have_no_classes(tmp_path, names):
    files = ImageFiles.in_folder(tree(tmp_path, *reversed(names)))
    assert relative(files, tmp_path) == sorted(names, key=lambda name: (name.count("/") > 0, name))
    assert files.labels is None
    assert files.classes is None


def test_what_is_no_image_is_passed_over(tmp_path):
    tree(tmp_path, "a/1.jpg", "a/._1.jpg", "a/notes.txt", "a/jpg", ".cache/2.jpg", "empty/readme.md", "b/3.gif")
    (tmp_path / "void").mkdir()
    files = ImageFiles.in_folder(tmp_path)
    assert relative(files, tmp_path) == ["a/1.jpg", "b/3.gif"]
    assert files.classes == ["a", "b"]


def test_every_extension_counts_in_any_case(tmp_path):
    names = [f"{i}{extension}" for i, extension in enumerate(EXTENSIONS)] + ["x.JPG", "y.TiFf"]
    assert relative(ImageFiles.in_folder(tree(tmp_path, *names)), tmp_path) == sorted(names)


def test_links_are_followed_but_not_in_circles(tmp_path):
    root = tree(tmp_path / "root", "a/1.jpg")
    tree(tmp_path / "elsewhere", "2.jpg")
    (root / "b").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "self").symlink_to(root / "a")
    (root / "a" / "gone.jpg").symlink_to("nowhere")
    files = ImageFiles.in_folder(root)
    assert relative(files, root) == ["a/1.jpg", "a/gone.jpg", "b/2.jpg"]  # a broken link is to be reported, not hidden


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda root: None, "no such folder"),
        (lambda root: root.touch(), "is not a folder"),
        (lambda root: root.mkdir(), "holds no images"),
        (lambda root: tree(root, "a/b.txt", "c.npy"), "holds no images"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path, make, what):
    root = tmp_path / "data"
    make(root)
    with pytest.raises(DinotoolsError) as caught:
        ImageFiles.in_folder(root)
    assert what in caught.value.what
    assert caught.value.where == root
    assert caught.value.remedy


def test_a_folder_that_may_not_be_listed_is_named(tmp_path, monkeypatch):
    root = tree(tmp_path, "a/1.jpg", "locked/2.jpg")
    scandir = os.scandir

    def guarded(path):
        if Path(path).name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(DinotoolsError, match=r"locked: cannot be listed \(Permission denied\)"):
        ImageFiles.in_folder(root)


# tolerance


def test_bad_images_are_named_once_and_counted(capsys):
    bad = BadImages(0.02, 100)
    for _ in range(3):
        bad.add(UnreadableImage("x/[bold]1.jpg", "torn"))
    bad.add(UnreadableImage("2.jpg", "empty"))
    assert bad.names == ["x/[bold]1.jpg", "2.jpg"]
    words = " ".join(capsys.readouterr().err.split())
    assert words.count("x/[bold]1.jpg: torn") == 1
    assert "2.jpg: empty" in words


@pytest.mark.parametrize(
    ("limit", "total", "tolerated"),
    [(0.01, 99, 0), (0.01, 100, 1), (0.01, 199, 1), (0.29, 100, 29), (0.0, 1000, 0), (1.0, 3, 2)],
)
def test_limit_of_bad_images(limit, total, tolerated):
    bad = BadImages(limit, total)
    for i in range(tolerated):
        bad.add(UnreadableImage(f"{i}.jpg", "torn"))
    with pytest.raises(DinotoolsError) as caught:
        bad.add(UnreadableImage("last.jpg", "empty"))
    assert caught.value.where == "last.jpg"
    assert f"{tolerated + 1} unreadable of {total:,}" in caught.value.what
    assert ("--max-bad" in caught.value.remedy) == (limit > 0)  # 0 says that a ground truth counts on all
