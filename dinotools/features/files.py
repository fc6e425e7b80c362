"""Features as files: memory-mapped shards and an index of what made them.

The folder of one split holds ``index.json`` (settings: checkpoint and its sha256, transform, pooling, number type;
classes; counts), ``names.json`` and ``labels.npy`` (of every image of the data set), and shards of at most 4,096
images: ``shard-00000.npy`` (rows of those that could be read) and ``shard-00000.json`` (names of the others). A shard
is renamed into place when it is whole: an extraction that is killed goes on with the first shard that is missing, and
ranks need not talk to each other, since shard i belongs to rank i modulo the number of ranks.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dinotools.data.oxford_paris import CroppedFiles
from dinotools.data.sources import ImageSource
from dinotools.features.extraction import Extracted, Extractor, Features
from dinotools.runtime import distributed
from dinotools.runtime.errors import DinotoolsError, RunFailed
from dinotools.runtime.run_directory import TEMPORARY, write_atomically

INDEX, NAMES, LABELS = "index.json", "names.json", "labels.npy"
SMALLEST_SHARD, LARGEST_SHARD = 64, 4096  # images; as much as a kill may lose
SHARDS = 16  # of a small data set: work for so many ranks
FORMAT = 1


def fingerprint(images: ImageSource) -> str:
    """A hash of names, labels and, of files, size and time of change: another data set has another one."""
    digest = hashlib.sha256()
    if isinstance(images, CroppedFiles):  # other images by the same names
        digest.update(repr(images.boxes).encode())
    for i in range(len(images)):
        name = images.name(i)
        label = None if images.labels is None else int(images.labels[i])
        digest.update(repr((name, label, _stamp(name))).encode())
    return digest.hexdigest()


def _stamp(name: str) -> tuple[int, int] | None:
    try:
        status = Path(name).stat()
    except OSError:
        return None  # not a file: an image of a packed data set
    return status.st_size, status.st_mtime_ns


def write_split(
    folder: Path,
    settings: dict[str, Any],
    checkpoint: dict[str, Any],
    extractor: Extractor,
    name: str,
    batch_size: int,
) -> int:
    """Makes the folder of a split complete, all ranks together.

    Args:
        folder: new, or left behind by an extraction with the same settings.
        settings: what the features depend on beside the images.
        checkpoint: what the index says of the network.
        extractor: of the images of the split.
        name: what the progress bar calls them.
        batch_size: images per forward pass.

    Returns:
        How many images this rank ran through the network; 0 if nothing was missing.

    Raises:
        DinotoolsError: the folder holds features of other settings or images, or something else; too many unreadable
            images.
        RunFailed: a feature is not finite, or not in half precision.
    """
    if distributed.is_main():
        _prepare_folder(folder, extractor.images, settings, checkpoint)
    distributed.barrier()
    done = _write_shards(folder, extractor, name, batch_size)
    distributed.barrier()
    skipped = sum(len(_left_out(folder, shard)) for shard in range(_count(read_index(folder))))
    extractor.bad.check(skipped, folder)  # of all ranks, and of runs that were killed
    return done


def cached_features(
    cache: Path,
    settings: dict[str, Any],
    checkpoint: dict[str, Any],
    extractor: Extractor,
    name: str,
    batch_size: int,
) -> Features:
    """Features from a folder that many data sets and settings share; extracted there if they are new.

    Args: as for ``write_split``; cache is the shared folder.

    Raises:
        DinotoolsError: too many unreadable images; damaged files.
        RunFailed: a feature is not finite.
    """
    key = json.dumps([settings, fingerprint(extractor.images)], sort_keys=True)
    folder = cache / hashlib.sha256(key.encode()).hexdigest()[:16]
    write_split(folder, settings, checkpoint, extractor, name, batch_size)
    return read_features(folder)


def _prepare_folder(folder: Path, images: ImageSource, settings: dict[str, Any], checkpoint: dict[str, Any]) -> None:
    index: dict[str, Any] = {
        "format": FORMAT,
        "images": len(images),
        "classes": images.classes and list(images.classes),
    }
    shard_images = min(max(-(-len(images) // SHARDS), SMALLEST_SHARD), LARGEST_SHARD)
    index |= {"shard_images": shard_images, "fingerprint": fingerprint(images), "settings": settings}
    if (folder / INDEX).is_file():
        if difference := _differences(read_index(folder), index):
            raise DinotoolsError(
                f"holds features of other settings ({difference})", folder, "Give another --out, or --overwrite."
            )
        return
    begun = (NAMES, LABELS)  # what a kill before the index leaves behind
    if folder.is_dir() and any(path.name not in begun and path.suffix != TEMPORARY for path in folder.iterdir()):
        raise DinotoolsError("holds something, but no features", folder, "Give another --out.")
    labels = np.asarray(images.labels if images.labels is not None else np.full(len(images), -1), np.int64)
    names = [images.name(i) for i in range(len(images))]
    _write(folder / NAMES, lambda path: path.write_text(json.dumps(names), encoding="utf-8"))
    _write(folder / LABELS, lambda path: _save(path, labels))
    text = json.dumps(index | {"checkpoint": checkpoint}, indent=2)
    _write(folder / INDEX, lambda path: path.write_text(text, encoding="utf-8"))  # last: where it stands, the others do


def _differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    told = []
    for name in new["settings"].keys() | old["settings"].keys():
        before, now = old["settings"].get(name), new["settings"].get(name)
        if before != now:
            told.append(f"{name} was {before}, now {now}")
    if not told and any(old.get(name) != value for name, value in new.items()):
        told.append("the images or their classes have changed")
    return "; ".join(sorted(told))


def _write_shards(folder: Path, extractor: Extractor, name: str, batch_size: int) -> int:
    """Extracts the shards that are missing and belong to this rank; returns their number of images."""
    index = read_index(folder)
    dtype = np.dtype(index["settings"]["dtype"])
    missing = [
        shard
        for shard in range(_count(index))[distributed.rank() :: distributed.world_size()]
        if not _shard(folder, shard).is_file()
    ]
    if not missing:
        return 0
    ranges = [_positions(index, shard) for shard in missing]
    found = extractor.run(ranges, batch_size, name)
    for shard, positions, extracted in zip(missing, ranges, found, strict=True):
        _write_shard(folder, shard, extracted, positions, extractor, dtype)
    return sum(map(len, ranges))


def _write_shard(
    folder: Path, shard: int, extracted: Extracted, positions: range, extractor: Extractor, dtype: np.dtype[Any]
) -> None:
    with np.errstate(over="ignore"):
        rows = extracted.features.numpy().astype(dtype)
    if not np.isfinite(rows).all():
        raise RunFailed(f"features exceed the range of {dtype}", folder, "Extract with --dtype float32.")
    read = set(extracted.indices.tolist())
    skipped = {str(i): extractor.images.name(i) for i in positions if i not in read}
    text = json.dumps({"rows": len(rows), "skipped": skipped})
    _write(_shard(folder, shard).with_suffix(".json"), lambda path: path.write_text(text, encoding="utf-8"))
    _write(_shard(folder, shard), lambda path: _save(path, rows))


def read_features(folder: Path) -> Features:
    """The features of a split, mapped from its shards.

    Raises:
        DinotoolsError: there are none, they are incomplete, damaged or not finite.
    """
    index = read_index(folder)
    missing = [shard for shard in range(_count(index)) if not _shard(folder, shard).is_file()]
    if missing:
        raise DinotoolsError(
            f"its extraction was interrupted: {len(missing)} of {_count(index)} shards are missing",
            folder,
            "Repeat the `dinotools features` command that began it; it goes on where it stopped.",
        )
    shards, indices, skipped = [], [], []
    for shard in range(_count(index)):
        rows, left_out = _read_shard(folder, shard)
        readable = [i for i in _positions(index, shard) if str(i) not in left_out]
        skipped += list(left_out.values())
        indices += readable
        if len(readable) != len(rows):
            raise DinotoolsError(f"has {len(rows)} rows for {len(readable)} images", _shard(folder, shard), _DAMAGED)
        if len(rows):
            shards.append(rows)
    positions = torch.tensor(indices, dtype=torch.int64)
    return Features(tuple(shards), read_labels(folder)[positions], positions, tuple(skipped))


_DAMAGED = "Remove this file and repeat the `dinotools features` command."


def _read_shard(folder: Path, shard: int) -> tuple[torch.Tensor, dict[str, str]]:
    path = _shard(folder, shard)
    try:
        rows = torch.from_numpy(np.load(path, mmap_mode="c"))  # never written to; "r" would draw a warning
        left_out = _left_out(folder, shard)
    except (FileNotFoundError, EOFError, ValueError, KeyError) as error:
        raise DinotoolsError("is no shard of features, or a damaged one", path, _DAMAGED) from error
    except OSError as error:  # no fault of the file: every shard in use is an open one, or permissions lack
        remedy = "Check its permissions and the limit of open files (ulimit -n)."
        raise DinotoolsError(f"cannot be read ({error.strerror})", path, remedy) from error
    if not all(chunk.isfinite().all() for chunk in rows.split(1024)):
        raise DinotoolsError("holds features that are not finite (NaN)", path, _DAMAGED)
    return rows, left_out


def _left_out(folder: Path, shard: int) -> dict[str, str]:
    """Position (as text) -> name of the images of a shard that could not be read."""
    return json.loads(_shard(folder, shard).with_suffix(".json").read_text(encoding="utf-8"))["skipped"]


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a split.

    Raises:
        DinotoolsError: there is none, or of an unknown format.
    """
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DinotoolsError(
            "holds no features", folder, "Give a folder that `dinotools features --out` wrote."
        ) from error
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise DinotoolsError("was written by another version of dinotools", folder, "Extract the features again.")
    return index


def read_labels(folder: Path) -> torch.Tensor:
    """Classes of all images of a split's data set (N,) int64; -1 where there is none."""
    return torch.from_numpy(np.load(folder / LABELS))


def read_names(folder: Path) -> list[str]:
    """Names of all images of a split's data set."""
    return json.loads((folder / NAMES).read_text(encoding="utf-8"))


def splits_in(folder: Path) -> Iterator[str]:
    """Names of the subfolders that hold features, whole or begun; other people's files of these names do not count."""
    for path in sorted(folder.glob(f"*/{INDEX}")):
        try:
            index = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(index, dict) and {"format", "fingerprint", "shard_images"} <= index.keys():
            yield path.parent.name


def _count(index: dict[str, Any]) -> int:
    return -(-index["images"] // index["shard_images"])


def _positions(index: dict[str, Any], shard: int) -> range:
    return range(index["images"])[shard * index["shard_images"] : (shard + 1) * index["shard_images"]]


def _shard(folder: Path, shard: int) -> Path:
    return folder / f"shard-{shard:05d}.npy"


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """As ``write_atomically``, where two commands with one --cache may write the same file at the same moment."""
    own = path.with_name(f".{os.getpid()}-{path.name}{TEMPORARY}")
    write_atomically(own, write)
    own.replace(path)


def _save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:  # given a path, np.save would append .npy
        np.save(file, array)
