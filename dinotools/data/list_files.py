"""Lists of images: a text file with one path on a line, relative to the list's folder or absolute.

After the path, a tab and a class may follow. Empty lines and lines that begin with # are passed over.

    photos/0001.jpg	cat
"""

from __future__ import annotations

from pathlib import Path

from dinotools.data.images import RGB, ImageFiles, Reader
from dinotools.runtime.console import track, warn
from dinotools.runtime.errors import DinotoolsError

LISTS = (".lst", ".txt")
SHOWN = 3  # names in a message


def read_list(file: str | Path, reader: Reader = RGB) -> ImageFiles:
    """Opens the images that a list names, in its order; missing ones are named now and count as unreadable later.

    Classes are numbered in the order of their sorted names.

    Raises:
        DinotoolsError: the list cannot be read or names no image; some of its images have a class and others none; not
            one of them is there.
    """
    where = Path(file).expanduser()
    try:
        lines = where.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise DinotoolsError(f"cannot be read ({reason})", where, "Give a text file, a path on a line.") from error
    paths, names = [], []
    for line in lines:
        path, _, name = line.strip().partition("\t")
        if path and not path.startswith("#"):
            paths.append(str(where.parent / path.rstrip()))
            names.append(name.strip())
    if not paths:
        raise DinotoolsError("names no images", where, "Write one path on a line.")
    _check_there(paths, where)
    if not any(names):
        return ImageFiles(paths, reader=reader)
    if not all(names):
        first = paths[names.index("")]
        what = f"{names.count(''):,} of its {len(names):,} images have no class, such as {first}"
        raise DinotoolsError(what, where, "After each path write a tab and the class, or leave all classes out.")
    classes = sorted(set(names))
    number = {name: i for i, name in enumerate(classes)}
    return ImageFiles(paths, [number[name] for name in names], classes, reader)


def _check_there(paths: list[str], where: Path) -> None:
    missing = [path for path in track(paths, "listed images", len(paths)) if not Path(path).is_file()]
    shown = ", ".join(missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
    if len(missing) == len(paths):
        remedy = "Write paths relative to the list's own folder, or absolute ones."
        raise DinotoolsError(f"none of its {len(paths):,} images are there: {shown}", where, remedy)
    if missing:
        warn(f"{where}: {len(missing):,} of {len(paths):,} images are missing: {shown}")
