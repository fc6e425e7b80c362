"""From what a user names (a folder, ``digits``, ``cifar10``) to images."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from PIL import Image

from dinotools.data import samples
from dinotools.data.images import ImageFiles, ImageSource
from dinotools.data.inaturalist import INATURALIST, open_inaturalist
from dinotools.data.torchvision_sets import TORCHVISION, open_torchvision
from dinotools.runtime.errors import DinotoolsError

Split = Literal["train", "val"]
SPLIT_FOLDERS: dict[Split, tuple[str, ...]] = {"train": ("train",), "val": ("val", "test")}
EMBEDDED = ("digits", "photos")


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


class SelectedImages:
    """Some images of a source, in the given order; an ``ImageSource``.

    Args:
        source: the images.
        positions: which.
    """

    def __init__(self, source: ImageSource, positions: Sequence[int]) -> None:
        self.labels = None if source.labels is None else [source.labels[i] for i in positions]
        self.classes = source.classes
        self._source, self._positions = source, positions

    def __len__(self) -> int:
        """Number of images."""
        return len(self._positions)

    def name(self, index: int) -> str:
        """As in the source."""
        return self._source.name(self._positions[index])

    def load(self, index: int) -> Image.Image:
        """As in the source. Raises UnreadableImage."""
        return self._source.load(self._positions[index])


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
        return open_torchvision(name, split, download)
    if name in INATURALIST:
        return open_inaturalist(name, split)
    if name in EMBEDDED:
        raise DinotoolsError(f"has no {split} split", spec, "Try digits, which has.")
    names = [*EMBEDDED, *TORCHVISION, *INATURALIST]
    close = difflib.get_close_matches(name, names, n=1)
    known = f"Did you mean {close[0]}?" if close else f"Data sets: {', '.join(names)}."
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


def open_available_splits(
    data: str | None, train: str | None = None, val: str | None = None, *, download: bool = False
) -> dict[Split, ImageSource]:
    """Opens what there is of training and test images, labelled or not.

    Args: as for ``open_labelled_splits``, but one of train and val will do, and data need not be split or sorted.

    Raises:
        DinotoolsError: nothing is named or there; with classes in both splits, they do not agree.
    """
    folders: dict[Split, str | None] = {"train": train, "val": val}
    found: dict[Split, ImageSource] = {}
    for split, folder in folders.items():
        if folder is not None:
            found[split] = ImageFiles.in_folder(folder)
        elif data is not None and (split == "train" or _is_split(data)):
            found[split] = open_images(data, split, download=download)
    if not found:
        raise DinotoolsError("no images to extract features of", "--data", "Give --data, --train or --val.")
    if len(found) == 2 and all(source.labels is not None for source in found.values()):
        labelled = open_labelled_splits(data, train, val, download=download)
        return {"train": labelled[0], "val": labelled[1]}
    return found


def _is_split(data: str) -> bool:
    """Whether there are test images beside the training images."""
    path = Path(data).expanduser()
    if data.lower() in EMBEDDED or not path.exists():
        return data.lower() != "photos"
    return any((path / name).is_dir() for name in SPLIT_FOLDERS["val"])


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
