"""Parts of a training set: read from a list of names, or drawn at random with the same share of every class."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from dinotools.runtime.errors import DinotoolsError

SHOWN = 3  # names in an error


def draw_subset(labels: Tensor, share: float, seed: int) -> Tensor:
    """Draws the same share of every class, at least one image each.

    With one seed, a smaller share is a part of a larger one.

    Args:
        labels: class of every image (N,) int64.
        share: above 0, up to 1; counts are rounded, halves up.
        seed: of the draw.

    Returns:
        Positions in ascending order, int64.
    """
    return _draw(labels, _share_of(labels.bincount(), share), seed)


def hold_out(labels: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Divides images in two, by class: a class with one image keeps it, any other gives away one at least.

    Args:
        labels: class of every image (N,) int64.
        share: that is held out, above 0 and at most a half.
        seed: of the draw.

    Returns:
        Positions that stay and positions that are held out, each in ascending order, int64.
    """
    counts = labels.bincount()
    held_out = _draw(labels, _share_of(counts, share) * (counts > 1), seed)
    stays = torch.ones(len(labels), dtype=torch.bool)
    stays[held_out] = False
    return stays.nonzero()[:, 0], held_out


def _share_of(counts: Tensor, share: float) -> Tensor:
    return (counts.double() * share + 0.5).long().clamp(min=1)


def _draw(labels: Tensor, quota: Tensor, seed: int) -> Tensor:
    """Positions of the first quota[c] images of every class c in a random order of all, sorted."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = order[labels[order].argsort(stable=True)]
    counts = labels.bincount()
    rank = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels[by_class]]
    return by_class[rank < quota[labels[by_class]]].sort().values


def read_subset(file: Path, names: Sequence[str]) -> Tensor:
    """Finds the images that a text file lists, one on a line.

    A line is a file's name, such as ``n01440764_10026.JPEG`` in SimCLR's lists, or the end of its path, such as
    ``n01440764/n01440764_10026.JPEG``. Empty lines are passed over.

    Args:
        file: the list.
        names: paths or other names of all images.

    Returns:
        Positions in ascending order, int64.

    Raises:
        DinotoolsError: the file cannot be read or lists nothing; an image is missing, listed twice, or a line fits
            several images.
    """
    try:
        lines = [line.strip().replace("\\", "/") for line in file.expanduser().read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise DinotoolsError(f"cannot be read ({reason})", file, "Check --subset.") from error
    listed = [line.removeprefix("./") for line in lines if line]
    if not listed:
        raise DinotoolsError("lists no images", file, "Write one name of a training image on every line.")
    candidates = _by_file_name(names, {_file_name(line) for line in listed})
    found = [[i for i, name in candidates[_file_name(line)] if f"/{name}".endswith(f"/{line}")] for line in listed]
    _refuse(
        [line for line, fitting in zip(listed, found, strict=True) if not fitting],
        "are not among the training images",
        file,
        "Names are compared with the ends of the paths; was the list made for another data set?",
    )
    _refuse(
        [line for line, fitting in zip(listed, found, strict=True) if len(fitting) > 1],
        "fit several training images",
        file,
        "Write more of the path, such as class/name.jpg.",
    )
    positions = torch.tensor([fitting[0] for fitting in found], dtype=torch.int64).sort().values
    repeated = positions[1:][positions.diff() == 0].unique().tolist()
    _refuse([names[i] for i in repeated], "are listed twice", file, "Leave the repeated lines out.")
    return positions


def _by_file_name(names: Sequence[str], wanted: set[str]) -> dict[str, list[tuple[int, str]]]:
    """File name -> positions and names of the images that are called so."""
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for i in range(len(names)):
        name = names[i].replace("\\", "/")
        if _file_name(name) in wanted:
            found[_file_name(name)].append((i, name))
    return found


def _file_name(name: str) -> str:
    return name.rpartition("/")[2]


def _refuse(wrong: Sequence[str], what: str, file: Path, remedy: str) -> None:
    if wrong:
        shown = ", ".join(wrong[:SHOWN]) + (", ..." if len(wrong) > SHOWN else "")
        raise DinotoolsError(f"{len(wrong):,} of its images {what}: {shown}", file, remedy)
