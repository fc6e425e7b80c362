"""Tar shards in WebDataset's layout, read like any other images: each by its number, in any order.

The files of a sample stand in one shard and share their name up to its first dot: ``0001.jpg``, ``0001.cls``. What a
pattern of shards means, and where a name ends, is decided by the ``webdataset`` library. It reads shards from front to
back only; since images are asked for by their numbers here, ``shard_index`` finds their places.
"""

from __future__ import annotations

import importlib
import re
import tarfile
from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np

from dinotools.data.images import RGB, Reader, UnreadableImage
from dinotools.data.shard_index import NO_LABEL, Shard, indexed
from dinotools.runtime.console import track
from dinotools.runtime.errors import DinotoolsError

SUFFIX = ".tar"
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
WILDCARD = re.compile(r"[*?\[]")
SHOWN = 3  # names in an error


def means_shards(spec: str) -> bool:
    """Whether a name or pattern means tar shards."""
    return spec.lower().endswith((SUFFIX, *COMPRESSED))


class ShardImages:
    """The images of tar shards; an ``ImageSource``. A file is open only while it is read, so that any process may.

    With a number (``.cls``) in every sample, those that occur are the classes.

    Args:
        shards: where the images lie.
        reader: makes images of their bytes.
    """

    def __init__(self, shards: Sequence[Shard], reader: Reader = RGB) -> None:
        self._shards, self._reader = shards, reader
        self._ends = np.cumsum([len(shard.starts) for shard in shards])
        self.labels: list[int] | None = None
        self.classes: list[str] | None = None
        labels = np.concatenate([shard.labels for shard in shards])
        if (labels != NO_LABEL).all():
            numbers, positions = np.unique(labels, return_inverse=True)
            self.classes, self.labels = [str(number) for number in numbers], positions.tolist()

    def __len__(self) -> int:
        """Number of images."""
        return int(self._ends[-1])

    def name(self, index: int) -> str:
        """The shard and the name in it, such as ``shards/000.tar/0001.jpg``; read from the shard."""
        shard, place = self._find(index)
        try:
            with tarfile.open(shard.path, "r:") as archive:
                assert archive.fileobj is not None
                archive.fileobj.seek(int(shard.headers[place]))
                return f"{shard.path}/{archive.tarinfo.fromtarfile(archive).name}"
        except (OSError, tarfile.TarError):  # the shard is no longer what it was
            return f"{shard.path}/{place}"

    def load(self, index: int) -> Any:
        """What the reader makes of the image: with the default, an image in mode RGB. Raises UnreadableImage."""
        shard, place = self._find(index)
        size = int(shard.sizes[place])
        try:
            with Path(shard.path).open("rb", buffering=0) as file:
                file.seek(int(shard.starts[place]))
                data = file.read(size)
            if len(data) != size:
                raise UnreadableImage(shard.path, "the shard was cut short during the run")
            return self._reader.decode(shard.path, data)
        except OSError as error:
            raise UnreadableImage(self.name(index), error.strerror or str(error)) from error
        except UnreadableImage as error:
            raise UnreadableImage(self.name(index), error.reason) from error

    def _find(self, index: int) -> tuple[Shard, int]:
        number = int(np.searchsorted(self._ends, index, side="right"))
        shard = self._shards[number]
        return shard, index - int(self._ends[number]) + len(shard.starts)


def open_shards(spec: str, reader: Reader = RGB) -> ShardImages:
    """Opens the shards that a name or pattern means: ``000.tar``, ``{000..146}.tar``, ``part-*.tar``.

    Raises:
        DinotoolsError: the extra is not installed; a shard is missing, compressed, cut short, damaged, without images,
            or holds two images of one sample.
    """
    split_name = _webdataset("tariterators").base_plus_ext
    paths = expand(spec)
    tracked = track(paths, "looking through shards", len(paths))
    return ShardImages([indexed(path, reader.extensions, split_name) for path in tracked], reader)


def expand(spec: str) -> list[str]:
    """The files that a name or pattern of shards means, each once.

    Raises:
        DinotoolsError: the pattern cannot be read or fits nothing; a shard that it names is missing, or compressed.
    """
    if spec.lower().endswith(COMPRESSED):
        remedy = "Uncompress the tar; the images in it are compressed themselves."
        raise DinotoolsError("a compressed shard cannot be read from its middle", spec, remedy)
    pattern = str(Path(spec).expanduser())
    if Path(pattern).is_file():
        return [pattern]
    try:
        named = _webdataset("shardlists").expand_urls(pattern)
    except (AssertionError, KeyError, ValueError) as error:  # a variable that is not set, braces that do not match
        raise DinotoolsError(f"cannot be read as a pattern ({error})", spec, "Check its braces.") from error
    found = [path for name in named for path in (sorted(glob(name)) if WILDCARD.search(name) else [name])]  # noqa: PTH207
    missing = [path for path in found if not Path(path).is_file()]
    if not found or missing == [pattern]:
        raise DinotoolsError("there is no such file", spec, "Give a tar file, '{000..146}.tar' or '*.tar'.")
    if missing:
        shown = ", ".join(missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
        raise DinotoolsError(
            f"{len(missing):,} of its {len(found):,} shards are missing: {shown}",
            spec,
            "Fetch them, or name only the shards that are there.",
        )
    return list(dict.fromkeys(found))


def _webdataset(module: str) -> Any:
    try:
        return importlib.import_module(f"webdataset.{module}")
    except ImportError as error:
        remedy = "Install it: pip install 'dinotools[shards]'"
        raise DinotoolsError("tar shards need the webdataset library", "--data", remedy) from error
