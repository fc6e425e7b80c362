"""CIFAR-10 and CIFAR-100: pickles of pixels, written as PNG, which keeps them exactly."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dinotools.data.manifests.manifest import Manifest
from dinotools.data.manifests.preparation.steps import Step, is_missing
from dinotools.data.safe_pickle import read_pickle
from dinotools.runtime.console import track
from dinotools.runtime.errors import DinotoolsError

SIDE = 32  # pixels


@dataclass(frozen=True)
class Batches:
    """How one of the two is packed.

    Args:
        folder: what the archive unpacks to.
        train: its files of training images.
        val: its files of test images.
        meta: its file of class names.
        names: the key of these.
        labels: the key of the labels in the other files.
    """

    folder: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    meta: str
    names: str
    labels: str


SETS = {
    "cifar10": Batches(
        "cifar-10-batches-py",
        tuple(f"data_batch_{number}" for number in range(1, 6)),
        ("test_batch",),
        "batches.meta",
        "label_names",
        "labels",
    ),
    "cifar100": Batches("cifar-100-python", ("train",), ("test",), "meta", "fine_label_names", "fine_labels"),
}


def prepare(folder: Path, manifest: Manifest, seed: int) -> list[Step]:
    """Makes train/CLASS/NNNNN.png and val/CLASS/NNNNN.png; each split appears whole.

    Raises:
        DinotoolsError: a batch is missing, or is none.
    """
    batches = SETS[manifest.name]
    return [
        _write_split(folder, split, names, batches, manifest)
        for split, names in (("train", batches.train), ("val", batches.val))
    ]


def _write_split(folder: Path, split: str, names: tuple[str, ...], batches: Batches, manifest: Manifest) -> Step:
    what = f"images of {split} written"
    if (folder / split).is_dir():
        return Step(what, 0, sum(1 for _ in (folder / split).glob("*/*.png")))
    for name in (batches.meta, *names):
        if not (folder / batches.folder / name).is_file():
            raise is_missing(folder / batches.folder / name, manifest, manifest.files[0].name)
    hidden = folder / f".{split}.tmp"
    shutil.rmtree(hidden, ignore_errors=True)
    total = next(known.images for known in manifest.splits if known.name == split)
    count = 0
    for count, (name, pixels) in enumerate(track(_images(folder, names, batches), f"writing {split}", total), start=1):
        (hidden / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(hidden / name / f"{count - 1:05d}.png")
    hidden.rename(folder / split)
    return Step(what, count, 0)


def _images(folder: Path, names: tuple[str, ...], batches: Batches) -> Iterator[tuple[str, np.ndarray]]:
    """Class and pixels (32, 32, 3) uint8 of every image of some batches."""
    classes = _read(folder / batches.folder / batches.meta, batches.names)[0]
    for name in names:
        file = folder / batches.folder / name
        rows, labels = _read(file, "data", batches.labels)  # lists: 0.2 GB for 10,000 images
        try:
            pixels = np.array(rows, np.uint8).reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
            pairs = [(str(classes[label]), image) for label, image in zip(labels, pixels, strict=True)]
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            raise DinotoolsError("is no batch of CIFAR", file, "Unpack the archive again.") from error
        yield from pairs


def _read(file: Path, *keys: str) -> list[list]:
    document = read_pickle(file.read_bytes(), file)
    if not isinstance(document, dict) or not all(isinstance(document.get(key), list) for key in keys):
        raise DinotoolsError(f"has no {' and '.join(keys)}", file, "Unpack the archive again.")
    return [document[key] for key in keys]
