"""Images: what a source of them is, how a file becomes RGB pixels, and what happens to a file that does not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from dinotools.runtime.console import warn
from dinotools.runtime.errors import DinotoolsError

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # no other parser sees a user's file
EXIF_ORIENTATION = 0x0112
UPRIGHT = {  # value of that tag -> what turns the stored pixels upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableImage(Exception):
    """A file that should be an image and cannot be read. Travels between processes, so it is plain data.

    Args:
        path: the file, or the name of the image in its data set.
        reason: why, in one clause.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class ImageSource(Protocol):
    """A numbered set of images. Augmentation and evaluation know nothing else about where images come from."""

    @property
    def labels(self) -> Sequence[int] | None:
        """Class of every image, or None without classes."""

    @property
    def classes(self) -> Sequence[str] | None:
        """Names of the classes, or None."""

    def __len__(self) -> int:
        """Number of images."""

    def name(self, index: int) -> str:
        """Path of an image, or another name that a user can find it by."""

    def load(self, index: int) -> Any:
        """The image in mode RGB; from a source opened for other channels, a tensor (channels, height, width).

        Raises:
            UnreadableImage: there is none.
        """


def decode(path: str | Path, data: bytes | None = None) -> Image.Image:
    """Reads the (first) image of a file as a person would see it, in mode RGB.

    The EXIF orientation is applied, transparency is laid over white, 16-bit values are scaled to 8 bits.

    Args:
        path: the file, or another name of it in messages where its content is given.
        data: its content.

    Raises:
        UnreadableImage: missing, empty, truncated, no image, or implausibly large (Pillow's limit).
    """
    try:
        with Image.open(path if data is None else BytesIO(data), formats=FORMATS) as image:
            image.load()
            return to_rgb(_upright(image))
    except UnidentifiedImageError:
        empty = not (Path(path).stat().st_size if data is None else data)
        what = "the file is empty" if empty else "not an image of a known format"
        raise UnreadableImage(str(path), what) from None
    except Exception as error:  # on damaged files Pillow's parsers raise almost anything
        reason = error.strerror if isinstance(error, OSError) else None
        raise UnreadableImage(str(path), reason or str(error) or type(error).__name__) from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        method = UPRIGHT.get(image.getexif().get(EXIF_ORIENTATION, 1))
    except Exception:  # damaged EXIF data say nothing about the pixels
        return image
    return image if method is None else image.transpose(method)


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts a Pillow image of any mode to RGB.

    Raises:
        ValueError: floating-point pixels, whose range is anybody's guess.
    """
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range")
    if image.mode.startswith("I"):  # 16 bits, which Pillow also widens to 32; convert() would clip them at 255
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


@dataclass(frozen=True)
class Reader:
    """Which files are images, and how one becomes pixels.

    Args:
        extensions: ends of their names, in lower case.
        decode: makes the image of a file's path, or of its name and content. Raises UnreadableImage.
    """

    extensions: tuple[str, ...]
    decode: Callable[[str, bytes | None], Any]


RGB = Reader(EXTENSIONS, decode)


@dataclass(frozen=True)
class ImageFiles:
    """Image files, with or without classes; an ``ImageSource``.

    Args:
        paths: the files.
        labels: class of every file, or None.
        classes: names of the classes, or None.
        reader: makes images of them.
    """

    paths: Sequence[str]
    labels: Sequence[int] | None = None
    classes: Sequence[str] | None = None
    reader: Reader = RGB

    def __len__(self) -> int:
        """Number of files."""
        return len(self.paths)

    def name(self, index: int) -> str:
        """The path."""
        return self.paths[index]

    def load(self, index: int) -> Any:
        """What the reader makes of the file: with the default, the image in mode RGB. Raises UnreadableImage."""
        return self.reader.decode(self.paths[index], None)

    @classmethod
    def in_folder(cls, folder: str | Path, reader: Reader = RGB) -> ImageFiles:
        """Finds all images below a folder; hidden files and folders are passed over.

        If subfolders hold images and the folder itself holds none, each subfolder with images is a class (with all
        that lies below it), numbered in the order of the sorted names. Otherwise there are no classes.

        Raises:
            DinotoolsError: no such folder, it cannot be listed, or there is no image in it.
        """
        root = Path(folder).expanduser()
        if not root.is_dir():
            what = "is not a folder" if root.exists() else "there is no such folder"
            raise DinotoolsError(what, root, "Give a folder of images.")
        loose, subfolders = _list(str(root), reader.extensions)
        seen = frozenset({os.path.realpath(root)})
        found = {Path(subfolder): list(_walk(subfolder, seen, reader.extensions)) for subfolder in subfolders}
        groups = {subfolder: paths for subfolder, paths in found.items() if paths}
        # _walk yields the files of a folder before those further down
        are_classes = not loose and any(Path(paths[0]).parent == subfolder for subfolder, paths in groups.items())
        paths = loose + [path for group in groups.values() for path in group]
        if not paths:
            raise DinotoolsError("holds no images", root, f"Images end in {', '.join(reader.extensions)}.")
        if not are_classes:
            return cls(paths, reader=reader)
        labels = [label for label, group in enumerate(groups.values()) for _ in group]
        return cls(paths, labels, [subfolder.name for subfolder in groups], reader)


def _walk(folder: str, seen: frozenset[str], extensions: tuple[str, ...]) -> Iterator[str]:
    """Images in a folder and below, sorted; links are followed, but not back into a folder in ``seen``."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    files, subfolders = _list(folder, extensions)
    yield from files
    for subfolder in subfolders:
        yield from _walk(subfolder, seen | {real}, extensions)


def _list(folder: str, extensions: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Paths of the image files and of the folders directly in a folder, each sorted by name."""
    files, folders = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    folders.append(entry.path)
                elif entry.name.lower().endswith(extensions):
                    files.append(entry.path)
    except OSError as error:
        raise DinotoolsError(f"cannot be listed ({error.strerror})", folder, "Check its permissions.") from error
    return files, folders


class BadImages:
    """The unreadable images of a run: each is named once, and too many of them are an error.

    As many are tolerated as fit into the limit: at 1 %, none of 99 images and one of 100. All of them never are.

    Args:
        limit: tolerated share of all images (``--max-bad``).
        total: number of images.
    """

    def __init__(self, limit: float, total: int) -> None:
        self.limit, self.total = limit, total
        self._reasons: dict[str, str] = {}  # path -> why

    @property
    def names(self) -> list[str]:
        """The images, in the order in which they were met."""
        return list(self._reasons)

    def add(self, image: UnreadableImage) -> None:
        """Counts and names an image that was not seen before.

        Raises:
            DinotoolsError: there are now more than the limit allows.
        """
        if image.path in self._reasons:
            return
        self._reasons[image.path] = image.reason
        self.check(len(self._reasons), image.path, f"{image.reason}; ")
        warn(f"skipping {image}")

    def check(self, count: int, where: object, reason: str = "") -> None:
        """Raises DinotoolsError if so many unreadable images are too many; reason begins its message."""
        tolerated = min(self.limit * self.total + 1e-9, self.total - 1)  # 0.29 * 100 is 28.999...
        if count > tolerated and self.limit == 0:
            what = f"{reason}that makes {count} unreadable of {self.total:,} images, and every image counts here"
            raise DinotoolsError(what, where, "Repair or replace it.")
        if count > tolerated:
            raise DinotoolsError(
                f"{reason}that makes {count} unreadable of {self.total:,} images, more than --max-bad {self.limit:g} "
                "allows",
                where,
                "Repair or remove them, or raise --max-bad.",
            )
