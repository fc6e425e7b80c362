"""From the words of a command to images and videos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch.utils.data import Dataset

from dinotools.data import samples
from dinotools.data.images import EXTENSIONS, ImageFiles, ImageSource, UnreadableImage
from dinotools.data.video import Video, open_video
from dinotools.runtime.errors import DinotoolsError

PHOTOS = "photos"  # the embedded ones


class DecodedImages(Dataset["Image.Image | UnreadableImage"]):
    """The images of a source as they are; an item that cannot be read is its UnreadableImage.

    Args:
        source: the images.
    """

    def __init__(self, source: ImageSource) -> None:
        self.source = source

    def __len__(self) -> int:
        """Number of images."""
        return len(self.source)

    def __getitem__(self, index: int) -> Image.Image | UnreadableImage:
        """One image in mode RGB, or why there is none."""
        try:
            return self.source.load(index)
        except UnreadableImage as error:
            return error


def open_inputs(named: Sequence[str], fps: float | None) -> tuple[ImageFiles, list[Video]]:
    """Finds all images, and opens all videos.

    Args:
        named: image files, folders of images, ``photos``; any other file should be a video.
        fps: frames a second of the videos, in place of their own.

    Raises:
        DinotoolsError: nothing is named, there is no such thing, a folder holds no images, or a file is neither image
            nor video.
    """
    if not named:
        raise DinotoolsError("names nothing", "INPUTS", "Give images, folders of them, or videos.")
    images: list[str] = []
    videos = []
    for word in named:
        path = Path(word).expanduser()
        if path.is_dir():
            images += ImageFiles.in_folder(path).paths
        elif path.suffix.lower() in EXTENSIONS and path.is_file():
            images.append(str(path))
        elif path.is_file():
            videos.append(_open_video(path, fps))
        elif word == PHOTOS:
            images += samples.photos().paths
        else:
            raise DinotoolsError("there is no such file or folder", word, "Give images, folders of them, or videos.")
    return ImageFiles(images), videos


def _open_video(path: Path, fps: float | None) -> Video:
    try:
        return open_video(path, fps)
    except DinotoolsError as error:
        remedy = f"Images end in {', '.join(EXTENSIONS)}; any other file should be a video."
        raise DinotoolsError(error.what, path, remedy) from error


def distinct_names(paths: Sequence[str | Path]) -> list[str]:
    """File names without ending; where two are the same, the later has its number as well."""
    names: list[str] = []
    taken: set[str] = set()  # some file systems take A and a for the same
    for number, path in enumerate(paths, start=1):
        name = Path(path).stem
        while name.lower() in taken:
            name = f"{name}-{number}"
        taken.add(name.lower())
        names.append(name)
    return names
