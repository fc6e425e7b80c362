"""Copy detection on Copydays: attacked copies look for their originals among distractors.

Every image becomes a square (bicubic); its feature is [CLS] and the generalised mean (power 4) of the patch tokens of
the last block, side by side; whitening is learned on other images, keeps all dimensions, and ends in unit length. A
copy's average precision looks at the 20 most similar images (dot product) of originals and distractors.
Paper: section 4.2.1, Table 4; official file ``eval_copy_detection.py``. mAP on ``strong``, among 10,000 distractors
and after whitening on 20,000 other images: ViT-B/16 at 224 pixels 81.7, ViT-B/8 at 320 pixels 85.5.

    dinotools copydays --ckpt dino_vitb8 --data /datasets/copydays --distractors yfcc10k --whiten yfcc20k
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dinotools.configs import files
from dinotools.configs.copydays import CopydaysConfig
from dinotools.data.copydays import ORIGINAL, SERIES, STRONG, CopydaysData, open_copydays
from dinotools.data.images import ImageFiles
from dinotools.data.transforms import Square
from dinotools.features.descriptors import Descriptors, open_descriptors
from dinotools.features.extraction import Features
from dinotools.features.pooling import Pooling
from dinotools.features.whitening import Whitening, learn
from dinotools.metrics.ranking import COPYDAYS_DEPTH, average_precision, padded, ranks
from dinotools.reporting import paper
from dinotools.runtime import device, run_directory
from dinotools.runtime.console import track
from dinotools.runtime.errors import require
from dinotools.runtime.results import Result

PAPER_SIDES = {"dino_vitb8": 320, "dino_vitb16": 224}  # the imsize of each network in Table 4
PAPER_SIZES = {ORIGINAL: 157, STRONG: 229}
PAPER_OTHERS = (10_000, 20_000)  # distractors, images for whitening
READABLE = 0.99  # of those, at least
NEVER_PUBLISHED = (
    "The paper's distractors and images for whitening are random images of YFCC100M that were never listed: "
    "with others, tenths of a point say nothing."
)
QUERIES = 4096  # that search together; the official set has 3,055
TILE = 2**24  # numbers in a chunk of distractors, and in its similarities to the queries


def run(config: CopydaysConfig) -> Result:
    """Describes originals, copies and distractors, lets every copy search, and scores.

    Raises:
        DinotoolsError: the checkpoint, the data or an option cannot be used, or an image of the set cannot be read.
        RunFailed: a feature is not finite.
    """
    data = open_copydays(config.data)
    runtime = device.prepare(config.device, config.precision, config.workers, config.seed)
    pooling = Pooling.parse(config.pooling)
    descriptors = open_descriptors(config, Square(config.imsize), pooling, runtime, seed=config.seed)
    check_options(config, descriptors)
    if config.out is not None:
        inputs = (config.ckpt, config.data, config.distractors, config.whiten, config.cache)
        run_directory.claim(config.out, files.dump(config), overwrite=config.overwrite, inputs=inputs)

    learned_on = descriptors.found_in(config.whiten, "images for whitening") if config.whiten else None
    whitening = learn(learned_on.shards, covariance=config.covariance) if learned_on else None
    everything = ImageFiles([path for block in data.blocks for path in block.images.paths])  # readers start once
    queries = descriptors.of(everything, "Copydays", all_needed=True).tensor().to(runtime.device)
    database = queries[: len(data.originals)]  # which are the first block
    distractors = descriptors.found_in(config.distractors, "distractors") if config.distractors else None

    positives = [rows for block in data.blocks for rows in block.positives]
    others = distractors.shards if distractors else ()
    scores = by_block(data, *average_precisions(queries, database, positives, others, whitening))
    searched = {
        "queries": len(queries),
        "originals": len(database),
        "distractors": told(config.distractors, distractors),
        "whitening": told(config.whiten, learned_on),
    }
    published = paper_strong(config, data, distractors, learned_on)
    return Result(
        title=f"Copydays · {descriptors.backbone.source} · {config.data}",
        rows=as_rows(scores, published),
        metrics=scores,
        details={**descriptors.describe(), "data": searched},
        notes=tuple(remarks(published, whitening, learned_on)),
    )


def check_options(config: CopydaysConfig, descriptors: Descriptors) -> None:
    """Refuses, before the work, what would end it.

    Raises:
        DinotoolsError: images would be smaller than a patch, or a source of further images is not there.
    """
    least = descriptors.view.least
    require(config.imsize >= least, f"is {config.imsize}", "imsize", f"This network needs {least} pixels.")
    for option, source in {"distractors": config.distractors, "whiten": config.whiten}.items():
        there = source is None or source.expanduser().exists()
        require(there, f"there is no {source}", option, "Give a folder of images or features, or a .npy file.")


def average_precisions(
    queries: Tensor,
    database: Tensor,
    positives: Sequence[Sequence[int]],
    distractors: Sequence[Tensor] = (),
    whitening: Whitening | None = None,
) -> tuple[Tensor, Tensor]:
    """How well each query finds its positives.

    ::

        everything is whitened and of unit length, or of unit length only
        similarity = queries @ (database, then distractors).T
        the average precision of each query's ranking

    Every QUERIES queries read the distractors once, a chunk at a time: beside what is given, memory holds some
    numbers per query and original, and a few times TILE.

    Args:
        queries: (Q, D) float32 on the device that computes.
        database: (N, D) float32 on the same device.
        positives: for every query, rows of the database.
        distractors: shards (n_i, D) of any precision on any device; no query wants them.
        whitening: learned on other features; None for none.

    Returns:
        Average precision (Q,) float64 on the CPU of the first 20 ranks, as the official code has it, and of all.
    """
    directed = whitening or partial(F.normalize, dim=1)
    database = directed(database)
    size = max(1, TILE // max(min(len(queries), QUERIES), queries.shape[1]))
    chunks = [chunk for shard in distractors for chunk in shard.split(size)]
    found = []
    for lot, rows in zip(queries.split(QUERIES), padded(positives).split(QUERIES), strict=True):
        lot = directed(lot)
        further = (
            lot @ directed(chunk.to(lot.device).float()).T
            for chunk in track(chunks, "search among distractors", len(chunks))
        )
        found.append(ranks(rows, lot @ database.T, further).cpu())  # not every device has the float64 of what follows
    everywhere = torch.cat(found)
    return average_precision(everywhere, COPYDAYS_DEPTH), average_precision(everywhere)


def by_block(data: CopydaysData, top20: Tensor, full: Tensor) -> dict[str, dict[str, Any]]:
    """Average precisions (Q,) of the images of all blocks, in percent: means of each block and of each series.

    Returns:
        name -> ``queries``, ``map_top20`` and ``map_full``; with ``ap_top20`` of each image of strong.
    """
    sizes = [len(block.images) for block in data.blocks]
    scores: dict[str, dict[str, Any]] = {}
    for block, first, whole in zip(data.blocks, (100 * top20).split(sizes), (100 * full).split(sizes), strict=True):
        means = {"map_top20": first.mean().item(), "map_full": whole.mean().item()}
        scores[block.name] = {"queries": len(first), **means}
        if block.name == STRONG:
            names = [Path(path).name for path in block.images.paths]
            scores[STRONG]["ap_top20"] = dict(zip(names, first.tolist(), strict=True))
    for series in SERIES:
        of_series = [score for name, score in scores.items() if name.startswith(f"{series}/")]
        if of_series:
            means = {key: statistics.fmean(score[key] for score in of_series) for key in ("map_top20", "map_full")}
            scores[series] = {"queries": sum(score["queries"] for score in of_series), **means}
    return scores


def as_rows(scores: dict[str, dict[str, Any]], published: float | None) -> list[dict[str, Any]]:
    """The table of these scores, with the paper's number beside strong."""
    return [
        {
            "block": f"mean of {name}" if name in SERIES else name,
            "queries": score["queries"],
            "mAP % (top 20)": score["map_top20"],
            "mAP % (all ranks)": score["map_full"],
        }
        | ({"paper mAP %": published} if published and name == STRONG else {})
        for name, score in scores.items()
    ]


def paper_strong(
    config: CopydaysConfig, data: CopydaysData, distractors: Features | None, learned_on: Features | None
) -> float | None:
    """The paper's mAP of strong, in percent, where network, set and protocol are those of the paper."""
    sizes = {block.name: len(block.images) for block in data.blocks}
    others = [len(features or ()) for features in (distractors, learned_on)]
    same = (str(Pooling.parse(config.pooling)), config.covariance) == ("cls+gem", "official")
    same &= all(sizes[name] == size for name, size in PAPER_SIZES.items())
    same &= all(READABLE * size <= n <= size for n, size in zip(others, PAPER_OTHERS, strict=True))
    same &= PAPER_SIDES.get(str(config.ckpt)) == config.imsize
    return paper.tables()["table4"].published(str(config.ckpt), "mAP") if same else None


def told(source: Path | None, features: Features | None) -> dict[str, Any] | None:
    """What results.json says of further images; None where there were none."""
    return None if features is None else {"source": str(source), **features.describe()}


def remarks(published: float | None, whitening: Whitening | None, learned_on: Features | None) -> Iterator[str]:
    """What to know about the numbers."""
    if published is not None:
        yield NEVER_PUBLISHED
    if whitening is not None and learned_on is not None and len(whitening.projection) < learned_on.width:
        kept, width = len(whitening.projection), learned_on.width
        yield f"Learned on {len(learned_on):,} images, whitening keeps {kept:,} of {width:,} dimensions; more keep all."
