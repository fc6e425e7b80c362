"""One file from the first of its addresses that has it, whole and with the right sum, or not at all.

What has come of it stands beside its place as NAME.part, with a note of where it came from. The next attempt goes on
there if something says that the rest will fit: the server, by an ETag or a date that is still the same, or a published
sum, which is checked over the whole file at the end. Otherwise it begins anew.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from rich.progress import TextColumn

import dinotools
from dinotools.runtime.console import progress_bar, say
from dinotools.runtime.errors import DinotoolsError, RunFailed

CHUNK = 1 << 18  # bytes
MEGABYTE = 1e6
RESERVE = 64 << 20  # bytes that stay free on the disk
TIMEOUT_S = 30.0  # without a byte
PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE = 206, 416
PASSING = {408, 425, 429, 500, 502, 503, 504}  # answers that may be another one soon


class MirrorFailed(Exception):
    """This address has not got the file; another may."""


class BrokenOff(Exception):
    """The same address may do better in a moment."""


@dataclass(frozen=True)
class Fingerprint:
    """What is known of a file before it is there.

    Args:
        size: in bytes.
        sums: hexadecimal, by the name that hashlib has for their kind.
        source: who published the sums.
    """

    size: int | None = None
    sums: Mapping[str, str] = field(default_factory=dict)
    source: str | None = None

    def fault_of(self, path: Path) -> str | None:
        """What is wrong with a file: its size, or its sum beside the published one. None: nothing that one can see."""
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return f"it has {size:,} bytes and should have {self.size:,}"
        for kind, wanted in self.sums.items():
            say(f"checking the {kind} of {path.name}")
            found = hashlib.new(kind, usedforsecurity=False)
            with path.open("rb") as content:
                while chunk := content.read(CHUNK):
                    found.update(chunk)
            if found.hexdigest() != wanted:
                return f"its {kind} is {found.hexdigest()} and should be {wanted} ({self.source})"
        return None


@dataclass
class Origin:
    """Where a partial file came from; ``validator`` is the ETag or date by which the server knows it again."""

    url: str
    validator: str | None
    total: int | None


class Partial:
    """A partial file and the note of its origin, both beside the place where the whole shall stand."""

    def __init__(self, target: Path, fingerprint: Fingerprint) -> None:
        self.target, self.fingerprint = target, fingerprint
        self.path = target.with_name(f"{target.name}.part")
        self._note = target.with_name(f"{target.name}.part.json")

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def fault(self) -> str | None:
        """What is wrong with it, taken for the whole."""
        return self.fingerprint.fault_of(self.path)

    @property
    def origin(self) -> Origin | None:
        """None where nobody knows."""
        try:
            return Origin(**json.loads(self._note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def begin(self, origin: Origin) -> None:
        """Empties it, for bytes from a new origin."""
        self.discard()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._note.write_text(json.dumps(asdict(origin)), encoding="utf-8")

    def discard(self) -> None:
        """Removes it."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def finish(self) -> None:
        """Gives it its name."""
        self.path.replace(self.target)
        self._note.unlink(missing_ok=True)


def download(
    urls: Sequence[str], target: Path, fingerprint: Fingerprint = Fingerprint(), *, waits: Sequence[float] = ()
) -> None:
    """Downloads a file, or what is missing of it.

    Of two processes that download one file at once, one at least ends in an error: in a distributed run let one rank go
    first.

    Args:
        urls: addresses of the file, asked in turn.
        target: where it shall stand; the folder is made if need be.
        fingerprint: what is known of it; where nothing is, it is as long as the server says.
        waits: seconds before an address that has failed in passing is asked again; when the last of them was in vain,
            the next address is. One that brings something begins them anew.

    Raises:
        DinotoolsError: there is no room for it.
        RunFailed: no address has it (says what each had in its place, and of a wrong sum both sums), or it cannot be
            written.
    """
    part = Partial(target, fingerprint)
    faults = []
    for url in urls:
        try:
            _from_address(url, part, waits)
            part.finish()
            return
        except MirrorFailed as fault:
            say(f"{url}: {fault}")
            faults.append(f"{url}: {fault}")
        except OSError as error:
            raise RunFailed(f"cannot be written ({error})", target, "The same command again goes on.") from error
    remedy = "The same command again goes on. Or download it by other means and put it there."
    raise RunFailed(f"cannot be downloaded. {'; '.join(faults)}", target, remedy)


def free_room(folder: Path) -> int:
    """How many bytes may be written there."""
    return shutil.disk_usage(folder).free - RESERVE


def _from_address(url: str, part: Partial, waits: Sequence[float]) -> None:
    """Completes the partial file and checks it; one that was begun earlier and went wrong is begun anew, once."""
    begun = part.size > 0
    _complete(url, part, waits)
    fault = part.fault
    if fault and begun:
        say(f"{part.path.name}: {fault}; beginning anew")
        part.discard()
        _complete(url, part, waits)
        fault = part.fault
    if fault:
        part.discard()
        raise MirrorFailed(fault)


def _complete(url: str, part: Partial, waits: Sequence[float]) -> None:
    """Asks until all is there, or until nothing has come after each of the waits."""
    most, left = part.size, iter(waits)
    while True:
        try:
            _ask(url, part)
            return
        except BrokenOff as fault:
            if part.size > most:
                most, left = part.size, iter(waits)
            wait = next(left, None)
            if wait is None:
                raise MirrorFailed(str(fault)) from fault
            say(f"{url}: {fault}; again in {wait:g} s")
            time.sleep(wait)


def _ask(url: str, part: Partial) -> None:
    """Appends to the partial file what one request brings."""
    headers = {"User-Agent": f"dinotools/{dinotools.__version__}"} | _range(url, part)
    if "Range" in headers and part.origin and part.size == part.origin.total:
        return  # it was stopped between the last byte and the check
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT_S)
    except HTTPError as error:
        if error.code == RANGE_NOT_SATISFIABLE and "Range" in headers:
            part.discard()
            raise BrokenOff("the file there is shorter than what had come of it") from error
        kind = BrokenOff if error.code in PASSING else MirrorFailed
        raise kind(f"the server answered {error.code} ({error.reason})") from error
    except (OSError, HTTPException) as error:
        raise BrokenOff(str(getattr(error, "reason", error)) or type(error).__name__) from error
    with response:
        total = _meet(response, url, part)
        _append(response, url, part, total)
    if total is not None and part.size != total:
        raise BrokenOff(f"the connection broke off with {part.size:,} of {total:,} bytes")


def _range(url: str, part: Partial) -> dict[str, str]:
    """The header that asks for the rest only, where something will tell whether it fits."""
    origin = part.origin
    if not part.size or origin is None:
        return {}
    rest = {"Range": f"bytes={part.size}-"}
    if origin.url == url and origin.validator:
        return rest | {"If-Range": origin.validator}
    return rest if part.fingerprint.sums else {}


def _meet(response: HTTPResponse, url: str, part: Partial) -> int | None:
    """Looks at what the server has begun to send; returns the size of the whole, if it says so."""
    tag = response.headers.get("ETag") or ""
    weak = not tag or tag.startswith("W/")  # such a one does not promise the same bytes
    validator = response.headers.get("Last-Modified") if weak else tag
    length = response.headers.get("Content-Length") or ""
    total = int(length) if length.isdigit() else None
    origin = part.origin if response.status == PARTIAL_CONTENT else None
    if origin is not None:
        sent, _, size = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        total = int(size) if size.isdigit() else None
        other = origin.url == url and None not in (validator, origin.validator) and validator != origin.validator
        if other or not sent.startswith(f"{part.size}-") or (origin.total or total) != total:
            part.discard()
            raise BrokenOff("what the server sent is not the rest of what had come before")
    if response.headers.get_content_type() == "text/html" and part.target.suffix not in (".html", ".htm"):
        raise MirrorFailed("there is a web page in its place")
    known = part.fingerprint.size
    if known is not None and total is not None and total != known:
        raise MirrorFailed(f"it has {total:,} bytes there and should have {known:,}")
    if origin is None:
        part.begin(Origin(url, validator, total))
    missing = (total or known or 0) - part.size
    if missing > free_room(part.path.parent):
        what = f"there is no room for the {missing / MEGABYTE:,.0f} MB that are missing of it"
        raise DinotoolsError(what, part.target, "Free some, or choose another place.")
    return total


def _append(response: HTTPResponse, url: str, part: Partial, total: int | None) -> None:
    done = part.size
    size = f", {(total - done) / MEGABYTE:,.1f} MB" if total else ""
    say(f"downloading {url} to {part.target.parent}{size}")
    with part.path.open("ab") as file, progress_bar(TextColumn("MB")) as bar:
        task = bar.add_task(
            part.target.name, total=None if total is None else total / MEGABYTE, completed=int(done / MEGABYTE)
        )
        while True:
            try:
                chunk = response.read(CHUNK)
            except (OSError, HTTPException) as error:
                raise BrokenOff(str(error) or type(error).__name__) from error
            if part.size != done:  # there are bytes between ours, or it was begun anew
                part.discard()
                raise RunFailed("another process is downloading it too", part.target, "Let one of them go first.")
            if not chunk:
                return
            file.write(chunk)
            file.flush()
            done += len(chunk)
            bar.update(task, completed=done / MEGABYTE)
