"""From vectors to the scores of every query."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dinotools.configs.retrieval import RetrievalConfig
from dinotools.data.oxford_paris import GroundTruth
from dinotools.features.unit_rows import UnitRows
from dinotools.metrics.ranking import RankingScores, revisited
from dinotools.runtime.console import say
from dinotools.runtime.errors import DinotoolsError
from dinotools.runtime.run_directory import write_json
from dinotools.search import approximate
from dinotools.search.exact import nearest

AT = (1, 5, 10)  # the k of mP@k
RECALL_AT = 100
NO_SIMILARITY = -2.0  # below every cosine: in place of distractors that an index did not find


@dataclass(frozen=True)
class Found:
    """Distractors that an index found.

    Args:
        similarity: (Q, depth) float32.
        horizon: (Q,), the least similarity at which all distractors are taken to be known.
        about: kind, size and recall, for results.json.
    """

    similarity: Tensor
    horizon: Tensor
    about: dict[str, Any]


def score(
    queries: Tensor, database: Tensor, distractors: UnitRows, truth: GroundTruth, found: Found | None = None
) -> dict[str, RankingScores]:
    """Easy, Medium and Hard; similarities to distractors exist a block at a time.

    Args:
        queries: (Q, D) float32 unit rows, on the device that compares.
        database: (N, D), likewise.
        distractors: images that are wrong for every query.
        truth: which rows of the database are right.
        found: what an index found among the distractors, in place of comparing with all of them.
    """
    lists = [
        {"easy": easy, "hard": hard, "junk": junk}
        for easy, hard, junk in zip(truth.easy, truth.hard, truth.junk, strict=True)
    ]
    similarity = queries @ database.T
    if found is None:
        return revisited(lists, similarity, _similarities(queries, distractors), AT)
    return revisited(lists, similarity, [found.similarity], AT, horizon=found.horizon)


def _similarities(queries: Tensor, rows: UnitRows) -> Iterator[Tensor]:
    return (queries @ block.to(queries.device).T for block in rows)


def search_index(queries: Tensor, distractors: UnitRows, config: RetrievalConfig, made_of: dict[str, Any]) -> Found:
    """Asks a FAISS index for the distractors nearest to each query; builds it if it is not there.

    Args:
        queries: (Q, D) float32 unit rows.
        distractors: what the index is of.
        config: kind, file and depth.
        made_of: everything that the vectors depend on. It is written beside the index, which serves no other vectors.

    Raises:
        DinotoolsError: the file is damaged or of other vectors; FAISS is not installed.
    """
    assert config.index is not None and config.search != "exact"  # checked with the settings
    about, path = {"kind": config.search, **made_of}, config.index.expanduser()
    _check_or_build(path, about, distractors, config, queries.device)
    index = approximate.open_index(path)
    depth = min(config.depth, distractors.n_rows)
    similarity, rows = index.search(queries, depth, distractors)
    wanted = min(RECALL_AT, depth)
    exact = nearest(queries, distractors, wanted)[1]
    # an index that finds fewer than asked for has looked no further; it may have passed over more similar ones
    all_known = (rows >= 0).sum(dim=1) == distractors.n_rows
    least = similarity.masked_fill(rows < 0, torch.inf).amin(dim=1)
    return Found(
        similarity=similarity.clamp(min=NO_SIMILARITY),
        horizon=least.masked_fill(all_known, -torch.inf),
        about={
            "kind": index.kind,
            "file": str(path),
            "file_mb": round(path.stat().st_size / 2**20, 1),
            "depth": depth,
            f"recall_at_{wanted}": approximate.recall(rows[:, :wanted].cpu(), exact.cpu()),
        },
    )


def _check_or_build(
    path: Path, about: dict[str, Any], distractors: UnitRows, config: RetrievalConfig, device: torch.device
) -> None:
    note = path.with_name(path.name + ".json")
    if path.is_file():
        if _noted(note) != json.loads(json.dumps(about)):
            raise DinotoolsError("is an index of other vectors", path, "Give another --index, or remove it.")
        return
    say(f"building {path}: {config.search}, {distractors.n_rows:,} vectors")
    note.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert config.search != "exact"
    approximate.build(distractors, config.search, path, device=device, seed=config.seed)
    write_json(note, about)


def _noted(note: Path) -> Any:
    """What an index was built of; None if the note beside it is gone or damaged."""
    try:
        return json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
