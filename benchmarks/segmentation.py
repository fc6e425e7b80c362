"""J and F of a frame at 480p, against widening whole contours pixel by pixel of the disk.

    python benchmarks/segmentation.py [--data DAVIS_ROOT --split val --frames 10 --repeats 9]

The plain method does per object what the official evaluation does: both contours in the whole frame, each dilated by a
disk of radius 8 (one shifted OR for each of its 197 pixels), then the matches are counted. Ours runs on the same masks,
in turns with it; medians are printed, and the scores must be the same numbers.

The masks are the annotations of evenly spaced frames of DAVIS sequences, against copies that are shifted by a few
pixels. Without --data they are drawn, 480 x 854: one small object, one large one, five, and one as hard as they come,
speckles all over the frame. One process, one thread. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dinotools.data.masks import read_mask
from dinotools.evaluation.davis.layout import ANNOTATIONS, find_files, read_split
from dinotools.evaluation.davis.scoring import count_objects
from dinotools.metrics.segmentation import contour, matching_radius, region_similarity, score_objects

SHAPE = 480, 854
SHIFT = 3, 5  # pixels, down and to the right
Clip = tuple[int, list[np.ndarray]]  # number of objects, masks


def plain_widened(mask: np.ndarray, radius: int) -> np.ndarray:
    """Dilation by a disk, one shifted OR for each of its pixels."""
    height, width = mask.shape
    wide = np.zeros_like(mask)
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            if dy**2 + dx**2 <= radius**2:
                to = np.s_[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)]
                wide[to] |= mask[max(-dy, 0) : height - max(dy, 0), max(-dx, 0) : width - max(dx, 0)]
    return wide


def plain_accuracy(truth: np.ndarray, prediction: np.ndarray) -> float:
    """F from whole frames."""
    radius = int(matching_radius(truth.shape))
    edges = contour(truth), contour(prediction)
    wide = [plain_widened(edge, radius) for edge in edges]
    counts = [int(edge.sum()) for edge in edges]
    if not all(counts):
        return float(counts[0] == counts[1])
    precision, recall = (edges[1] & wide[0]).sum() / counts[1], (edges[0] & wide[1]).sum() / counts[0]
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def plain_scores(truth: np.ndarray, prediction: np.ndarray, n: int) -> np.ndarray:
    """J and F of every object, (2, n)."""
    pairs = [(truth == i, prediction == i) for i in range(1, n + 1)]
    return np.array([[measure(*pair) for pair in pairs] for measure in (region_similarity, plain_accuracy)])


def drawn_clips() -> Iterator[tuple[str, Clip]]:
    """Names and clips of one frame."""
    y, x = np.indices(SHAPE)

    def ellipse(cy: int, cx: int, height: int, width: int) -> np.ndarray:
        wave = 1 + 0.1 * np.sin(12 * np.arctan2(y - cy, x - cx))  # a contour has corners
        return ((y - cy) / height) ** 2 + ((x - cx) / width) ** 2 <= wave

    five = np.zeros(SHAPE, np.uint8)
    for i in range(5):
        five[ellipse(100 + 60 * i, 120 + 150 * i, 70, 50)] = i + 1
    speckles = np.random.default_rng(0).random((SHAPE[0] // 4, SHAPE[1] // 7)) < 0.3
    yield "small", (1, [ellipse(200, 400, 40, 30).astype(np.uint8)])
    yield "large", (1, [ellipse(240, 430, 200, 350).astype(np.uint8)])
    yield "five", (5, [five])
    yield "speckles", (1, [np.kron(speckles, np.ones((4, 7), np.uint8)).astype(np.uint8)])


def real_clips(data: Path, split: str, frames: int) -> Iterator[tuple[str, Clip]]:
    """Names and clips of so many frames of every sequence."""
    for name, paths in find_files(data, ANNOTATIONS, read_split(data, split)).items():
        chosen = np.linspace(0, len(paths) - 1, min(frames, len(paths))).astype(int)
        yield name, (count_objects(read_mask(paths[0])), [read_mask(paths[i]) for i in chosen])


def seconds(score: Callable[..., np.ndarray], clip: Clip) -> tuple[float, np.ndarray]:
    """Time of a clip, and its scores (2, frames x objects)."""
    n, masks = clip
    pairs = [(mask, np.roll(mask, SHIFT, axis=(0, 1))) for mask in masks]
    started = time.perf_counter()
    scores = np.concatenate([score(*pair, n) for pair in pairs], axis=1)
    return time.perf_counter() - started, scores


def compare(clip: Clip, repeats: int) -> dict[str, Any]:
    """Both methods in turns: median milliseconds of a frame and object, and their ratio."""
    methods = {"plain": plain_scores, "ours": score_objects}
    runs = [{method: seconds(score, clip) for method, score in methods.items()} for _ in range(repeats)]
    np.testing.assert_array_equal(runs[0]["plain"][1], runs[0]["ours"][1])  # to the bit
    scored = clip[0] * len(clip[1])
    ms = {method: 1000 * statistics.median(run[method][0] for run in runs) / scored for method in methods}
    ratio = round(ms["plain"] / ms["ours"], 1)
    return {
        "objects": clip[0],
        "frames": len(clip[1]),
        **{k: round(v, 3) for k, v in ms.items()},
        "times_faster": ratio,
    }


def main() -> None:
    """Prints a line for every clip, then the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a DAVIS folder; drawn masks without")
    parser.add_argument("--split", default="val")
    parser.add_argument("--frames", type=int, default=10, help="of each sequence")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    clips = real_clips(options.data, options.split, options.frames) if options.data else drawn_clips()
    found = {}
    for name, clip in clips:
        found[name] = compare(clip, options.repeats)
        print(f"{name}: {found[name]}", flush=True)
    total = {
        method: round(statistics.fmean(clip[method] for clip in found.values()), 3) for method in ("plain", "ours")
    }
    ratios = [clip["times_faster"] for clip in found.values()]
    summary = {
        "ms_per_frame_and_object": total,
        "times_faster": {"least": min(ratios), "median": statistics.median(ratios)},
        "equal": True,
        "masks": "DAVIS" if options.data else "drawn",
        "repeats": options.repeats,
        "cores": os.cpu_count(),
        "clips": found,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
