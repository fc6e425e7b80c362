"""Released weights, fetched once into the user's cache.

The authors publish no checksums and their file names carry none, so a download is checked against the size that the
server announced and nothing else; the results name the sha256 of the file that was loaded.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from dinotools.runtime import downloading
from dinotools.runtime.cache import cache_directory
from dinotools.runtime.errors import DinotoolsError

WAITS_S = (1.0,)  # where there is no network, whoever waits for the command shall soon know


def fetch(url: str, *, download: bool = True) -> Path:
    """The cached file of an URL, downloaded if it is not there yet.

    Args:
        url: address of the file; the last part of its path is the name in the cache.
        download: whether the network may be used.

    Raises:
        DinotoolsError: the file is not there and cannot be had; names the place where one downloaded by hand belongs.
    """
    target = cache_directory("checkpoints") / Path(urlsplit(url).path).name
    if target.is_file():
        return target
    if not download:
        by_hand = f"Download {url} by other means and put the file there."
        raise DinotoolsError("is not in the cache, and downloads are off", target, by_hand)
    try:
        downloading.download([url], target, waits=WAITS_S)
    except DinotoolsError as error:  # not RunFailed: what wants the weights has not begun
        elsewhere = "DINOTOOLS_CACHE names another folder for the cache."
        raise DinotoolsError(error.what, error.where, f"{error.remedy} {elsewhere}") from error
    return target
