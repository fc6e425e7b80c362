"""Two disjoint subsets of any photos, drawn by a seed: to search among, and to learn a whitening from."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from numpy.random import RandomState

from dinotools.data.manifests.manifest import Manifest
from dinotools.data.manifests.preparation.steps import Step, images_below
from dinotools.runtime.console import track
from dinotools.runtime.errors import DinotoolsError, require
from dinotools.runtime.run_directory import write_json

PHOTOS, DRAWN = "photos", "drawn.json"


def prepare(folder: Path, manifest: Manifest, seed: int) -> list[Step]:
    """Draws distractors/ and whitening/ out of photos/ (all photos below it), as hard links; drawn.json says which.

    Raises:
        DinotoolsError: there are too few photos, or another seed drew the subsets that are there.
    """
    require(0 <= seed < 2**32, f"is {seed}", "seed", "It must be from 0 to 2^32 - 1.")
    sizes = {split.name: split.images for split in manifest.splits}
    drawn = _read_draw(folder, seed) or _draw(folder, manifest, sizes, seed)
    steps = []
    for name, photos in drawn.items():
        what = f"photos drawn for {name}/"
        if (folder / name).is_dir():
            steps.append(Step(what, 0, len(photos)))
            continue
        hidden = folder / f".{name}.tmp"
        shutil.rmtree(hidden, ignore_errors=True)
        hidden.mkdir()
        for number, photo in enumerate(track(photos, what, len(photos))):
            _link(folder / PHOTOS / photo, hidden / f"{number:05d}{Path(photo).suffix.lower()}")
        hidden.rename(folder / name)
        steps.append(Step(what, len(photos), 0))
    return steps


def _draw(folder: Path, manifest: Manifest, sizes: dict[str, int], seed: int) -> dict[str, list[str]]:
    """Names below photos/ for every subset; they are written down before the first link."""
    names = [path.relative_to(folder / PHOTOS).as_posix() for path in images_below(folder / PHOTOS)]
    if len(names) < sum(sizes.values()):
        found = f"holds {len(names):,} photos, and {sum(sizes.values()):,} are to be drawn"
        raise DinotoolsError(found, folder / PHOTOS, manifest.how_to_get)
    order = iter(RandomState(seed).permutation(len(names)).tolist())
    drawn = {name: sorted(names[next(order)] for _ in range(size)) for name, size in sizes.items()}
    write_json(folder / DRAWN, {"seed": seed, "photos": len(names), "drawn": drawn})
    return drawn


def _read_draw(folder: Path, seed: int) -> dict[str, list[str]] | None:
    """What was drawn before, by the same seed."""
    path = folder / DRAWN
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        before, drawn = document["seed"], document["drawn"]
    except (ValueError, KeyError, TypeError) as error:
        raise DinotoolsError("is no draw", path, "Remove it, distractors/ and whitening/ to draw again.") from error
    if before != seed:
        remedy = f"Add --seed {before}, or remove it, distractors/ and whitening/ to draw again."
        raise DinotoolsError(f"was drawn with seed {before}", path, remedy)
    return dict(drawn)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a disk without hard links, or a photo that is itself a link to another disk
        shutil.copy2(source, target)
