"""Photos of landmarks: those of Revisited Oxford and Paris in one folder, and the clean part of Google's as a list."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from dinotools.data.manifests.manifest import Manifest
from dinotools.data.manifests.preparation.steps import Step, images_below, is_missing, move_all, remove_empty
from dinotools.runtime.console import track, warn
from dinotools.runtime.errors import DinotoolsError
from dinotools.runtime.run_directory import write_atomically

CLEAN_CSV, CLEAN = "train_clean.csv", "clean.txt"


def prepare_retrieval(folder: Path, manifest: Manifest, seed: int) -> list[Step]:
    """Brings all photos below the folder into jpg/, without folders of their own, and the ground truth beside it.

    Raises:
        DinotoolsError: there are no photos, or no ground truth; two photos have the same name.
    """
    jpg = folder / "jpg"
    photos = list(images_below(folder))
    if not photos:
        raise is_missing(jpg, manifest, manifest.files[0].name)
    truth = f"gnd_{manifest.name}"
    names = (f"{truth}.pkl", f"{truth}.json")
    found = sorted(path for name in names for path in folder.rglob(name))
    if not found:
        raise is_missing(folder / names[0], manifest, names[0])
    steps = [move_all([(path, jpg / path.name) for path in photos], "photos into jpg/", "Remove what is there twice.")]
    if not any((folder / name).is_file() for name in names):
        steps.append(move_all([(found[0], folder / found[0].name)], "ground truth beside it", "Repeat."))
    for below in [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]:
        remove_empty(below)
    return steps


def prepare_gldv2(folder: Path, manifest: Manifest, seed: int) -> list[Step]:
    """Writes clean.txt: path and landmark of every photo of the clean part that is there.

    Raises:
        DinotoolsError: the photos or their list are not there.
    """
    listed = folder / CLEAN_CSV
    if not (folder / "train").is_dir():
        raise is_missing(folder / "train", manifest, manifest.files[0].name)
    if not listed.is_file():
        raise is_missing(listed, manifest, CLEAN_CSV)
    lines, missing = [], 0
    for name, landmark in track(_clean_photos(listed), "looking for photos", None):
        if (folder / name).exists():
            lines.append(f"{name}\t{landmark}\n")
        else:
            missing += 1
    if not lines:
        raise DinotoolsError(f"holds none of the photos in {CLEAN_CSV}", folder / "train", "Unpack the archives there.")
    if missing:
        warn(f"{missing:,} of {len(lines) + missing:,} clean photos are not there, and not in {CLEAN}")
    text, path = "".join(lines), folder / CLEAN
    same = path.is_file() and path.read_text(encoding="utf-8") == text
    if not same:
        write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return [Step(f"photos listed in {CLEAN}", 0 if same else len(lines), len(lines) if same else 0)]


def _clean_photos(listed: Path) -> Iterator[tuple[str, str]]:
    """Path below the folder, and landmark, of every photo in train_clean.csv."""
    try:
        with listed.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                for photo in row["images"].split():
                    if not photo.isalnum():
                        raise ValueError(f"{photo!r} is no name of a photo")
                    yield f"train/{photo[0]}/{photo[1]}/{photo[2]}/{photo}.jpg", str(int(row["landmark_id"]))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, csv.Error) as error:
        raise DinotoolsError("has no columns landmark_id and images", listed, "Download it again.") from error
