"""A manifest: what is known of a public data set, as a TOML file in data_manifests/ states it.

The keys are the fields of ``Manifest``, with tables [[files]], [[splits]] and [[expect]]. A file whose name and urls
hold {000..499} stands for 500 of them.
"""

from __future__ import annotations

import difflib
import re
import sys
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from dinotools.configs.files import shipped
from dinotools.runtime.downloading import Fingerprint
from dinotools.runtime.errors import DinotoolsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ACCESS = ("open", "registration", "request")
SUMS = {"md5": 32, "sha256": 64}  # hexadecimal digits
NUMBERED = re.compile(r"\{(\d+)\.\.(\d+)\}")
MAX_NUMBERED = 10_000  # files of one entry

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class File:
    """One file to download.

    Args:
        name: where it stands below the folder of the data set.
        urls: addresses, tried in order; none where it must be downloaded by hand.
        bytes: its size, where known.
        md5: its sum, where published.
        sha256: likewise.
        sum_source: who published the sum.
        unpack: folder below that of the data set that it is unpacked into; None: it is kept as a file.
        strip: leading folders of the archive that are dropped.
    """

    name: str
    urls: tuple[str, ...] = ()
    bytes: int | None = None
    md5: str | None = None
    sha256: str | None = None
    sum_source: str | None = None
    unpack: str | None = None
    strip: int = 0

    @property
    def fingerprint(self) -> Fingerprint:
        """What a download of it is checked against."""
        sums = {kind: value for kind in SUMS if (value := getattr(self, kind)) is not None}
        return Fingerprint(self.bytes, sums, self.sum_source)


@dataclass(frozen=True, kw_only=True)
class Split:
    """How much a split holds: images or frames, and the classes or sequences that they are of."""

    name: str
    images: int
    classes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Files of the prepared layout: a glob below the folder, how many there are exactly, and what they are."""

    path: str
    count: int | None = None
    about: str = ""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What is known of a data set. ``name`` is the stem of its file; the other fields are the keys in it.

    Args:
        access: open (it can be fetched), registration or request.
        how_to_get: what to do by hand, where it is not open.
        prepare: name of a preparation; ``plain`` where unpacking is all.
    """

    name: str
    title: str
    about: str
    homepage: str
    citation: str
    licence: str
    terms: str
    access: str
    how_to_get: str = ""
    problems: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    prepare: str = "plain"
    files: tuple[File, ...] = ()
    splits: tuple[Split, ...] = ()
    expect: tuple[Expected, ...] = ()


def names() -> list[str]:
    """Names of all data sets that have a manifest."""
    return sorted(path.stem for path in shipped("data_manifests").glob("*.toml"))


def read(name: str) -> Manifest:
    """The manifest of a data set.

    Raises:
        DinotoolsError: there is none of this name, or its file is not as it should be.
    """
    known = names()
    if name not in known:
        close = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
        guess = f"Did you mean {' or '.join(close)}? " if close else ""
        raise DinotoolsError(f"no data set is called {name!r}", remedy=f"{guess}Known: {', '.join(known)}.")
    path = shipped("data_manifests") / f"{name}.toml"
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # which TOML errors and wrong encodings are
        raise DinotoolsError(f"cannot be read ({error})", path) from error
    if "name" in values:
        raise DinotoolsError("name: is given by the name of the file", path, "Remove it.")
    manifest = _build(Manifest, values | {"name": name}, path, "")
    manifest = replace(manifest, files=tuple(one for file in manifest.files for one in _numbered(file, path)))
    _check(manifest, path)
    return manifest


def _build(kind: type[T], values: dict[str, Any], path: Path, within: str) -> T:
    """An object of a dataclass out of a TOML table; every key must be a field, and of its type."""
    types = get_type_hints(kind)
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            raise DinotoolsError(
                f"{within}{key}: is no key of a manifest",
                path,
                f"Did you mean {close[0]}?" if close else f"Known: {', '.join(known)}.",
            )
    for field in fields(kind):  # type: ignore[arg-type]
        if field.default is MISSING and field.name not in values:
            raise DinotoolsError(f"{within}{field.name}: is missing", path, "Add it.")
    return kind(**{key: _value(types[key], value, path, within + key) for key, value in values.items()})


def _value(wanted: Any, value: Any, path: Path, key: str) -> Any:
    if get_origin(wanted) is tuple:
        if not isinstance(value, list):
            raise DinotoolsError(f"{key}: must be a list", path)
        item = get_args(wanted)[0]
        return tuple(_value(item, v, path, f"{key}[{i}]") for i, v in enumerate(value))
    if type(None) in get_args(wanted):
        wanted = get_args(wanted)[0]
    if wanted in (File, Split, Expected):
        if not isinstance(value, dict):
            raise DinotoolsError(f"{key}: must be a table", path)
        return _build(wanted, value, path, f"{key}.")
    if type(value) is not wanted:
        raise DinotoolsError(f"{key}: must be of type {wanted.__name__}, not {type(value).__name__}", path)
    if wanted is int and value < 0:
        raise DinotoolsError(f"{key}: must not be negative", path)
    return value


def _numbered(file: File, path: Path) -> list[File]:
    """The files that one with {first..last} in its name stands for."""
    found = NUMBERED.search(file.name)
    if not found:
        return [file]
    first, last = found.groups()
    if int(first) > int(last) or int(last) - int(first) >= MAX_NUMBERED:
        raise DinotoolsError(f"files: {found.group()} in {file.name} must count upwards, to {MAX_NUMBERED:,}", path)
    if file.bytes is not None or file.md5 or file.sha256:
        raise DinotoolsError(f"files: {file.name} cannot have one size or sum for all", path, "List them one by one.")
    numbers = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return [
        replace(
            file,
            name=file.name.replace(found.group(), number),
            urls=tuple(url.replace(found.group(), number) for url in file.urls),
        )
        for number in numbers
    ]


def _check(manifest: Manifest, path: Path) -> None:
    """What types cannot say."""

    def must(holds: bool, key: str, what: str) -> None:
        if not holds:
            raise DinotoolsError(f"{key}: {what}", path)

    must(manifest.access in ACCESS, "access", f"must be one of {', '.join(ACCESS)}")
    must(manifest.access == "open" or bool(manifest.how_to_get), "how_to_get", "is missing, and it is not open")
    seen: set[str] = set()
    for file in manifest.files:
        key = f"files[{file.name}]"
        must(_below(file.name) and file.name != ".", f"{key}.name", "must be a path below the folder of the set")
        must(file.name.casefold() not in seen, f"{key}.name", "stands there twice")
        seen.add(file.name.casefold())
        must(file.unpack is None or _below(file.unpack), f"{key}.unpack", "must be a path below the folder of the set")
        must(file.unpack is not None or not file.strip, f"{key}.strip", "is for files that are unpacked")
        must(bool(file.urls or manifest.how_to_get), f"{key}.urls", "is missing, and how_to_get as well")
        for url in file.urls:
            scheme, host = urlsplit(url)[:2]
            must(scheme in ("http", "https") and bool(host), f"{key}.urls", f"{url} is no address")
            must(not NUMBERED.search(url), f"{key}.urls", f"{url} has numbers that the name does not have")
        for kind, digits in SUMS.items():
            value = getattr(file, kind)
            must(value is None or bool(re.fullmatch(f"[0-9a-f]{{{digits}}}", value)), f"{key}.{kind}", "is no such sum")
            must(value is None or bool(file.sum_source), f"{key}.sum_source", "is missing")
    for expected in manifest.expect:
        must(_below(expected.path), "expect.path", f"{expected.path} must be a glob below the folder of the set")


def _below(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(path) and not path.startswith("/") and ".." not in parts and not set(path) & set("\\:\0")
