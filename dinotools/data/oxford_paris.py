"""Retrieval data in the form of Revisited Oxford and Paris (Radenovic et al. 2018), theirs or one's own.

A folder holds ``gnd_roxford5k.pkl`` or ``gnd_roxford5k.json`` and the images in ``jpg/``. The ground truth is a
dictionary of ``imlist`` and ``qimlist``, the names of database and query images without extension, and ``gnd``, for
every query its ``bbx`` [x1, y1, x2, y2] in pixels and the positions in ``imlist`` of ``easy``, ``hard`` and ``junk``
images. docs/retrieval-data.md makes such a data set.
"""

from __future__ import annotations

import json
import reprlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from dinotools.data.images import EXIF_ORIENTATION, FORMATS, ImageFiles, UnreadableImage
from dinotools.data.safe_pickle import read_pickle
from dinotools.runtime.errors import DinotoolsError

OFFICIAL = ("roxford5k", "rparis6k")
LISTS = ("easy", "hard", "junk")
SHOWN = 3  # names in an error
LISTED = 200  # missing images in an error; beyond, it is the folder that is wrong
FAR = 1e9  # no coordinate is so large; leaves out infinity as well
FORM = "See docs/retrieval-data.md for its form."

Box = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels
Positions = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class GroundTruth:
    """Which database images show what a query shows.

    Args:
        database_names: names of the images searched in, without extension.
        query_names: names of the query images.
        boxes: where in its image the object of each query is.
        easy: per query, positions of the database images that show the object well.
        hard: per query, those that show it under difficulties.
        junk: per query, those that count neither as right nor as wrong.
    """

    database_names: tuple[str, ...]
    query_names: tuple[str, ...]
    boxes: tuple[Box, ...]
    easy: Positions
    hard: Positions
    junk: Positions


@dataclass(frozen=True)
class RetrievalData:
    """A retrieval benchmark.

    Args:
        name: such as ``roxford5k``.
        database: the images searched in, in the order of ``truth.database_names``.
        queries: the query images, whole or cropped to their boxes.
        truth: what is relevant to which query.
        file: where the ground truth was read.
    """

    name: str
    database: ImageFiles
    queries: ImageFiles
    truth: GroundTruth
    file: Path


@dataclass(frozen=True)
class CroppedFiles(ImageFiles):
    """Image files, each cropped to a box; an ``ImageSource``.

    Args:
        boxes: one per file; rounded to pixels, and what lies outside of the image is left out.
    """

    boxes: Sequence[Box] = field(kw_only=True)

    def load(self, index: int) -> Image.Image:
        """The part in the box. Raises UnreadableImage, also if the box holds none of the image."""
        image = super().load(index)
        box = _within(self.boxes[index], image.size)
        if box is None:
            raise UnreadableImage(self.name(index), _outside(self.boxes[index], image.size))
        return image.crop(box)


def open_retrieval(dataset: str | Path, root: Path | None = None, *, crop_queries: bool = False) -> RetrievalData:
    """Opens a benchmark by name, or any ground truth by its file. No image is decoded.

    Args:
        dataset: ``roxford5k`` or ``rparis6k``; or a file, ``.json`` or ``.pkl``.
        root: the folder that holds jpg/. By name it also holds the ground truth, or both are in its subfolder of that
            name. By default, the folder of the file.
        crop_queries: whether query images are cropped to their boxes.

    Raises:
        DinotoolsError: there is no such data set, an image is missing or ambiguous, the ground truth contradicts
            itself or cannot be read safely; with crop_queries, a box lies outside of its image.
    """
    official = str(dataset).lower() in OFFICIAL
    file = _find_official(str(dataset).lower(), root) if official else Path(dataset).expanduser()
    folder = file.parent if official or root is None else root.expanduser()
    truth = read_ground_truth(file)
    database, queries = _find_images(folder / "jpg", [truth.database_names, truth.query_names])
    if crop_queries:
        for name, path, box in zip(truth.query_names, queries.paths, truth.boxes, strict=True):
            size = _size(path)
            if size is not None and _within(box, size) is None:
                raise DinotoolsError(f"query {name}: {_outside(box, size)}", file, "Correct bbx, in pixels.")
        queries = CroppedFiles(queries.paths, boxes=truth.boxes)
    return RetrievalData(file.stem.removeprefix("gnd_"), database, queries, truth, file)


def read_ground_truth(file: Path) -> GroundTruth:
    """Reads a ground truth, JSON or (``.pkl``) a pickle, of which no code is run.

    Raises:
        DinotoolsError: the file cannot be read, or is not of the form described above; names, types, positions and
            boxes are checked.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DinotoolsError(
            f"cannot be read ({error.strerror})", file, f"Give a file, or {' or '.join(OFFICIAL)}."
        ) from error
    if not content:
        raise DinotoolsError("the file is empty", file, "Download or copy it again.")
    try:
        document = read_pickle(content, file) if file.suffix in (".pkl", ".pickle") else json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DinotoolsError(f"is no JSON ({error})", file, "A ground truth is a .json or a .pkl file.") from error
    imlist, qimlist, gnd = (_field(document, name, list, file) for name in ("imlist", "qimlist", "gnd"))
    for title, names in (("imlist", imlist), ("qimlist", qimlist)):
        _check_names(names, title, file)
    if len(gnd) != len(qimlist):
        raise DinotoolsError(f"gnd describes {len(gnd):,} queries, qimlist names {len(qimlist):,}", file, FORM)
    boxes, positions = [], []
    for name, query in zip(qimlist, gnd, strict=True):
        boxes.append(_read_box(query, f"query {name}: ", file))
        positions.append(_read_positions(query, f"query {name}: ", imlist, file))
    easy, hard, junk = zip(*positions, strict=True)
    return GroundTruth(tuple(imlist), tuple(qimlist), tuple(boxes), easy, hard, junk)


def _field(document: Any, name: str, kind: type, file: Path, prefix: str = "") -> Any:
    if not isinstance(document, dict):
        raise DinotoolsError(f"{prefix}holds a {type(document).__name__} in place of fields", file, FORM)
    if name not in document:
        raise DinotoolsError(f"{prefix}has no field {name}", file, FORM)
    if not isinstance(document[name], kind):
        found = type(document[name]).__name__
        raise DinotoolsError(f"{prefix}{name} is a {found}, not a {kind.__name__}", file, FORM)
    return document[name]


def _check_names(names: list[Any], title: str, file: Path) -> None:
    if not names:
        raise DinotoolsError(f"{title} is empty", file, FORM)
    odd = [name for name in names if not isinstance(name, str) or not name]
    if odd:
        raise DinotoolsError(f"{title} holds {_few_values(odd)} where names should be", file, FORM)
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DinotoolsError(f"{title} names {_few(repeated)} more than once", file, "Name every image once.")


def _read_box(query: Any, prefix: str, file: Path) -> Box:
    box = _field(query, "bbx", list, file, prefix)
    if len(box) != 4 or not all(type(side) in (int, float) and -FAR < side < FAR for side in box):
        raise DinotoolsError(f"{prefix}bbx is not four numbers", file, "Give x1, y1, x2, y2 in pixels.")
    if box[0] >= box[2] or box[1] >= box[3]:
        raise DinotoolsError(f"{prefix}the box {_numbers(box)} is empty", file, "Give x1 < x2 and y1 < y2 in pixels.")
    return box[0], box[1], box[2], box[3]


def _read_positions(query: Any, prefix: str, imlist: list[str], file: Path) -> list[tuple[int, ...]]:
    """What is easy, hard and junk for a query."""
    lists = [tuple(_field(query, title, list, file, prefix)) for title in LISTS]
    for title, positions in zip(LISTS, lists, strict=True):
        wrong = [position for position in positions if type(position) is not int or not 0 <= position < len(imlist)]
        if wrong:
            limits = f"imlist has 0 to {len(imlist) - 1:,}"
            raise DinotoolsError(f"{prefix}{title} holds {_few_values(wrong)}; {limits}", file, "Positions are from 0.")
    repeated = [imlist[position] for position, count in Counter(sum(lists, ())).items() if count > 1]
    if repeated:
        what = f"{prefix}{_few(repeated)}: listed twice"
        raise DinotoolsError(what, file, "An image is easy, hard or junk for a query, or none of them.")
    return lists


def _find_official(name: str, root: Path | None) -> Path:
    if root is None:
        raise DinotoolsError("needs the folder that it lies in", name, "Give --data.")
    folders = (root.expanduser(), root.expanduser() / name)
    files = [folder / f"gnd_{name}.{extension}" for folder in folders for extension in ("pkl", "json")]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        remedy = "Put it beside jpg/; it is at http://cmp.felk.cvut.cz/revisitop."
        raise DinotoolsError(f"holds no gnd_{name}.pkl or .json, nor does {name}/ in it", root, remedy)
    return found


def _find_images(folder: Path, lists: Sequence[Sequence[str]]) -> list[ImageFiles]:
    """Finds the files of several lists of names; all that are missing are counted before the error."""
    if not folder.is_dir():
        raise DinotoolsError("there is no such folder", folder, "Put all images of the data set there.")
    found: dict[str, list[str]] = {}
    for path in ImageFiles.in_folder(folder).paths:
        found.setdefault(Path(path).relative_to(folder).with_suffix("").as_posix(), []).append(path)
    names = list(dict.fromkeys(name for names in lists for name in names))
    missing = [name for name in names if name not in found]
    if missing:
        raise DinotoolsError(
            f"{len(missing):,} of {len(names):,} images are not there: {_few(missing, LISTED)}",
            folder,
            "Names are those of the files there, without the extension.",
        )
    ambiguous = [name for name in names if len(found[name]) > 1]
    if ambiguous:
        raise DinotoolsError(f"has several files for {_few(ambiguous)}", folder, "Leave one extension of each.")
    return [ImageFiles([found[name][0] for name in names]) for names in lists]


def _size(path: str) -> tuple[int, int] | None:
    """Width and height as ``decode`` will give them, from the header; None if it must be decoded to tell."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            turned = image.getexif().get(EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
            return image.size[::-1] if turned else image.size
    except Exception:  # as many kinds as in decode, which will say why
        return None


def _within(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """The part of a box in an image of that width and height, in whole pixels; None if there is none."""
    x1, y1, x2, y2 = (min(max(round(side), 0), size[i % 2]) for i, side in enumerate(box))
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def _outside(box: Box, size: tuple[int, int]) -> str:
    return f"the box {_numbers(box)} holds no pixel of the image, which is {size[0]} x {size[1]}"


def _numbers(box: Sequence[float]) -> str:
    return " ".join(f"{side:g}" for side in box)


def _few(names: Sequence[str], most: int = SHOWN) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown


def _few_values(values: Sequence[object]) -> str:
    return _few([reprlib.repr(value) for value in values])  # of bounded length, whatever it is
