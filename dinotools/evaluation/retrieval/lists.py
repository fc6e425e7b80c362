"""The page of ranked lists: what each query found, right and wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

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

SHOWN = 15  # images of a list, junk included
LEAD = (
    "Most similar images first, by the cosine similarity of frozen features. Frames show what the ground truth says: "
    "easy and hard images are positive, as in the Medium protocol."
)


def write_page(
    config: RetrievalConfig,
    data: RetrievalData,
    scores: dict[str, RankingScores],
    queries: Tensor,
    searched: UnitRows,
) -> None:
    """Writes ``--html``.

    Args:
        config: where to, and where the images of the distractors are.
        data: the benchmark.
        scores: of every query.
        queries: (Q, D) float32 unit rows, on the device that compares.
        searched: the images of the database, then the distractors.
    """
    assert config.html is not None
    names = [*data.database.paths, *_distractor_names(config, searched.n_rows - len(data.database))]
    similarity, rows = nearest(queries, searched, min(SHOWN, len(names)))
    shown = lru_cache(maxsize=1024)(picture)  # an image may stand in many lists
    lists = []
    for query, path in enumerate(track(data.queries.paths, "the page", total=len(queries))):
        found, junk = rows[query].tolist(), data.truth.junk[query]
        positives = {*data.truth.easy[query], *data.truth.hard[query]}
        image, box = shown(path), None
        if image is not None and config.protocol == "revisitop":
            box = _fractions(data.truth.boxes[query], decode(path).size)
        lists.append(
            RankedList(
                name=data.truth.query_names[query],
                image=image,
                box=box,
                scores={f"AP {name.capitalize()}": _score(of, query) for name, of in scores.items()},
                hits=[
                    Hit(Path(names[row]).stem, value, _verdict(row, positives, junk), shown(names[row]))
                    for row, value in zip(found, similarity[query].tolist(), strict=True)
                ],
                missed=len(positives.difference(found)),
            )
        )
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


def _fractions(box: Box, size: tuple[int, int]) -> Box:
    """A box of pixels in fractions of width and height, cut at the borders."""
    x1, y1, x2, y2 = (min(max(side / size[i % 2], 0.0), 1.0) for i, side in enumerate(box))
    return x1, y1, x2, y2


def _score(scores: RankingScores, query: int) -> float | None:
    value = scores.average_precision[query].item()
    return None if math.isnan(value) else value


def _verdict(row: int, positives: set[int], junk: Sequence[int]) -> Verdict:
    return "positive" if row in positives else "junk" if row in junk else "negative"
