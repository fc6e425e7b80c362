"""Places205: photos deep in one tree, and a list of photo and number of its class for each split."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from dinotools.data.manifests.manifest import Manifest
from dinotools.data.manifests.preparation.steps import Move, Step, is_missing, move_all, remove_empty
from dinotools.runtime.errors import DinotoolsError

IMAGES, LISTS = "imagesPlaces205_resize.tar.gz", "trainvalsplit_places205.tar.gz"
TREES = ("data/vision/torralba/deeplearning/images256", "images256")


def prepare(folder: Path, manifest: Manifest, seed: int) -> list[Step]:
    """Makes train/CLASS/ and val/CLASS/; a/apartment_building/outdoor/ is the class apartment_building_outdoor.

    Raises:
        DinotoolsError: a file is missing, or a list is none.
    """
    tree = next((folder / name for name in TREES if (folder / name).is_dir()), folder / TREES[0])
    steps = []
    for split in ("train", "val"):
        name = f"{split}_places205.csv"
        path = next(
            (path for path in (folder / LISTS.removesuffix(".tar.gz") / name, folder / name) if path.is_file()), None
        )
        if path is None:
            raise is_missing(folder / LISTS.removesuffix(".tar.gz") / name, manifest, LISTS)
        moves = _moves(path, tree, folder / split)
        steps.append(move_all(moves, f"images into {split}/", f"They come with {IMAGES}. {manifest.how_to_get}"))
    remove_empty(folder / Path(TREES[0]).parts[0])
    remove_empty(folder / TREES[1])
    return steps


def _moves(path: Path, tree: Path, target: Path) -> list[Move]:
    """Where the photos of a list shall stand."""
    moves: list[Move] = []
    numbers: dict[str, int] = {}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            name, number = line.split()
            letter, *classes, file = PurePosixPath(name).parts
            if not classes or ".." in (letter, *classes, file) or name.startswith("/"):
                raise ValueError(f"{name!r} is in no class")
            if numbers.setdefault("_".join(classes), int(number)) != int(number):
                raise ValueError(f"{'_'.join(classes)} has two numbers")
            moves.append((tree / name, target / "_".join(classes) / file))
    except ValueError as error:
        raise DinotoolsError(f"is no list of photos and classes ({error})", path, "Unpack it again.") from error
    return moves
