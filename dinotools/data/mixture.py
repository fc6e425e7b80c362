"""Several data sets one after the other, as one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from dinotools.data.images import ImageSource
from dinotools.runtime.errors import DinotoolsError


class Mixture:
    """Several sources as one; an ``ImageSource``, with classes if all parts have the same ones.

    Args:
        parts: the sources, in order.
    """

    def __init__(self, parts: Sequence[ImageSource]) -> None:
        self.sizes = tuple(len(part) for part in parts)
        self._parts, self._ends = parts, list(accumulate(self.sizes))
        self.dtype = getattr(parts[0], "dtype", None)  # of all, if the images are tensors
        first = parts[0].classes
        same = first is not None and all(part.classes is not None and [*part.classes] == [*first] for part in parts)
        self.classes = first if same else None
        self.labels = [label for part in parts for label in part.labels or ()] if same else None

    def __len__(self) -> int:
        """Number of images of all parts."""
        return self._ends[-1]

    def name(self, index: int) -> str:
        """As in the part."""
        part, place = self._find(index)
        return part.name(place)

    def load(self, index: int) -> Any:
        """As in the part. Raises UnreadableImage."""
        part, place = self._find(index)
        return part.load(place)

    def _find(self, index: int) -> tuple[ImageSource, int]:
        number = bisect_right(self._ends, index)
        return self._parts[number], index - self._ends[number] + self.sizes[number]


def part_sizes(source: ImageSource) -> tuple[int, ...]:
    """Number of images of each part that --data named; of one only, all."""
    return source.sizes if isinstance(source, Mixture) else (len(source),)


def split_names(spec: str) -> list[str]:
    """The parts that commas join; not those within braces, nor in the name of something that exists.

    Raises:
        DinotoolsError: the name is empty, or nothing stands before, between or after the commas.
    """
    if not spec.strip():  # which as a path would be the current folder
        raise DinotoolsError("is empty", "the name of a data set", "Give a folder, a list file, tar shards or a name.")
    if "," not in spec or _exists(spec):
        return [spec]
    parts, depth = [""], 0
    for letter in spec:
        depth += (letter == "{") - (letter == "}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    parts = [part.strip() for part in parts]
    if not all(parts):
        raise DinotoolsError("has a comma too many", spec, "Commas join the names of several data sets.")
    return parts


def _exists(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except OSError:  # longer than any name of a file
        return False
