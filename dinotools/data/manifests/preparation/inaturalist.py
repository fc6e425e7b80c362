"""iNaturalist 2018 and 2019: one tree of photos, and a JSON file per split that tells which are its own."""

from __future__ import annotations

import json
from pathlib import Path

from dinotools.data.manifests.manifest import Manifest
from dinotools.data.manifests.preparation.steps import Move, Step, is_missing, move_all, remove_empty
from dinotools.runtime.errors import DinotoolsError

YEARS = {"inat18": "2018", "inat19": "2019"}


def prepare(folder: Path, manifest: Manifest, seed: int) -> list[Step]:
    """Makes train/SPECIES/ and val/SPECIES/, species by their four-digit numbers. A hundred gigabytes are not copied.

    Raises:
        DinotoolsError: a file is missing, or a list is none.
    """
    year = YEARS[manifest.name]
    steps = []
    for split in ("train", "val"):
        path = folder / f"{split}{year}.json"
        if not path.is_file():
            raise is_missing(path, manifest, f"{path.name}.tar.gz")
        archive = manifest.files[0]
        remedy = f"They come with {archive.name}: {archive.urls[0]}"
        steps.append(move_all(_moves(path, folder, split), f"images into {split}/", remedy))
    remove_empty(folder / f"train_val{year}")
    return steps


def _moves(path: Path, folder: Path, split: str) -> list[Move]:
    """Where the images that a list names shall stand."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        category = {one["image_id"]: int(one["category_id"]) for one in document["annotations"]}
        listed = [(str(image["file_name"]), category[image["id"]]) for image in document["images"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DinotoolsError("is no list of images and categories", path, "Unpack it again.") from error
    odd = [name for name, _ in listed if ".." in Path(name).parts or Path(name).is_absolute()]
    if odd:
        raise DinotoolsError(f"names {odd[0]!a}, which leads out of the folder", path, "Download it again.")
    return [(folder / name, folder / split / f"{number:04d}" / Path(name).name) for name, number in listed]
