"""Ranked lists: what each query found, right and wrong, as a page and as a file."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from dinotools.configs.retrieval import RetrievalConfig
from dinotools.data.images import ImageFiles, decode
from dinotools.data.oxford_paris import Box, RetrievalData
from dinotools.features.unit_rows import UnitRows
from dinotools.metrics.ranking import RankingScores
from dinotools.reporting import ranked_lists
from dinotools.reporting.ranked_lists import Hit, RankedList, Verdict
from dinotools.reporting.thumbnails import picture
from dinotools.runtime.console import track
from dinotools.runtime.run_directory import write_atomically
from dinotools.search.exact import nearest

FILE = "lists.json"  # in --out; `dinotools report` shows some of it
SHOWN = 15  # images of a list, junk included
LEAD = (
    "Most similar images first, by the cosine similarity of frozen features. Frames show what the ground truth says: "
    "easy and hard images are positive, as in the Medium protocol."
)


def rank(
    config: RetrievalConfig,
    data: RetrievalData,
    scores: dict[str, RankingScores],
    queries: Tensor,
    searched: UnitRows,
) -> list[dict[str, Any]]:
    """What every query found, without the pictures.

    Args:
        config: where the images of the distractors are.
        data: the benchmark.
        scores: of every query.
        queries: (Q, D) float32 unit rows, on the device that compares.
        searched: the images of the database, then the distractors.

    Returns:
        For every query its ``name``, ``image`` (a file), ``box`` in pixels or None, ``scores`` from 0 to 1, ``missed``
        positives, and ``hits``: ``image`` (a file, or a name), ``similarity``, ``verdict``.
    """
    names = [*data.database.paths, *_distractor_names(config, searched.n_rows - len(data.database))]
    names = [str(Path(name).absolute()) if Path(name).is_file() else name for name in names]  # wherever it is read
    similarity, rows = nearest(queries, searched, min(SHOWN, len(names)))
    lists = []
    for query, path in enumerate(data.queries.paths):
        found, junk = rows[query].tolist(), data.truth.junk[query]
        positives = {*data.truth.easy[query], *data.truth.hard[query]}
        lists.append({
            "name": data.truth.query_names[query],
            "image": str(Path(path).absolute()),
            "box": list(data.truth.boxes[query]) if config.protocol == "revisitop" else None,
            "scores": {f"AP {name.capitalize()}": _score(of, query) for name, of in scores.items()},
            "missed": len(positives.difference(found)),
            "hits": [
                {"image": names[row], "similarity": value, "verdict": _verdict(row, positives, junk)}
                for row, value in zip(found, similarity[query].tolist(), strict=True)
            ],
        })  # fmt: skip
    return lists


def illustrated(
    found: dict[str, Any], shown: Callable[[str], np.ndarray | None] = picture, most: int = SHOWN
) -> RankedList:
    """A list of ``rank`` with the pictures, as far as they can be read (still).

    Args:
        found: a query and its hits.
        shown: what reads a picture.
        most: hits of it.
    """
    image, box = shown(found["image"]), None
    if image is not None and found["box"] is not None:
        box = _fractions(found["box"], decode(found["image"]).size)
    hits = [
        Hit(Path(hit["image"]).stem, hit["similarity"], hit["verdict"], shown(hit["image"]))
        for hit in found["hits"][:most]
    ]
    hidden = sum(hit["verdict"] == "positive" for hit in found["hits"][most:])
    return RankedList(found["name"], image, box, found["scores"], hits, found["missed"] + hidden)


def write_page(config: RetrievalConfig, data: RetrievalData, found: Sequence[dict[str, Any]]) -> None:
    """Writes ``--html``: the lists of ``rank`` and their pictures."""
    assert config.html is not None
    shown = lru_cache(maxsize=1024)(picture)  # an image may stand in many lists
    lists = [illustrated(of, shown) for of in track(found, "the page", total=len(found))]
    title = f"{data.name}: {len(lists)} queries"
    text = ranked_lists.page(title, LEAD, lists, f"dinotools retrieval --dataset {config.dataset} --ckpt {config.ckpt}")
    write_atomically(config.html.expanduser(), lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _distractor_names(config: RetrievalConfig, count: int) -> Sequence[str]:
    """Their files where they are a folder of images and all of them were readable; else numbers."""
    if config.distractors is not None and Path(config.distractors).is_dir():
        with_images = ImageFiles.in_folder(config.distractors).paths
        if len(with_images) == count:
            return with_images
    return [f"distractor {number + 1:,}" for number in range(count)]


def _fractions(box: Sequence[float], size: tuple[int, int]) -> Box:
    """A box of pixels in fractions of width and height, cut at the borders."""
    x1, y1, x2, y2 = (min(max(side / size[i % 2], 0.0), 1.0) for i, side in enumerate(box))
    return x1, y1, x2, y2


def _score(scores: RankingScores, query: int) -> float | None:
    value = scores.average_precision[query].item()
    return None if math.isnan(value) else value


def _verdict(row: int, positives: set[int], junk: Sequence[int]) -> Verdict:
    return "positive" if row in positives else "junk" if row in junk else "negative"
