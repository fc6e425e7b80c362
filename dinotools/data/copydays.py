"""Copydays (Douze et al. 2009): originals, and attacked copies of them, each of which should find its original.

A folder holds ``original``, ``strong``, and perhaps ``jpegqual/3`` to ``jpegqual/75`` and ``crops/10`` to ``crops/80``.
Official are 157 originals, 229 strong copies and 157 images in every other block; here the folders are counted. The
first four characters of a file's name say which original it belongs to: ``200001.jpg`` is a copy of ``200000.jpg``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dinotools.data.images import EXTENSIONS, ImageFiles
from dinotools.runtime.errors import DinotoolsError
from dinotools.runtime.run_directory import OPTIONS

ORIGINAL, STRONG = "original", "strong"
JPEGQUAL, CROPS = "jpegqual", "crops"
SERIES = (JPEGQUAL, CROPS)  # their subfolders are blocks
PREFIX = 4  # characters of a name that say which original it is
SHOWN = 3  # names in an error
LAYOUT = "A Copydays folder holds original/ and strong/, and perhaps jpegqual/3, ... and crops/10, ..."


@dataclass(frozen=True)
class Block:
    """Images that underwent one kind of attack; each is a query.

    Args:
        name: such as ``strong`` or ``crops/80``.
        images: the queries, sorted by name.
        positives: for every query, the position of its original.
    """

    name: str
    images: ImageFiles
    positives: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class CopydaysData:
    """The benchmark.

    Args:
        originals: the images searched in (with distractors), sorted by name.
        blocks: original, strong, jpegqual/* and crops/*, those that are there, numbers ascending.
    """

    originals: ImageFiles
    blocks: tuple[Block, ...]


def open_copydays(root: str | Path) -> CopydaysData:
    """Opens a folder in the Copydays layout. No image is decoded, and nothing but the folders named above is read.

    The official script takes query j of every block but ``strong`` to be a copy of original j; with the official names
    that is the original which the prefix names, here the prefix alone decides.

    Raises:
        DinotoolsError: there is no original/ or strong/, a folder is empty, names are too short, two originals share
            their prefix (the names are of another kind, and every copy would seem found), or an image belongs to no
            original.
    """
    folder = Path(root).expanduser()
    for needed in (ORIGINAL, STRONG):
        if not (folder / needed).is_dir():
            raise DinotoolsError(f"holds no folder {needed}{_contents(folder)}", folder, _remedy(folder, needed))
    originals = _images_in(folder / ORIGINAL)
    prefixes = _prefixes(originals, folder / ORIGINAL)
    position = {prefix: i for i, prefix in enumerate(prefixes)}
    repeated = [prefix for prefix, count in Counter(prefixes).items() if count > 1]
    if repeated:
        raise DinotoolsError(
            f"several originals begin with the same four characters: {_few(repeated)}",
            folder / ORIGINAL,
            "Give every original, and its copies, four of their own: 200000.jpg and 200001.jpg, 200100.jpg, ...",
        )
    return CopydaysData(originals, tuple(_open_block(folder, name, position) for name in _block_names(folder)))


def _block_names(folder: Path) -> list[str]:
    numbered = [path for series in SERIES for path in (folder / series).glob("*") if path.name.isdecimal()]
    numbered.sort(key=lambda path: (SERIES.index(path.parent.name), int(path.name), path.name))
    return [ORIGINAL, STRONG] + [path.relative_to(folder).as_posix() for path in numbered if path.is_dir()]


def _open_block(folder: Path, name: str, position: dict[str, int]) -> Block:
    """A block; position is that of the original with a prefix."""
    images = _images_in(folder / name)
    prefixes = _prefixes(images, folder / name)
    alien = [Path(path).name for path, prefix in zip(images.paths, prefixes, strict=True) if prefix not in position]
    if alien:
        raise DinotoolsError(
            f"{len(alien):,} of {len(images):,} images have the first four characters of no original: {_few(alien)}",
            folder / name,
            f"Names begin with those of the original, such as {next(iter(position))}. Is one missing in original/?",
        )
    return Block(name, images, tuple((position[prefix],) for prefix in prefixes))


def _images_in(folder: Path) -> ImageFiles:
    """The images directly in a folder, sorted by name."""
    try:
        found = [path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS and path.name[0] != "."]
    except OSError as error:
        raise DinotoolsError(f"cannot be listed ({error.strerror})", folder, "Check its permissions.") from error
    if not found:
        raise DinotoolsError("holds no images", folder, f"Unpack them there; they end in {', '.join(EXTENSIONS)}.")
    return ImageFiles([str(path) for path in sorted(found, key=lambda path: path.name)])


def _prefixes(images: ImageFiles, folder: Path) -> list[str]:
    stems = [Path(path).stem for path in images.paths]
    short = [stem for stem in stems if len(stem) < PREFIX]
    if short:
        what = f"names are shorter than the four characters that say which original it is: {_few(short)}"
        raise DinotoolsError(what, folder, "Name them as 200000.jpg (an original) and 200001.jpg (its copy).")
    return [stem[:PREFIX] for stem in stems]


def _contents(folder: Path) -> str:
    if not folder.is_dir():
        return "; there is no such folder" if not folder.exists() else "; it is a file"
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir() if path.name[0] != ".")
    return f"; it holds {_few(names)}" if names else "; it is empty"


def _remedy(folder: Path, needed: str) -> str:
    """What a user probably has in place of a Copydays folder."""
    near = [folder.parent, *sorted(folder.glob("*/"))] if folder.is_dir() else []
    whole = [path for path in near if (path / ORIGINAL).is_dir() and (path / STRONG).is_dir()]
    if whole:
        return f"Give {whole[0]}."
    if (folder / OPTIONS).is_file():
        return "If `dinotools copydays-make` was interrupted here, repeat it with --overwrite."
    if any(path.suffix.lower() in EXTENSIONS for path in folder.glob("*")):
        return f"Move the images of copydays_{needed}.tar.gz into {folder / needed}. {LAYOUT}"
    if needed == STRONG:
        return "Unpack copydays_strong.tar.gz there; the paper's number is for this block."
    return LAYOUT


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN:,} more" if len(names) > SHOWN else shown
