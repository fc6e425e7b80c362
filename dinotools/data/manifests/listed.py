"""Names that a data set's own lists promise, so that what is missing can be called by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from dinotools.data.oxford_paris import read_ground_truth
from dinotools.runtime.errors import DinotoolsError


def promised(name: str, folder: Path) -> set[str]:
    """Paths below the folder, without extension, of the files that lists in a prepared data set name.

    A list that is not there promises nothing, nor does a data set without lists.

    Raises:
        DinotoolsError: a list is there and cannot be read.
    """
    return set(LISTS[name](name, folder)) if name in LISTS else set()


def counted(name: str, folder: Path) -> dict[str, int]:
    """How many files a list says that a part has, by its glob, where the folders that they lie in are anybody's.

    Raises:
        DinotoolsError: the list is there and cannot be read.
    """
    photos = _words(folder / "revisitop1m.txt") if name == "r1m" else []
    return {"jpg/**/*.jpg": len(photos)} if photos else {}


def _retrieval(name: str, folder: Path) -> Iterator[str]:
    for file in (folder / f"gnd_{name}.pkl", folder / f"gnd_{name}.json"):
        if file.is_file():
            truth = read_ground_truth(file)
            yield from (f"jpg/{photo}" for photo in (*truth.database_names, *truth.query_names))
            return


def _davis(name: str, folder: Path) -> Iterator[str]:
    """A mask for every frame, a frame for every mask, and some of both for every sequence on a list."""
    frames, masks = "JPEGImages/480p", "Annotations/480p"
    sequences = {word for split in ("train", "val") for word in _words(folder / f"ImageSets/2017/{split}.txt")}
    for sequence in sorted(sequences):
        paths = [*(folder / frames / sequence).glob("*.jpg"), *(folder / masks / sequence).glob("*.png")]
        for stem in {path.stem for path in paths} or {"00000"}:
            yield f"{frames}/{sequence}/{stem}"
            yield f"{masks}/{sequence}/{stem}"


def _voc(name: str, folder: Path) -> Iterator[str]:
    for split in ("train", "val"):
        for photo in _words(folder / f"ImageSets/Segmentation/{split}.txt"):
            yield f"JPEGImages/{photo}"
            yield from (f"{kind}/{photo}" for kind in ("SegmentationObject", "SegmentationClass"))


def _gldv2(name: str, folder: Path) -> Iterator[str]:
    yield from (word.removesuffix(".jpg") for word in _words(folder / "clean.txt") if word.endswith(".jpg"))


def _words(file: Path) -> list[str]:
    """The words of a list; none if it is not there."""
    if not file.is_file():
        return []
    try:
        return file.read_text(encoding="utf-8").split()
    except ValueError as error:
        raise DinotoolsError("is no text", file, "Unpack it again.") from error


LISTS: dict[str, Callable[[str, Path], Iterator[str]]] = {
    "roxford5k": _retrieval,
    "rparis6k": _retrieval,
    "davis2017": _davis,
    "voc2012": _voc,
    "gldv2": _gldv2,
}
