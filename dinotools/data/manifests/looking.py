"""Whether files can be read, by many readers at once: by their first and last bytes, or by decoding every image."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

from dinotools.data.images import EXTENSIONS, UnreadableImage, decode
from dinotools.runtime.console import track

CHUNK = 64  # files that a reader takes at a time
TAIL = 4096  # bytes at the end of a file; some cameras write something after the picture
THREADS = 16  # that wait for the disk
STARTS = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n",
    b"GIF8",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"RIFF",
    *(b"P%d" % i for i in range(1, 7)),
)
ENDS = {STARTS[0]: b"\xff\xd9", STARTS[1]: b"IEND"}  # of the formats that say where they end


def find_unreadable(paths: Sequence[Path], *, decoded: bool, workers: int) -> dict[Path, str]:
    """Looks at files.

    Args:
        paths: images and others; of the others it is said whether they are empty.
        decoded: decode every image, in place of looking at its first and last bytes.
        workers: processes that decode; negative chooses, with 0 this process does.

    Returns:
        Those that cannot be read, and why.
    """
    names = [str(path) for path in paths]
    if not decoded:
        with ThreadPoolExecutor(THREADS) as pool:
            reasons = _map(pool, look, names, "looking")
    elif workers == 0:
        reasons = [look_closely(name) for name in track(names, "decoding", len(names))]
    else:
        count = workers if workers > 0 else os.cpu_count() or 1
        with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as processes:
            reasons = _map(processes, look_closely, names, "decoding")
    return {path: reason for path, reason in zip(paths, reasons, strict=True) if reason}


def _map(pool: Executor, function: Callable[[str], str], names: list[str], what: str) -> list[str]:
    return list(track(pool.map(function, names, chunksize=CHUNK), what, len(names)))


def look(name: str) -> str:
    """Why a file cannot be read, by its first and last bytes; "" if it seems whole. A doubt is settled by decoding."""
    try:
        with Path(name).open("rb") as file:
            head = file.read(16)
            if not head:
                return "the file is empty"
            if not name.lower().endswith(EXTENSIONS):
                return ""
            start = next((start for start in STARTS if head.startswith(start)), None)
            if start is None:
                return "not an image of a known format"
            file.seek(max(file.seek(0, os.SEEK_END) - TAIL, 0))
            whole = ENDS.get(start, b"") in file.read()
    except OSError as error:
        return error.strerror or str(error)
    return "" if whole else look_closely(name)


def look_closely(name: str) -> str:
    """Why a file cannot be read; "" if it can. Images are decoded."""
    if not name.lower().endswith(EXTENSIONS):
        return look(name)
    try:
        decode(name)
    except UnreadableImage as error:
        return error.reason
    return ""
