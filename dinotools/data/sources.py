"""From what a user names (a folder, ``digits``, ``cifar10``) to images."""

from __future__ import annotations

import contextlib
import difflib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from dinotools.data import samples
from dinotools.data.images import ImageFiles, ImageSource, UnreadableImage, to_rgb
from dinotools.runtime.cache import cache_directory
from dinotools.runtime.errors import DinotoolsError

Split = Literal["train", "val"]
SPLIT_FOLDERS: dict[Split, tuple[str, ...]] = {"train": ("train",), "val": ("val", "test")}
EMBEDDED = ("digits", "photos")


@dataclass(frozen=True)
class TorchvisionSet:
    """A torchvision class, its arguments for our two splits, and the attribute that holds all labels."""

    class_name: str
    train: dict[str, Any]
    val: dict[str, Any]
    labels: str


TORCHVISION = {
    "cifar10": TorchvisionSet("CIFAR10", {"train": True}, {"train": False}, "targets"),
    "cifar100": TorchvisionSet("CIFAR100", {"train": True}, {"train": False}, "targets"),
    "dtd": TorchvisionSet("DTD", {"split": "train"}, {"split": "test"}, "_labels"),
    "fgvcaircraft": TorchvisionSet("FGVCAircraft", {"split": "trainval"}, {"split": "test"}, "_labels"),
    "flowers102": TorchvisionSet("Flowers102", {"split": "train"}, {"split": "test"}, "_labels"),
    "food101": TorchvisionSet("Food101", {"split": "train"}, {"split": "test"}, "_labels"),
    "oxfordiiitpet": TorchvisionSet("OxfordIIITPet", {"split": "trainval"}, {"split": "test"}, "_labels"),
    "stl10": TorchvisionSet("STL10", {"split": "train"}, {"split": "test"}, "labels"),
}


class TorchvisionImages:
    """A torchvision classification set; an ``ImageSource``.

    Args:
        dataset: its items are (PIL image, class).
        labels: class of every item.
        name: of the set and split, for messages.
    """

    def __init__(self, dataset: Any, labels: Sequence[int], name: str) -> None:
        self.labels = [int(label) for label in labels]
        self.classes = list(getattr(dataset, "classes", map(str, range(max(self.labels) + 1))))
        self._dataset, self._name = dataset, name

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def name(self, index: int) -> str:
        """Such as ``cifar10/train/17``."""
        return f"{self._name}/{index}"

    def load(self, index: int) -> Image.Image:
        """The image in mode RGB. Raises UnreadableImage."""
        try:
            return to_rgb(self._dataset[index][0])
        except Exception as error:  # as in images.decode
            raise UnreadableImage(self.name(index), str(error) or type(error).__name__) from error


class LabelledImages:
    """An ``ImageSource`` that surely has labels, numbered by a given list of classes.

    Args:
        source: the images.
        classes: names of the classes; they may be more, and in another order, than the source's own.
        where: what the user named, for messages.

    Raises:
        DinotoolsError: the source has no classes, or one that is not in the list.
    """

    def __init__(self, source: ImageSource, classes: Sequence[str], where: object) -> None:
        unknown = sorted(set(_classes_of(source, where)) - set(classes))
        if unknown:
            shown = ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else "")
            raise DinotoolsError(f"has classes without training images: {shown}", where, "Give both splits the same.")
        number = {name: i for i, name in enumerate(classes)}
        own = [number[name] for name in _classes_of(source, where)]
        self.labels = [own[label] for label in source.labels or ()]
        self.classes = list(classes)
        self._source = source

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def name(self, index: int) -> str:
        """As in the source."""
        return self._source.name(index)

    def load(self, index: int) -> Image.Image:
        """As in the source. Raises UnreadableImage."""
        return self._source.load(index)


def open_images(spec: str | Path, split: Split, *, download: bool = False) -> ImageSource:
    """Opens one split of what a user named: an embedded set, else a path that exists, else a torchvision set.

    Args:
        spec: a folder or a data set's name. Of a folder, ``train`` is its train/ or, if it is not split at all, the
            folder itself; ``val`` is its val/ or test/.
        split: which part.
        download: whether a torchvision data set may be fetched.

    Raises:
        DinotoolsError: no such folder, name or split; the set is not downloaded, or cannot be.
    """
    name = str(spec).lower()
    if name == "digits":  # before any folder of that name, which is ./digits: the demonstration relies on it
        return samples.Digits(split)
    if name == "photos" and split == "train":
        return samples.photos()
    path = Path(spec).expanduser()
    if path.exists():
        return ImageFiles.in_folder(_split_folder(path, split))
    if name in TORCHVISION:
        return _open_torchvision(name, split, download)
    if name in EMBEDDED:
        raise DinotoolsError(f"has no {split} split", spec, "Try digits, which has.")
    close = difflib.get_close_matches(name, [*EMBEDDED, *TORCHVISION], n=1)
    known = f"Did you mean {close[0]}?" if close else f"Data sets: {', '.join([*EMBEDDED, *TORCHVISION])}."
    raise DinotoolsError("neither a folder nor a data set that is known by name", spec, known)


def open_labelled_splits(
    data: str | None, train: str | None = None, val: str | None = None, *, download: bool = False
) -> tuple[LabelledImages, LabelledImages]:
    """Opens training and test images whose labels agree: those of the test images go by the training classes' names.

    Args:
        data: a folder with both splits, or a data set's name.
        train: folder of training images, in place of data's.
        val: folder of test images, in place of data's.
        download: whether a torchvision data set may be fetched.

    Raises:
        DinotoolsError: a split is missing, has no classes, or a test class has no training images.
    """
    if data is None and (train is None or val is None):
        raise DinotoolsError("no images to measure on", "--data", "Give --data, or both --train and --val.")
    test_images = open_images(str(data), "val", download=download) if val is None else ImageFiles.in_folder(val)
    train_images = open_images(str(data), "train", download=download) if train is None else ImageFiles.in_folder(train)
    classes = _classes_of(train_images, train or data)
    return LabelledImages(train_images, classes, train or data), LabelledImages(test_images, classes, val or data)


def _classes_of(source: ImageSource, where: object) -> Sequence[str]:
    if source.labels is None or source.classes is None:
        raise DinotoolsError("the images have no classes", where, "Sort them into one subfolder per class.")
    return source.classes


def _split_folder(folder: Path, split: Split) -> Path:
    subfolders = {path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}
    # "train" among other folders is a class of pictures of trains
    split_at_all = bool(subfolders & set(SPLIT_FOLDERS["val"])) or subfolders == {"train"}
    if split == "train" and not split_at_all:
        return folder
    for name in SPLIT_FOLDERS[split]:
        if name in subfolders:
            return folder / name
    wanted = " or ".join(f"{name}/" for name in SPLIT_FOLDERS[split])
    raise DinotoolsError(
        f"has no subfolder {wanted}", folder, "A data set in two splits holds train/ and val/ or test/."
    )


def _open_torchvision(name: str, split: Split, download: bool) -> TorchvisionImages:
    import torchvision.datasets  # takes a second; folders need none of it

    entry = TORCHVISION[name]
    folder = cache_directory("datasets", name)
    arguments = entry.train if split == "train" else entry.val
    try:
        with contextlib.redirect_stdout(sys.stderr):  # torchvision prints, and stdout is for results
            dataset = getattr(torchvision.datasets, entry.class_name)(str(folder), download=download, **arguments)
    except (RuntimeError, OSError) as error:
        if download:
            raise DinotoolsError(
                f"{name} cannot be fetched ({error})", folder, "Check the network and try again."
            ) from error
        raise DinotoolsError(f"{name} is not there yet", folder, "Add --download to fetch it.") from error
    return TorchvisionImages(dataset, getattr(dataset, entry.labels), f"{name}/{split}")
