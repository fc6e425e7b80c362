"""Scores of masks on DAVIS-2017: region similarity J and contour accuracy F, semi-supervised.

The first annotation of a sequence says what is to be found and is given, so neither it nor the last frame is scored.
An object of it that a mask lacks counts as empty. The numbers of DAVIS are means over all objects of all sequences,
of each object's mean, recall and decay; J&F is the mean of the means of J and F.
Pont-Tuset et al. 2017 (arXiv 1704.00675); official code ``davis2017-evaluation``.
Paper: section 4.2.2, Table 5. J&F of DINO ViT-S/8 69.9, ViT-B/8 71.4.

    dinotools davis-score masks --data /datasets/DAVIS
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dinotools.configs import files
from dinotools.configs.video import DavisScoreConfig
from dinotools.data.masks import VOID, read_mask
from dinotools.evaluation.davis.layout import ANNOTATIONS, find_files, read_split
from dinotools.metrics.segmentation import score_objects, summary
from dinotools.runtime import run_directory
from dinotools.runtime.console import track
from dinotools.runtime.errors import DinotoolsError
from dinotools.runtime.results import Result

LEAST = 3  # annotations of a sequence: one between the first and the last
SHOWN = 3  # frames of a sequence in an error
MASKS = "Masks are indexed PNGs of the annotation's size: 0 is background, 1, 2, ... its objects."


@dataclass(frozen=True)
class SequenceMasks:
    """The masks of a sequence, as files.

    Args:
        first: the annotation that says which objects there are.
        scored: annotation and prediction of every frame between the first and the last.
    """

    first: Path
    scored: tuple[tuple[Path, Path], ...]


def run(config: DavisScoreConfig) -> Result:
    """Pairs masks with annotations, and scores.

    Raises:
        DinotoolsError: annotations or masks are missing, cannot be read, or do not belong together.
    """
    masks = find_masks(config.predictions.expanduser(), config.data.expanduser(), config.split)
    if config.out is not None:
        inputs = (config.predictions, config.data)
        run_directory.claim(config.out, files.dump(config), overwrite=config.overwrite, inputs=inputs)
    metrics = in_percent(score_masks(masks))
    return Result(
        title=f"DAVIS-2017 {config.split} · {config.predictions} · percent",
        rows=as_rows(metrics),
        metrics=metrics,
        details={"data": describe(masks, metrics)},
    )


def find_masks(predictions: Path, data: Path, split: str) -> dict[str, SequenceMasks]:
    """Finds the files that are scored, for every sequence of a split.

    Args:
        predictions: SEQUENCE/NAME.png for every annotation of that name; those of the first and the last frame of a
            sequence may be missing, since they are not looked at.
        data: the DAVIS folder.
        split: the list of its sequences.

    Raises:
        DinotoolsError: the list, annotations or predictions are missing; all that are missing are named.
    """
    annotations = find_files(data, ANNOTATIONS, read_split(data, split))
    short = [f"{name} ({len(paths)})" for name, paths in annotations.items() if len(paths) < LEAST]
    if short:
        raise DinotoolsError(
            f"sequences with fewer than {LEAST} annotations: {', '.join(short)}",
            data / ANNOTATIONS,
            "The first and the last are not scored. Only splits whose annotations are public can be scored.",
        )
    if not predictions.is_dir():
        raise DinotoolsError("there is no such folder", predictions, "Give the folder of the masks.")
    masks = {
        name: SequenceMasks(paths[0], tuple((path, predictions / name / path.name) for path in paths[1:-1]))
        for name, paths in annotations.items()
    }
    _check_all_there(predictions, masks)
    return masks


def score_masks(masks: Mapping[str, SequenceMasks]) -> dict[str, np.ndarray]:
    """J and F of every object in every scored frame of all sequences.

    Returns:
        sequence -> as from ``score_sequence``.

    Raises:
        DinotoolsError: as ``score_sequence``.
    """
    return {name: score_sequence(of) for name, of in track(masks.items(), "Scoring", total=len(masks))}


def score_sequence(masks: SequenceMasks) -> np.ndarray:
    """J and F of every object in every scored frame of a sequence; one frame at a time is in memory.

    Returns:
        (objects, 2, frames) float64, fractions of 1: J, then F.

    Raises:
        DinotoolsError: a mask cannot be read, has another size than the annotation, or holds an object that the first
            annotation lacks; or that has none.
    """
    n = count_objects(read_mask(masks.first))
    if n == 0:
        raise DinotoolsError("marks no object", masks.first, "The first annotation says which objects there are.")
    scores = np.empty((n, 2, len(masks.scored)))
    for frame, (annotation, prediction) in enumerate(masks.scored):
        try:
            scores[:, :, frame] = score_objects(read_mask(annotation), read_mask(prediction), n).T
        except ValueError as error:
            raise DinotoolsError(str(error), prediction, MASKS) from error
    return scores


def count_objects(first: np.ndarray) -> int:
    """How many objects a sequence has: the largest index of its first annotation (H, W) uint8, void left out."""
    return int(np.max(first, initial=0, where=first != VOID))


def in_percent(scores: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The numbers that DAVIS reports, in percent.

    Args:
        scores: of every sequence, as from ``score_masks``.

    Returns:
        ``global``, the means over all objects; ``sequences``, of each its means over its ``objects`` and theirs:
        ``J&F-Mean``, ``J-Mean``, ``J-Recall``, ``J-Decay``, ``F-Mean``, ``F-Recall`` and ``F-Decay``.
    """

    def percent(objects: list[np.ndarray]) -> dict[str, float]:
        return {name: 100 * value for name, value in summary(objects).items()}

    sequences = {
        name: {**percent(list(of)), "objects": {str(i + 1): percent([of_object]) for i, of_object in enumerate(of)}}
        for name, of in scores.items()
    }
    return {"global": percent([of_object for of in scores.values() for of_object in of]), "sequences": sequences}


def as_rows(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The table of what ``in_percent`` returns: all objects, then every sequence."""
    named = {"all objects": metrics["global"], **metrics["sequences"]}
    return [
        # headings of two words take less room
        {"sequence": name} | {key.replace("-", " "): value for key, value in of.items() if key != "objects"}
        for name, of in named.items()
    ]


def describe(masks: Mapping[str, SequenceMasks], metrics: Mapping[str, Any]) -> dict[str, int]:
    """How much was scored."""
    return {
        "sequences": len(masks),
        "objects": sum(len(of["objects"]) for of in metrics["sequences"].values()),
        "frames": sum(len(of.scored) for of in masks.values()),
    }


def _check_all_there(predictions: Path, masks: Mapping[str, SequenceMasks]) -> None:
    missing, faults = 0, []
    for name, of in masks.items():
        lost = [path.name for _, path in of.scored if not path.is_file()]
        missing += len(lost)
        shown = ", ".join(lost[:SHOWN]) + f" and {len(lost) - SHOWN} more" * (len(lost) > SHOWN)
        if lost:
            faults.append(f"{name} ({'all' if len(lost) == len(of.scored) else shown})")
    if missing:
        total = sum(len(of.scored) for of in masks.values())
        what = f"{missing:,} of {total:,} masks are not there: {', '.join(faults)}"
        raise DinotoolsError(what, predictions, "It holds SEQUENCE/NAME.png with the names of the annotations.")
