"""Classification sets that torchvision reads and fetches, by name."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from dinotools.data.images import UnreadableImage, to_rgb
from dinotools.runtime.cache import cache_directory
from dinotools.runtime.errors import DinotoolsError


@dataclass(frozen=True)
class TorchvisionSet:
    """A torchvision class, and what we ask of it.

    Where a set comes in three parts, all but the test images are for training, as is usual for these sets.

    Args:
        class_name: of ``torchvision.datasets``.
        train: its arguments for the training images.
        val: its arguments for the test images.
        labels: attribute that holds the labels of all images, or (file, label) of each.
        more: arguments for further training images.
        by_hand: what to put into the folder of a set that torchvision cannot fetch.
    """

    class_name: str
    train: dict[str, Any]
    val: dict[str, Any]
    labels: str
    more: dict[str, Any] | None = None
    by_hand: str | None = None


TORCHVISION = {
    "cifar10": TorchvisionSet("CIFAR10", {"train": True}, {"train": False}, "targets"),
    "cifar100": TorchvisionSet("CIFAR100", {"train": True}, {"train": False}, "targets"),
    "dtd": TorchvisionSet("DTD", {"split": "train"}, {"split": "test"}, "_labels", more={"split": "val"}),
    "fgvcaircraft": TorchvisionSet("FGVCAircraft", {"split": "trainval"}, {"split": "test"}, "_labels"),
    "flowers102": TorchvisionSet("Flowers102", {"split": "train"}, {"split": "test"}, "_labels", more={"split": "val"}),
    "food101": TorchvisionSet("Food101", {"split": "train"}, {"split": "test"}, "_labels"),
    "oxfordiiitpet": TorchvisionSet("OxfordIIITPet", {"split": "trainval"}, {"split": "test"}, "_labels"),
    "stanfordcars": TorchvisionSet(
        "StanfordCars",
        {"split": "train"},
        {"split": "test"},
        "_samples",
        by_hand="Put stanford_cars/ there, with cars_train/, cars_test/, devkit/ and cars_test_annos_withlabels.mat.",
    ),
    "stl10": TorchvisionSet("STL10", {"split": "train"}, {"split": "test"}, "labels"),
}


class TorchvisionImages:
    """A torchvision classification set; an ``ImageSource``.

    Args:
        dataset: its items are (PIL image, class).
        labels: class of every item.
        classes: their names, where the set has any.
        name: of the set and split, for messages.
    """

    def __init__(self, dataset: Any, labels: Sequence[int], classes: Sequence[str] | None, name: str) -> None:
        self.labels = [int(label) for label in labels]
        self.classes = [str(i) for i in range(max(self.labels) + 1)] if classes is None else list(classes)
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


def open_torchvision(name: str, split: str, download: bool) -> TorchvisionImages:
    """Opens one split of a torchvision data set in the cache.

    Raises:
        DinotoolsError: it is not there, or cannot be fetched.
    """
    import torchvision.datasets  # takes a second; folders need none of it
    from torch.utils.data import ConcatDataset

    entry = TORCHVISION[name]
    folder = cache_directory("datasets", name)
    parts = [entry.train, entry.more] if split == "train" else [entry.val]
    dataset_class = getattr(torchvision.datasets, entry.class_name)
    fetched = download and entry.by_hand is None
    try:
        with contextlib.redirect_stdout(sys.stderr):  # torchvision prints, and stdout is for results
            datasets = [dataset_class(str(folder), download=fetched, **part) for part in parts if part is not None]
    except (RuntimeError, OSError) as error:
        if entry.by_hand:
            raise DinotoolsError(f"{name} is not there, and cannot be fetched", folder, entry.by_hand) from error
        if download:
            raise DinotoolsError(
                f"{name} cannot be fetched ({error})", folder, "Check the network and try again."
            ) from error
        raise DinotoolsError(f"{name} is not there yet", folder, "Add --download to fetch it.") from error
    labels = [label for dataset in datasets for label in getattr(dataset, entry.labels)]
    labels = [label[1] if isinstance(label, tuple) else label for label in labels]
    dataset = datasets[0] if len(datasets) == 1 else ConcatDataset(datasets)
    return TorchvisionImages(dataset, labels, getattr(datasets[0], "classes", None), f"{name}/{split}")
