"""From what a user names (a folder, a list, shards, ``cifar10``, several of them) to images."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from dinotools.data import samples
from dinotools.data.channels import ChannelImages, channel_reader
from dinotools.data.images import RGB, ImageFiles, ImageSource, Reader
from dinotools.data.inaturalist import INATURALIST, open_inaturalist
from dinotools.data.list_files import LISTS, read_list
from dinotools.data.mixture import Mixture, split_names
from dinotools.data.shards import means_shards, open_shards
from dinotools.data.torchvision_sets import TORCHVISION, open_torchvision
from dinotools.runtime.errors import DinotoolsError

Split = Literal["train", "val"]
SPLIT_FOLDERS: dict[Split, tuple[str, ...]] = {"train": ("train",), "val": ("val", "test")}
TRAIN: Split = "train"
VAL: Split = "val"
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

    def load(self, index: int) -> Any:
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

    def load(self, index: int) -> Any:
        """As in the source. Raises UnreadableImage."""
        return self._source.load(self._positions[index])


def open_images(spec: str | Path, split: Split, *, download: bool = False, in_chans: int = 3) -> ImageSource:
    """Opens one split of what a user named: embedded sets, else a path that exists, several names, shards, known sets.

    Args:
        spec: a folder, a data set's name, a list file or tar shards; or several of them, joined by commas. Of a
            folder, ``train`` is its train/ or, if it is not split at all, the folder itself; ``val`` is its val/ or
            test/. Lists and shards are not split: all of their images are for training.
        split: which part.
        download: whether a torchvision data set may be fetched.
        in_chans: channels of the images; other than 3, the source is a ``ChannelImages``.

    Raises:
        DinotoolsError: no such folder, name or split; the set is not downloaded, or cannot be; a list or shard cannot
            be used; the images have other channels.
    """
    reader = RGB if in_chans == 3 else channel_reader(in_chans)
    parts = [_open_split(name, split, download, reader) for name in split_names(str(spec))]
    return _as_one(parts, in_chans)


def _as_one(parts: Sequence[ImageSource], in_chans: int) -> ImageSource:
    if in_chans != 3:
        parts = [ChannelImages(part, in_chans) for part in parts]
    _check_alike(parts)
    return parts[0] if len(parts) == 1 else Mixture(parts)


def _check_alike(parts: Sequence[ImageSource]) -> None:
    """Refuses images of different kinds of values, which no one mean and deviation normalise."""
    if len({getattr(part, "dtype", None) for part in parts}) > 1:
        first = parts[0].name(0)
        raise DinotoolsError("some images have bytes for values, others larger numbers", first, "Convert one kind.")


def _open_split(spec: str, split: Split, download: bool, reader: Reader) -> ImageSource:
    name = spec.lower()
    if reader is not RGB and name in (*EMBEDDED, *TORCHVISION, *INATURALIST) and not Path(spec).expanduser().exists():
        raise DinotoolsError("has three channels", spec, "Leave --in-chans out.")
    if name == "digits":  # before any folder of that name, which is ./digits: the demonstration relies on it
        return samples.Digits(split)
    if name == "photos" and split == "train":
        return samples.photos()
    path = Path(spec).expanduser()
    if path.is_dir():
        return ImageFiles.in_folder(_split_folder(path, split), reader)
    if path.exists() or _is_file_name(spec):
        if split == "val":
            raise DinotoolsError("has no val split", spec, "Give a folder with train/ and val/, or --train and --val.")
        return _open_unsplit(spec, reader)
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


def _is_file_name(spec: str) -> bool:
    """Whether a name is that of a list or of shards, there or not."""
    return means_shards(spec) or spec.lower().endswith(LISTS)


def _open_unsplit(spec: str, reader: Reader) -> ImageSource:
    """All images of a folder, list or shards."""
    if Path(spec).expanduser().is_dir() or not _is_file_name(spec):
        return ImageFiles.in_folder(spec, reader)
    return open_shards(spec, reader) if means_shards(spec) else read_list(spec, reader)


def _open_given(spec: str, in_chans: int) -> ImageSource:
    """What --train or --val names: all of it."""
    reader = RGB if in_chans == 3 else channel_reader(in_chans)
    return _as_one([_open_unsplit(name, reader) for name in split_names(spec)], in_chans)


def open_labelled_splits(
    data: str | None,
    train: str | None = None,
    val: str | None = None,
    *,
    download: bool = False,
    in_chans: int = 3,
) -> tuple[LabelledImages, LabelledImages]:
    """Opens training and test images whose labels agree: those of the test images go by the training classes' names.

    Args:
        data: what ``open_images`` opens both splits of.
        train: training images in place of data's: a folder, a list or shards.
        val: test images in place of data's.
        download: whether a torchvision data set may be fetched.
        in_chans: channels of the images.

    Raises:
        DinotoolsError: a split is missing, has no classes, or a test class has no training images.
    """
    if data is None and (train is None or val is None):
        raise DinotoolsError("no images to measure on", "--data", "Give --data, or both --train and --val.")
    val_images, train_images = (
        open_images(str(data), split, download=download, in_chans=in_chans)
        if given is None
        else _open_given(given, in_chans)
        for split, given in ((VAL, val), (TRAIN, train))
    )
    _check_alike((train_images, val_images))
    classes = _classes_of(train_images, train or data)
    return LabelledImages(train_images, classes, train or data), LabelledImages(val_images, classes, val or data)


def open_available_splits(
    data: str | None,
    train: str | None = None,
    val: str | None = None,
    *,
    download: bool = False,
    in_chans: int = 3,
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
            found[split] = _open_given(folder, in_chans)
        elif data is not None and (split == "train" or is_split(data)):
            found[split] = open_images(data, split, download=download, in_chans=in_chans)
    if not found:
        raise DinotoolsError("no images to extract features of", "--data", "Give --data, --train or --val.")
    if len(found) == 2 and all(source.labels is not None for source in found.values()):
        labelled = open_labelled_splits(data, train, val, download=download, in_chans=in_chans)
        return {"train": labelled[0], "val": labelled[1]}
    return found


def is_split(data: str) -> bool:
    """Whether there are test images beside the training images."""
    return all(map(_one_is_split, split_names(data)))


def _one_is_split(data: str) -> bool:
    path = Path(data).expanduser()
    if data.lower() in EMBEDDED or not (path.exists() or _is_file_name(data)):
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
