"""Where the images of a tar file lie: found by looking through it once, and then remembered in the cache."""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from dinotools.runtime.cache import cache_directory
from dinotools.runtime.errors import DinotoolsError
from dinotools.runtime.run_directory import write_atomically

SplitName = Callable[[str], tuple[str | None, str | None]]

METADATA = re.compile(r"__[^/]*__($|/)")  # members that the layout sets apart
NO_LABEL = -1
LABEL = "cls"
LABEL_DIGITS = 18  # as many always fit into 64 bits
AGAIN = "Copy or download it again, or leave it out of --data."


@dataclass(frozen=True)
class Shard:
    """A tar file and the places of its images, in its order.

    Args:
        path: the file.
        headers: where the tar headers of the images begin (n,) int64.
        starts: where the images begin (n,) int64.
        sizes: bytes of the images (n,) int64.
        labels: number in the sample's ``.cls`` (n,) int64; NO_LABEL where there is none.
    """

    path: str
    headers: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray


def indexed(path: str, extensions: tuple[str, ...], split_name: SplitName) -> Shard:
    """The places of a shard's images, from the cache if the file is still the one that was looked through.

    Args:
        path: the tar file.
        extensions: of images, in lower case, with their dots.
        split_name: divides a member's name into the sample's key and the extension, or None and None.

    Raises:
        DinotoolsError: it cannot be read, is cut short, damaged, no tar, without images, or holds two of one sample.
    """
    try:
        file = Path(path).resolve()
        status = file.stat()
        memory = _memory_of(f"{file} {status.st_size} {status.st_mtime_ns} {extensions}")
        shard = None if memory is None else _recall(memory, path)
        if shard is None:
            shard = look_through(path, extensions, split_name)
            if memory is not None:
                _remember(memory, shard)
    except OSError as error:
        raise DinotoolsError(f"cannot be read ({error.strerror})", path, "Check its permissions.") from error
    return shard


def look_through(path: str, extensions: tuple[str, ...], split_name: SplitName) -> Shard:
    """Finds the images of a shard. Arguments and errors are those of ``indexed``."""
    images: dict[str, tuple[int, int, int]] = {}  # key of the sample -> where its image lies
    labels: dict[str, int] = {}
    with _opened(path) as archive:
        for member in _members(archive, path, images):
            key, extension = (None, None) if METADATA.match(member.name) else split_name(member.name)
            if key is None or extension is None or not member.isreg() or member.issparse():
                continue  # links and devices name what lies elsewhere
            if f".{extension.lower()}" in extensions:
                if key in images:
                    what = f"sample {key} has two images; the second is {member.name}"
                    raise DinotoolsError(what, path, "Keep one image a sample, or give the samples different names.")
                images[key] = (member.offset, member.offset_data, member.size)
            elif extension.lower() == LABEL:
                labels[key] = _label(archive, member)
    if not images:
        raise DinotoolsError("holds no images", path, f"Images in a shard end in {', '.join(extensions)}.")
    headers, starts, sizes = np.array(list(images.values()), dtype=np.int64).T.copy()
    return Shard(path, headers, starts, sizes, np.array([labels.get(key, NO_LABEL) for key in images], dtype=np.int64))


def _opened(path: str) -> tarfile.TarFile:
    try:
        return tarfile.open(path, "r:")
    except tarfile.TarError as error:
        raise DinotoolsError(f"is no tar file ({error})", path, AGAIN) from error


def _members(archive: tarfile.TarFile, path: str, images: dict[str, tuple[int, int, int]]) -> Iterator[tarfile.TarInfo]:
    """The members of a tar file; then makes sure that it is whole, since tarfile takes damage for the end."""
    assert archive.fileobj is not None
    size = Path(path).stat().st_size
    end, reason = b"", ""
    try:
        while (member := archive.next()) is not None:
            if archive.offset < member.offset_data:  # a size below zero would lead back, round and round
                raise tarfile.ReadError("a member of less than no bytes")
            if archive.offset > size:  # perhaps further away than any file can reach
                raise tarfile.ReadError(f"{member.name} goes on beyond the end")
            archive.members = []  # type: ignore[attr-defined]  # else it keeps them all
            yield member
        archive.fileobj.seek(archive.offset)
        end = archive.fileobj.read(tarfile.BLOCKSIZE)
        if len(end) == tarfile.BLOCKSIZE and not any(end):
            return
    except (tarfile.TarError, ValueError) as error:
        reason = f" ({error})"
    whole = sum(start + length <= size for _, start, length in images.values())
    how = "is damaged" if len(end) == tarfile.BLOCKSIZE else "is cut short"
    raise DinotoolsError(f"{how}; whole images before that: {whole:,}{reason}", path, AGAIN)


def _label(archive: tarfile.TarFile, member: tarfile.TarInfo) -> int:
    try:
        content = archive.extractfile(member)
        text = content.read(2 * LABEL_DIGITS).strip() if content else b""
    except tarfile.TarError:  # the file ends here, which the next member will tell
        return NO_LABEL
    return int(text) if text.isdigit() and len(text) <= LABEL_DIGITS else NO_LABEL


def _memory_of(identity: str) -> Path | None:
    """Where the places in a file of this path, size and time are remembered; None without a cache."""
    try:
        return cache_directory("shards") / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.npz"
    except DinotoolsError:
        return None


def _recall(memory: Path, path: str) -> Shard | None:
    try:
        with np.load(memory, allow_pickle=False) as columns:
            return Shard(path, *(columns[name] for name in ("headers", "starts", "sizes", "labels")))
    except Exception:  # not there, or not whole: it costs a minute to look again, not a result
        return None


def _remember(memory: Path, shard: Shard) -> None:
    columns = asdict(shard)
    del columns["path"]

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, **columns)

    try:
        write_atomically(memory, write)
    except OSError:  # a full disk, or another process that was faster
        return
