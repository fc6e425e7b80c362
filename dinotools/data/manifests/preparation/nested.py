"""Sets whose archives are in the right layout but for a folder or two around it, and those that are so altogether."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dinotools.data.manifests.manifest import Manifest
from dinotools.data.manifests.preparation.steps import Move, Step, is_missing, move_all, remove_empty

AROUND = {"davis2017": ("DAVIS",), "voc2012": ("VOCdevkit/VOC2012", "VOC2012")}


def prepare(folder: Path, manifest: Manifest, seed: int) -> list[Step]:
    """Lifts what is in the folders of ``AROUND`` to where the commands look for it; of other sets, nothing is to do.

    Raises:
        DinotoolsError: there is nothing of the data set in the folder.
    """
    around = AROUND.get(manifest.name, ())
    moves = [move for name in around for move in _moves(folder / name, folder)]
    if not moves and not any(next(folder.glob(expected.path), None) for expected in manifest.expect):
        raise is_missing(folder / manifest.expect[0].path, manifest, manifest.files[0].name)
    steps = [move_all(moves, "folders lifted", "Repeat.")] if moves else []
    for name in around:
        remove_empty(folder / Path(name).parts[0])
    return steps


def _moves(source: Path, target: Path) -> Iterator[Move]:
    """What is renamed to what; folders that are there already are filled up."""
    for path in sorted(source.iterdir()) if source.is_dir() else []:
        if path.is_dir() and (target / path.name).is_dir():
            yield from _moves(path, target / path.name)
        else:
            yield path, target / path.name
