"""Region similarity J and contour accuracy F of object masks: the DAVIS-2017 evaluation, semi-supervised.

Perazzi et al. 2016 and Pont-Tuset et al. 2017 (arXiv 1704.00675); what the papers leave open is settled as in the
official ``davis2017-evaluation``. J is the intersection over the union of two masks. F compares their contours: the
share of one contour's pixels that lie within a small radius of the other contour is its precision, that of the other
its recall.

The work is done where the object is. Its bounding box holds both contours, and what lies further out matches nothing,
so that contours are widened in that box alone: row by row a disk is a run of pixels, which costs two shifted ORs for
every row and column of its radius in place of one for every pixel of its area. All scores are fractions of 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

TOLERANCE = 0.008  # of the image's diagonal: how far apart contours may lie
RECALLED = 0.5  # a frame scoring more than this counts towards recall
BINS = 4  # parts of a sequence; decay compares the first with the last

Mask = NDArray[np.bool_]


def region_similarity(truth: Mask, prediction: Mask, void: Mask | None = None) -> float:
    """Jaccard index J of two masks; 1 where both are empty.

    Args:
        truth: (H, W) bool.
        prediction: (H, W) bool.
        void: pixels that do not count, (H, W) bool.
    """
    truth, prediction = _where_it_counts(truth, prediction, void)
    union = np.count_nonzero(truth | prediction)
    return np.count_nonzero(truth & prediction) / union if union else 1.0


def contour_accuracy(truth: Mask, prediction: Mask, void: Mask | None = None, tolerance: float = TOLERANCE) -> float:
    """F-measure of two contours; 1 where neither mask has one.

    ::

        precision = share of prediction's contour that lies within the radius of truth's contour
        recall = share of truth's contour that lies within the radius of prediction's contour
        F = 2 precision recall / (precision + recall)

    Args:
        truth: (H, W) bool.
        prediction: (H, W) bool.
        void: pixels that belong to neither mask, (H, W) bool; their edges can become contours, as officially.
        tolerance: the radius, as in ``matching_radius``.
    """
    truth, prediction = _where_it_counts(truth, prediction, void)
    radius = matching_radius(truth.shape, tolerance)
    box = _bounding_box(truth | prediction)
    true_contour, predicted_contour = contour(truth[box]), contour(prediction[box])
    n_true, n_predicted = np.count_nonzero(true_contour), np.count_nonzero(predicted_contour)
    if not n_true or not n_predicted:
        return float(n_true == n_predicted)
    precision = np.count_nonzero(predicted_contour & widened(true_contour, radius)) / n_predicted
    recall = np.count_nonzero(true_contour & widened(predicted_contour, radius)) / n_true
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def matching_radius(shape: Sequence[int], tolerance: float = TOLERANCE) -> float:
    """How far apart contours may lie in an image of (H, W) pixels: a share of its diagonal, rounded up, or pixels.

    Args:
        shape: of the image.
        tolerance: the share; 1 and more are pixels.
    """
    return tolerance if tolerance >= 1 else math.ceil(tolerance * math.hypot(*shape))


def contour(mask: Mask) -> Mask:
    """The pixels (H, W) bool that differ from their right, lower or lower right neighbour, where there is one.

    So a contour has one pixel, not two, across an edge, and a mask that touches the border has none there.
    """
    edge = np.zeros_like(mask)
    edge[:, :-1] = mask[:, :-1] != mask[:, 1:]
    edge[:-1] |= mask[:-1] != mask[1:]
    edge[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return edge


def widened(mask: Mask, radius: float) -> Mask:
    """Dilation by a disk: the pixels (H, W) bool with a pixel of the mask at dy, dx, dy**2 + dx**2 <= radius**2."""
    height, width = mask.shape
    reach = math.floor(radius)
    # One row after the other, with room between them for what is shifted out of a row: long ORs are fast ORs.
    flat = np.pad(mask, ((0, 0), (0, reach))).ravel()
    rows, wide = flat.copy(), np.zeros_like(flat)  # rows: the mask, widened by dx to both sides
    dx = 0
    for dy in range(min(reach, height - 1), -1, -1):
        while (dx + 1) ** 2 + dy**2 <= radius**2:
            dx += 1
            rows[dx:] |= flat[:-dx]
            rows[:-dx] |= flat[dx:]
        shift = dy * (width + reach)
        wide[shift:] |= rows[: len(rows) - shift]
        wide[: len(rows) - shift] |= rows[shift:]
    return wide.reshape(height, width + reach)[:, :width]


def score_objects(truth: NDArray[np.uint8], prediction: NDArray[np.uint8], n: int) -> NDArray[np.float64]:
    """J and F of every object of a frame.

    An object that the prediction lacks is an empty mask. Above n, which the first annotation of a sequence says, there
    is only background in the annotation, void included; in the prediction there are objects that there cannot be.

    Args:
        truth: annotation, index of the object at every pixel, (H, W); 0 is background.
        prediction: likewise.
        n: number of objects.

    Returns:
        (2, n): J in the first row, F in the second.

    Raises:
        ValueError: the sizes differ, or the prediction holds objects above n.
    """
    if truth.shape != prediction.shape:
        sizes = [f"{mask.shape[1]} x {mask.shape[0]}" for mask in (prediction, truth)]
        raise ValueError(f"is {sizes[0]} pixels, the annotation {sizes[1]}")
    if prediction.max(initial=0) > n:
        extra = ", ".join(str(index) for index in np.unique(prediction[prediction > n]))
        raise ValueError(f"holds object {extra}, but the objects of the sequence go up to {n}")
    scores = np.empty((2, n))
    for i in range(n):
        pair = truth == i + 1, prediction == i + 1
        scores[:, i] = region_similarity(*pair), contour_accuracy(*pair)
    return scores


class Statistics(NamedTuple):
    """What DAVIS reports of the scores of an object over its frames."""

    mean: float
    recall: float  # share of frames above RECALLED
    decay: float  # mean of the first quarter less mean of the last


def statistics(scores: ArrayLike) -> Statistics:
    """Mean, recall and decay of the scores of T >= 1 frames.

    Neighbouring quarters share a frame. The official evaluation counts frames in 8 bits, so that from 256 frames on its
    decay is NaN or nonsense; those of DAVIS are about a hundred at most. Here longer sequences have quarters as well.

    Args:
        scores: (T,); NaN stays out of mean and decay, and is not above RECALLED.
    """
    values = np.asarray(scores, dtype=np.float64)
    edges = np.round(np.linspace(1, len(values), BINS + 1) + 1e-10).astype(int) - 1
    first, last = values[: edges[1] + 1], values[edges[-2] :]
    decay = np.nanmean(first) - np.nanmean(last)
    return Statistics(float(np.nanmean(values)), float(np.mean(values > RECALLED)), float(decay))


def summary(scores: Sequence[NDArray[np.float64]]) -> dict[str, float]:
    """The numbers that DAVIS reports, of one object or as means over many, of one sequence or of all.

    Args:
        scores: of one object each, (2, T): J in the first row, F in the second. T may differ.

    Returns:
        ``J&F-Mean``, ``J-Mean``, ``J-Recall``, ``J-Decay``, ``F-Mean``, ``F-Recall`` and ``F-Decay``.
    """
    found: dict[str, float] = {}
    for row, letter in enumerate("JF"):
        columns = zip(*(statistics(of_object[row]) for of_object in scores), strict=True)
        for name, column in zip(("Mean", "Recall", "Decay"), columns, strict=True):
            found[f"{letter}-{name}"] = float(np.mean(column))
    return {"J&F-Mean": (found["J-Mean"] + found["F-Mean"]) / 2, **found}


def _where_it_counts(truth: Mask, prediction: Mask, void: Mask | None) -> tuple[Mask, Mask]:
    return (truth, prediction) if void is None else (truth & ~void, prediction & ~void)


def _bounding_box(mask: Mask) -> tuple[slice, slice]:
    """The part of an image that holds a mask and its contour, one pixel around the mask."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return slice(0), slice(0)
    return slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(columns[0] - 1, 0), columns[-1] + 2)
