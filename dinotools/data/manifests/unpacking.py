"""Archives from strangers, unpacked so that nothing comes to stand anywhere but below one folder.

Every entry is judged before a byte of it is written, and written by us: as a new file with the user's own permissions.
An archive with an entry that is neither file nor folder, that leads out of the folder or that would overwrite another
is refused whole. All of it goes into a folder of its own first, and into its place once the archive has ended well.
"""

from __future__ import annotations

import filecmp
import gzip
import json
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

from dinotools.data.manifests.manifest import File
from dinotools.runtime.console import track, warn
from dinotools.runtime.downloading import MEGABYTE, RESERVE, free_room
from dinotools.runtime.errors import DinotoolsError, RunFailed
from dinotools.runtime.run_directory import write_json

NOTES = ".dinotools"  # folder below that of the data set: what has been unpacked, and what is just being unpacked
TARS = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
CHUNK = 1 << 20  # bytes
MAX_ENTRIES = 5_000_000
MAX_HEADER = 1 << 20  # bytes of one name or table of attributes: a tar may claim any number, and they go into memory
MAX_DEPTH = 64  # folders within one another
DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,  # a compression that zipfile does not know
    ValueError,  # a name that is not in the encoding that it claims
)

Entry = tuple[PurePosixPath, int, "IO[bytes] | gzip.GzipFile | None"]  # where, how many bytes, these; None: a folder


class Hostile(Exception):
    """An entry that is not unpacked, and its archive neither; says why."""

    remedy = "If you trust it, unpack it by hand."


class NoRoom(Hostile):
    """An archive, hostile or not, that the disk cannot hold."""

    remedy = "Make room on that disk, or take a folder on another."

    def __init__(self) -> None:
        super().__init__(
            f"holds more than there is room for on the disk, of which {RESERVE / MEGABYTE:.0f} MB stay free"
        )


def is_unpacked(file: File, folder: Path) -> bool:
    """Whether a file of a manifest has been unpacked below the folder of its data set."""
    try:
        return json.loads(_note(file, folder).read_text(encoding="utf-8")) == _what(file)
    except (OSError, ValueError):
        return False


def unpack_once(file: File, folder: Path) -> bool:
    """Unpacks folder/NAME into its place, unless that has been done; a note in the folder says so.

    Args:
        file: of a manifest, with ``unpack`` set.
        folder: of the data set.

    Returns:
        Whether there was anything to do.

    Raises:
        DinotoolsError, RunFailed: see ``unpack``.
    """
    if is_unpacked(file, folder):
        return False
    unpack(folder / file.name, folder / (file.unpack or "."), file.strip, folder / NOTES / "unpacking")
    write_json(_note(file, folder), _what(file))
    return True


def _note(file: File, folder: Path) -> Path:
    return folder / NOTES / f"{file.name}.json"


def _what(file: File) -> dict[str, Any]:
    """What a note holds: another archive of the same name, or another place for it, is unpacked again."""
    return {"md5": file.md5, "sha256": file.sha256, "unpack": file.unpack, "strip": file.strip}


def unpack(archive: Path, into: Path, strip: int = 0, within: Path | None = None) -> int:
    """Unpacks a .tar, .tgz, .tar.gz, .tar.bz2, .tar.xz, .zip or .gz.

    Args:
        archive: the file.
        into: folder it goes into; what it holds stays, but for files that the archive has just the same.
        strip: leading folders that are dropped; files that are not as deep are left out, with a warning.
        within: temporary folder, on the same disk, emptied and removed; default: one beside ``into``.

    Returns:
        How many files came out of it.

    Raises:
        DinotoolsError: it is damaged, of an unknown kind, refused (see above), does not fit on the disk, or has a file
            that stands there already with other content. Nothing of it is left, and nothing was overwritten.
        RunFailed: the disk would not take it.
    """
    within = within or into.resolve().with_name(f".{into.resolve().name}.unpacking")
    try:
        shutil.rmtree(within, ignore_errors=True)  # a kill leaves one behind
        within.mkdir(parents=True)
        count = _write(track(_entries(archive), f"unpacking {archive.name}", None), within, strip)
        moves = list(_moves(within, into, archive))
        for source, target in moves:
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
    except Hostile as error:
        raise DinotoolsError(str(error), archive, f"Nothing was unpacked. {error.remedy}") from error
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the others are from gzip and bz2
            what, where = f"cannot be unpacked into {into}", error.filename or into
            remedy = "Nothing is lost: see to that folder and its disk, and repeat."
            raise RunFailed(f"{what} ({error.strerror or error}: {where})", archive, remedy) from error
        remedy = "Nothing was unpacked. Delete it and fetch it again."
        raise DinotoolsError(f"is damaged, or no such archive ({str(error)!a})", archive, remedy) from error
    finally:
        shutil.rmtree(within, ignore_errors=True)
    return count


def _write(entries: Iterator[Entry], folder: Path, strip: int) -> int:
    """Writes entries as new files below an empty folder; returns how many."""
    room = free_room(folder)
    count = dropped = 0
    for number, (path, size, content) in enumerate(entries):
        if number >= MAX_ENTRIES:
            raise Hostile(f"has more than {MAX_ENTRIES:,} entries")
        target = folder.joinpath(*path.parts[strip:])
        if content is not None and not path.parts:
            raise Hostile("has a file where a folder should be")
        if content is not None and len(path.parts) <= strip:
            dropped += 1
            continue
        try:
            (target if content is None else target.parent).mkdir(parents=True, exist_ok=True)
            if content is None:
                continue
            file = target.open("xb")  # new: where case does not matter to the disk, this sees it too
        except (FileExistsError, NotADirectoryError) as error:
            raise Hostile(f"has {str(path)!a} twice") from error
        with file:
            written = 0
            while chunk := content.read(CHUNK):
                written += len(chunk)
                if max(size, written) > room:  # what it says of its size, and what comes
                    raise NoRoom
                file.write(chunk)
        room -= written
        count += 1
    if dropped:
        warn(f"{dropped} files are not {strip} folders deep in the archive, and were left out")
    return count


def _moves(source: Path, target: Path, archive: Path) -> Iterator[tuple[Path, Path]]:
    """What is renamed to what, so that all below one folder comes to stand below another that may exist."""
    for path in sorted(source.iterdir()):
        place = target / path.name
        if not place.exists() and not place.is_symlink():
            yield path, place
        elif path.is_dir() and place.is_dir():
            yield from _moves(path, place, archive)
        elif not (path.is_file() and place.is_file() and filecmp.cmp(path, place, shallow=False)):
            raise DinotoolsError(f"is there already, and not as {archive.name} has it", place, "Move it away.")


def _entries(archive: Path) -> Iterator[Entry]:
    name = archive.name.lower()
    if not archive.stat().st_size:
        raise EOFError("it is empty")  # which gzip takes for the archive of an empty file
    if name.endswith(".zip"):
        yield from _zip_entries(archive)
    elif name.endswith(TARS):
        yield from _tar_entries(archive)
    elif name.endswith(".gz"):
        with gzip.open(archive) as content:
            yield _path(archive.stem), 0, content  # it does not say how long it is
    else:
        raise DinotoolsError("is no .zip, .gz or .tar, by its name", archive)


def _zip_entries(archive: Path) -> Iterator[Entry]:
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        if sum(member.file_size for member in members) > free_room(archive.parent):
            raise NoRoom
        for member in members:
            path = _path(member.filename)
            if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise Hostile(f"has {str(path)!a}, which is neither a file nor a folder")
            if member.flag_bits & 1:
                raise Hostile(f"has {str(path)!a}, which needs a password")
            if member.is_dir():
                yield path, 0, None
                continue
            with file.open(member) as content:
                yield path, member.file_size, content


class _Header(tarfile.TarInfo):
    """A header of a tar; names and attributes that it puts into blocks of their own are of bounded length."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        header = super().frombuf(buf, encoding, errors)
        if header.type not in (*tarfile.REGULAR_TYPES, tarfile.DIRTYPE) and header.size > MAX_HEADER:
            raise Hostile("has a name or attributes of more than a megabyte")
        return header


def _tar_entries(archive: Path) -> Iterator[Entry]:
    with tarfile.open(archive, tarinfo=_Header) as file:
        while (member := file.next()) is not None:
            path = _path(member.name)
            if member.isdir():
                yield path, 0, None
            elif member.isreg() and not member.issparse():
                content = file.extractfile(member)
                assert content is not None
                yield path, member.size, content
            else:
                raise Hostile(f"has {str(path)!a}, which is neither a file nor a folder")
            file.members.clear()  # type: ignore[attr-defined] # it would remember all of millions
        _check_end(file)


def _check_end(file: tarfile.TarFile) -> None:
    """tarfile takes a header that makes no sense for the end."""
    assert file.fileobj is not None
    file.fileobj.seek(file.offset)
    block = file.fileobj.read(tarfile.BLOCKSIZE)
    if block.strip(b"\0"):
        raise tarfile.ReadError("a header makes no sense")
    if not block:
        warn("the archive has no end mark; look with `dinotools data check` whether all is there")


def _path(name: str) -> PurePosixPath:
    """The name of an entry, if it leads nowhere else on any system."""
    if not name:
        raise Hostile("has an entry without a name")
    path = PurePosixPath(name)
    windows = PureWindowsPath(name)  # knows both kinds of roots
    if ".." in path.parts or windows.drive or windows.root or "\\" in name:
        raise Hostile(f"has {name!a}, which leads out of its folder")
    if len(path.parts) > MAX_DEPTH:
        raise Hostile(f"has folders that are {len(path.parts)} deep")
    if any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 for letter in name):
        raise Hostile(f"has {name!a}, which is no proper name")
    return path
