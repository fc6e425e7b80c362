"""Flowers and Stanford Cars: flat folders of photos, with classes and splits in MATLAB files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dinotools.data.manifests.manifest import Manifest
from dinotools.data.manifests.preparation.steps import Move, Step, is_missing, move_all, remove_empty
from dinotools.runtime.errors import DinotoolsError

FLOWER_SPLITS = {"train": ("trnid", "valid"), "val": ("tstid",)}  # both for training, as in torchvision_sets


def prepare_flowers(folder: Path, manifest: Manifest, seed: int) -> list[Step]:
    """Makes train/CLASS/ of the splits train and val, and val/CLASS/ of the split test. Classes are numbers: 001, ...

    Raises:
        DinotoolsError: a file is missing, or not as the publishers have it.
    """
    labels = _load(folder / "imagelabels.mat", manifest, "imagelabels.mat", "labels")
    numbers = _load(
        folder / "setid.mat", manifest, "setid.mat", *{name for names in FLOWER_SPLITS.values() for name in names}
    )
    steps = []
    for split, names in FLOWER_SPLITS.items():
        try:
            members = sorted(int(number) for name in names for number in numbers[name])
            moves = [
                (
                    folder / "jpg" / f"image_{number:05d}.jpg",
                    folder / split / f"{int(labels['labels'][number - 1]):03d}" / f"image_{number:05d}.jpg",
                )
                for number in members
            ]
        except (ValueError, TypeError, IndexError) as error:
            raise DinotoolsError(
                "do not go with imagelabels.mat", folder / "setid.mat", "Download both again."
            ) from error
        steps.append(_move(moves, f"images into {split}/", "102flowers.tgz", manifest))
    remove_empty(folder / "jpg")
    return steps


def prepare_cars(folder: Path, manifest: Manifest, seed: int) -> list[Step]:
    """Makes train/CLASS/ and val/CLASS/ out of cars_train/ and cars_test/, nested or not. Classes are number_name.

    Raises:
        DinotoolsError: a file is missing, or not as the publishers have it.
    """
    devkit = folder / "devkit"
    withlabels = "cars_test_annos_withlabels.mat"
    test = devkit / withlabels if (devkit / withlabels).is_file() else folder / withlabels
    meta = _load(devkit / "cars_meta.mat", manifest, "car_devkit.tgz", "class_names")["class_names"]
    names = [f"{i:03d}_{str(name).replace('/', '-').replace(' ', '_')}" for i, name in enumerate(meta, start=1)]
    steps = []
    for split, photos, path, archive in (
        ("train", "cars_train", devkit / "cars_train_annos.mat", "car_devkit.tgz"),
        ("val", "cars_test", test, withlabels),
    ):
        annotations = _load(path, manifest, archive, "annotations")["annotations"]
        nested = folder / photos / photos
        source = nested if nested.is_dir() else folder / photos
        try:
            targets = {Path(str(one["fname"])).name: names[int(one["class"]) - 1] for one in annotations}
        except (ValueError, TypeError, IndexError) as error:
            raise DinotoolsError("has no file names and classes", path, "Download it again.") from error
        moves = [(source / file, folder / split / name / file) for file, name in targets.items()]
        steps.append(_move(moves, f"images into {split}/", f"{photos}.tgz", manifest))
        remove_empty(folder / photos)
    return steps


def _move(moves: list[Move], what: str, archive: str, manifest: Manifest) -> Step:
    file = next(file for file in manifest.files if file.name == archive)
    address = file.urls[0] if file.urls else f"dinotools data info {manifest.name}"
    return move_all(moves, what, f"They come with {archive}: {address}")


def _load(path: Path, manifest: Manifest, archive: str, *names: str) -> dict[str, Any]:
    """Reads variables of a MATLAB file, all of which must be there."""
    from scipy.io import loadmat  # type: ignore[import-untyped]

    if not path.is_file():
        raise is_missing(path, manifest, archive)
    try:
        variables: dict[str, Any] = loadmat(path, squeeze_me=True)
    except (ValueError, TypeError, NotImplementedError, OSError) as error:
        raise DinotoolsError("is no MATLAB file, or a damaged one", path, "Download it again.") from error
    missing = [name for name in names if name not in variables]
    if missing:
        raise DinotoolsError(f"has no variable {', '.join(missing)}", path, "Download it again.")
    return {name: np.atleast_1d(variables[name]) for name in names}  # squeezed, one of them is no list
