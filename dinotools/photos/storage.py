"""An index as files: the vectors of a folder of photos.

The folder holds ``index.json`` (where the photos are, which network describes them and with which settings, and which
lots count) and the lots, at most 4,096 photos each: ``lot-00000.npy``, one row of length 1 per photo, and
``lot-00000.json``, a list of ``[path, bytes, time of change in ns]`` for its ``photos``, in the order of the rows, and
another for the ``unreadable`` ones, which need not be tried again until they change. Paths are relative to the folder
of photos, so that it may move.

A lot never changes. It is written whole, then ``index.json`` names it and no longer names those it replaces, and then
these are deleted: a kill between leaves files that nobody names, which the next command removes. Rows are float16,
which are half the bytes to store and to read at every search (1.5 GB for a million vectors of ViT-S): rounding moves a
similarity by less than 0.0001.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dinotools.runtime.errors import DinotoolsError
from dinotools.runtime.run_directory import TEMPORARY, write_atomically, write_json

INDEX = "index.json"
FORMAT = 1
LOT = 4096  # photos; every lot in use is an open file
PART = 512  # photos that become a lot at once, as many as a kill may lose; such lots are joined later
DAMAGED = "Remove the index and make it again with `dinotools index`."


class Photo(NamedTuple):
    """A file as it was when it was looked at: another size or time makes it another photo.

    ``path`` is relative to the folder of photos, ``bytes`` the size of the file, ``changed`` a time in ns.
    """

    path: str
    bytes: int
    changed: int


@dataclass(frozen=True)
class Lot:
    """Some photos of an index, one per row, and files that are no readable images."""

    name: str
    photos: tuple[Photo, ...]
    unreadable: tuple[Photo, ...]


class Index:
    """The index in a folder.

    Args:
        folder: of the index.

    Raises:
        DinotoolsError: there is none, it is of an unknown format, or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.facts: dict[str, Any] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DinotoolsError("holds no index", folder, "Make one with `dinotools index DIR --out`.") from error
        if not isinstance(self.facts, dict) or self.facts.get("format") != FORMAT:
            raise DinotoolsError("was written by another version of dinotools", folder, "Make the index again.")
        self.lots = [self._read_lot(name) for name in self.facts["lots"]]

    @classmethod
    def create(cls, folder: Path, facts: dict[str, Any]) -> Index:
        """Makes an index without photos.

        Args:
            folder: new, or empty.
            facts: what describes the photos: ``network``, ``settings``, ``width``.

        Raises:
            DinotoolsError: the folder holds something, is a file, or cannot be written.
        """
        if folder.exists() and not (folder.is_dir() and all(path.suffix == TEMPORARY for path in folder.iterdir())):
            raise DinotoolsError("holds something, but no index", folder, "Choose another folder for the index.")
        try:
            write_json(folder / INDEX, {"format": FORMAT, "photos": None, "lots": []} | facts)
        except OSError as error:
            raise DinotoolsError(f"cannot be written ({error.strerror})", folder, "Choose another folder.") from error
        return cls(folder)

    @property
    def photos(self) -> list[Photo]:
        """All photos, in the order of the rows."""
        return [photo for lot in self.lots for photo in lot.photos]

    @property
    def unreadable(self) -> list[Photo]:
        """All files that could not be read."""
        return [photo for lot in self.lots for photo in lot.unreadable]

    def path(self, photo: Photo) -> str:
        """Where a photo lies, or lay when the index was last brought up to date."""
        return str(Path(self.facts["photos"], photo.path))

    def vectors(self, lot: Lot) -> Tensor:
        """The rows of a lot, mapped from its file: (n, width) float16.

        Raises:
            DinotoolsError: they are gone or damaged.
        """
        path = self._file(lot.name, ".npy")
        try:
            rows = np.load(path, mmap_mode="c")  # never written to; "r" would draw a warning
        except (FileNotFoundError, EOFError, ValueError) as error:
            raise DinotoolsError("is gone, or no array", path, DAMAGED) from error
        except OSError as error:  # every lot in use is an open file
            remedy = "Check its permissions and the limit of open files (ulimit -n)."
            raise DinotoolsError(f"cannot be read ({error.strerror})", path, remedy) from error
        if rows.shape != (len(lot.photos), self.facts["width"]) or rows.dtype != np.float16:
            raise DinotoolsError(f"holds {rows.dtype} of shape {rows.shape}", path, DAMAGED)
        return torch.from_numpy(rows)

    def shards(self) -> list[Tensor]:
        """The rows of all lots, mapped."""
        return [self.vectors(lot) for lot in self.lots if lot.photos]

    def add(
        self, vectors: Tensor, photos: Sequence[Photo], unreadable: Sequence[Photo] = (), instead_of: Sequence[Lot] = ()
    ) -> None:
        """Adds a lot, perhaps in place of others; no photo and nothing unreadable make no lot.

        Args:
            vectors: (n, width) floats of length 1.
            photos: n of them.
            unreadable: files that have no row.
            instead_of: lots that no longer count.
        """
        lots = [lot for lot in self.lots if lot not in instead_of]
        if photos or unreadable:
            # no file is written over: one that was deleted may be mapped yet
            number = max((int(lot.name.rpartition("-")[2]) for lot in self.lots), default=-1) + 1
            lot = Lot(f"lot-{number:05d}", tuple(photos), tuple(unreadable))
            rows = vectors.half().numpy().reshape(len(photos), self.facts["width"])
            write_atomically(self._file(lot.name, ".npy"), lambda path: _save(path, rows))
            text = json.dumps({"photos": lot.photos, "unreadable": lot.unreadable})
            write_atomically(self._file(lot.name, ".json"), lambda path: path.write_text(text, encoding="utf-8"))
            lots.append(lot)
        self.lots = lots
        self.save()
        self.remove_leftovers()

    def save(self) -> None:
        """Writes ``index.json``: from then on the lots and facts count."""
        self.facts["lots"] = [lot.name for lot in self.lots]
        write_json(self.folder / INDEX, self.facts)

    def remove_leftovers(self) -> None:
        """Deletes the files of lots that do not count."""
        named = {lot.name for lot in self.lots}
        for path in self.folder.glob("lot-*.*"):
            if path.stem not in named and path.suffix in (".npy", ".json"):
                path.unlink(missing_ok=True)

    def _file(self, name: str, suffix: str) -> Path:
        return self.folder / f"{name}{suffix}"

    def _read_lot(self, name: str) -> Lot:
        path = self._file(name, ".json")
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            photos, unreadable = (tuple(Photo(*entry) for entry in found[key]) for key in ("photos", "unreadable"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DinotoolsError("is gone, or no list of photos", path, DAMAGED) from error
        return Lot(name, photos, unreadable)


def _save(path: Path, rows: np.ndarray) -> None:
    with path.open("wb") as file:  # given a path, np.save would append .npy
        np.save(file, rows)
