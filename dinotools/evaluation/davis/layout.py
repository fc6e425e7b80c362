"""Where DAVIS keeps what: sequences listed in ImageSets/2017, their frames and annotations at 480p."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dinotools.runtime.errors import DinotoolsError

LISTS = Path("ImageSets") / "2017"
FRAMES = Path("JPEGImages") / "480p"
ANNOTATIONS = Path("Annotations") / "480p"
EXTENSIONS = {FRAMES: ".jpg", ANNOTATIONS: ".png"}
LAYOUT = "A DAVIS folder holds ImageSets/2017/val.txt, JPEGImages/480p and Annotations/480p."


def read_split(data: Path, split: str) -> list[str]:
    """The names of the sequences of a split, in the order of ImageSets/2017/SPLIT.txt.

    Raises:
        DinotoolsError: the list is not there, empty or no text, or names a sequence twice or by a path.
    """
    file = data / LISTS / f"{split}.txt"
    try:
        names = file.read_text(encoding="utf-8").split()
    except OSError as error:
        others = ", ".join(sorted(path.stem for path in file.parent.glob("*.txt")))
        remedy = f"Splits there: {others}." if others else LAYOUT
        raise DinotoolsError(f"cannot be read ({error.strerror})", file, remedy) from error
    except ValueError as error:
        raise DinotoolsError("is no text", file, "It names a sequence in each line.") from error
    if not names:
        raise DinotoolsError("lists no sequence", file, "It names a sequence in each line.")
    odd = sorted({name for name in names if names.count(name) > 1 or name in (".", "..") or set(name) & set("/\\")})
    if odd:
        raise DinotoolsError(f"lists twice, or by a path: {', '.join(odd)}", file, "Name every sequence once.")
    return names


def find_files(data: Path, kind: Path, names: Sequence[str]) -> dict[str, list[Path]]:
    """The frames or annotations of sequences, each sorted by name.

    Args:
        data: the DAVIS folder.
        kind: ``FRAMES`` or ``ANNOTATIONS``.
        names: of the sequences.

    Raises:
        DinotoolsError: some sequences have none; all of them are named.
    """
    folder, extension = data / kind, EXTENSIONS[kind]
    found = {name: sorted(path for path in (folder / name).glob(f"[!.]*{extension}")) for name in names}
    missing = [name for name, paths in found.items() if not paths]
    if missing:
        what = f"holds no {extension} files of {len(missing)} of {len(names)} sequences: {', '.join(missing)}"
        raise DinotoolsError(what, folder, f"Unpack them there, or take them off the list. {LAYOUT}")
    return found
