"""Released weights, fetched once into the user's cache.

The authors publish no checksums and their file names carry none, so a download is checked against the size that the
server announced and nothing else; the results name the sha256 of the file that was loaded.
"""

from __future__ import annotations

from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from rich.progress import TextColumn

from dinotools.runtime.cache import cache_directory
from dinotools.runtime.console import progress_bar, say
from dinotools.runtime.errors import DinotoolsError

CHUNK = 1 << 18  # bytes
MEGABYTE = 1e6
TIMEOUT_S = 30.0  # without a byte
RANGE_NOT_SATISFIABLE = 416
PARTIAL_CONTENT = 206


def fetch(url: str, *, download: bool = True) -> Path:
    """The cached file of an URL, downloaded if it is not there yet.

    An interrupted download stays beside its place as ``NAME.part`` and the next call goes on where it stopped. Two
    processes that fetch one file at once end in an error, never in a wrong file: in a distributed run let one rank
    fetch first.

    Args:
        url: address of the file; the last part of its path is the name in the cache.
        download: whether the network may be used.

    Raises:
        DinotoolsError: the file is not there and cannot be had; names the place where one downloaded by hand belongs.
    """
    target = cache_directory("checkpoints") / Path(urlsplit(url).path).name
    if target.is_file():
        return target
    by_hand = f"Download {url} by other means and put the file at {target}"
    if not download:
        raise DinotoolsError("is not in the cache, and downloads are off", target, f"{by_hand}.")
    part = target.with_name(f"{target.name}.part")
    try:
        total = _append_rest(url, part)
        size = part.stat().st_size
        if total is not None and size != total:
            raise DinotoolsError(
                f"the download broke off with {size:,} of {total:,} bytes",
                url,
                f"Run the command again. Or: {by_hand}.",
            )
        part.replace(target)
    except HTTPError as error:
        raise DinotoolsError(f"the server answered {error.code} ({error.reason})", url, f"{by_hand}.") from error
    except (OSError, HTTPException) as error:  # no network, or no room on the disk
        reason = getattr(error, "reason", None) or error
        raise DinotoolsError(
            f"cannot be downloaded to {target.parent} ({reason})",
            url,
            f"Run the command again to go on. Or: {by_hand}.",
        ) from error
    return target


def _append_rest(url: str, part: Path) -> int | None:
    """Appends to the partial file what is missing of it; returns the whole size as the server tells it, or None."""
    done = part.stat().st_size if part.exists() else 0
    request = Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urlopen(request, timeout=TIMEOUT_S)
    except HTTPError as error:
        if error.code != RANGE_NOT_SATISFIABLE or not done:
            raise
        # Nothing is left to send: the last run stopped just before the renaming, or the partial file is no good.
        if error.headers.get("Content-Range", "").endswith(f"/{done}"):
            return done
        part.unlink()
        return _append_rest(url, part)
    with response:
        if response.status != PARTIAL_CONTENT:  # a server that knows no ranges begins anew
            done = 0
            part.unlink(missing_ok=True)
        length = response.headers.get("Content-Length")
        total = None if length is None else done + int(length)
        _copy(response, part, done, total, f"{url} -> {part.parent}")
    return total


def _copy(response: HTTPResponse, part: Path, done: int, total: int | None, what: str) -> None:
    say(f"downloading {what}" + (f", {total / MEGABYTE:.0f} MB" if total else ""))
    # Appending, so that a second process at work on the same file makes it too long, which the size check sees.
    with part.open("ab") as file, progress_bar(TextColumn("MB")) as bar:
        task = bar.add_task(
            part.stem, total=None if total is None else total / MEGABYTE, completed=int(done / MEGABYTE)
        )
        while chunk := response.read(CHUNK):
            file.write(chunk)
            done += len(chunk)
            bar.update(task, completed=done / MEGABYTE)
