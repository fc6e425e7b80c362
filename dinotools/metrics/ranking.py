"""Average precision and precision at k of ranked lists: Revisited Oxford and Paris, and Copydays.

No list is ever written out. What the metrics need is where the few listed images (positives and junk) stand in the
ranking, and a rank is the number of images that score higher. Counting them asks for the similarities alone, block by
block, sorted without their row numbers; that is several times quicker than sorting row numbers, and it adds up over
blocks, so that a million distractors can stream past.

Ranks count from 0. Of equal similarities the lower row comes first. All scores are fractions of 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

PROTOCOLS = {  # which lists count as positives, and which are taken out of the ranking
    "easy": (("easy",), ("junk", "hard")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("junk", "easy")),
}
LISTS = ("easy", "hard", "junk")
COPYDAYS_DEPTH = 20  # how much of each ranking the official copy detection looks at

NO_ROW = -1
ABSENT = torch.iinfo(torch.int64).max  # the rank of nothing: behind every image
BEYOND = ABSENT - 1  # the rank of an image that is there but out of sight: so far behind that it earns nothing
COLUMNS = 32768  # similarities of one query that are sorted at once


@dataclass(frozen=True)
class RankingScores:
    """Scores of Q queries. A query without positives has NaN everywhere and stays out of the means."""

    average_precision: Tensor  # (Q,) float64
    precision: dict[int, Tensor]  # k -> precision at k, (Q,) float64

    @property
    def mean_average_precision(self) -> float:
        """The mAP; NaN where no query has positives."""
        return self.average_precision.nanmean().item()

    @property
    def mean_precision(self) -> dict[int, float]:
        """The mP@k for every k; NaN where no query has positives."""
        return {k: precision.nanmean().item() for k, precision in self.precision.items()}

    @property
    def without_positives(self) -> int:
        """How many queries have no positives."""
        return int(self.average_precision.isnan().sum().item())


def revisited(
    ground_truth: Sequence[Mapping[str, Sequence[int]]],
    similarity: Tensor,
    distractors: Iterable[Tensor] = (),
    at: Sequence[int] = (1, 5, 10),
    horizon: Tensor | None = None,
) -> dict[str, RankingScores]:
    """Easy, Medium and Hard of Revisited Oxford and Paris (Radenović et al. 2018, section 3; its evaluation code).

    Args:
        ground_truth: for each of Q queries its ``easy``, ``hard`` and ``junk`` database rows; other keys are ignored.
        similarity: of the queries to the database, (Q, N), as in ``ranks``.
        distractors: similarities to images that no list names, as in ``ranks``.
        at: the k of precision at k.
        horizon: as in ``ranks``. A positive beneath it still counts as one, found at no rank, which lowers scores;
            distractors above it that are not known raise them.

    Returns:
        The scores of each of ``PROTOCOLS``.

    Raises:
        ValueError: as ``ranks``.
    """
    rows = [padded([query[name] for query in ground_truth]) for name in LISTS]
    found = ranks(torch.cat(rows, dim=1), similarity, distractors, horizon)
    of = dict(zip(LISTS, found.split([part.shape[1] for part in rows], dim=1), strict=True))
    scores = {}
    for protocol, (positives, junk) in PROTOCOLS.items():
        positions = without_junk(
            torch.cat([of[name] for name in positives], 1), torch.cat([of[name] for name in junk], 1)
        )
        scores[protocol] = RankingScores(average_precision(positions), {k: precision_at(positions, k) for k in at})
    return scores


def padded(lists: Sequence[Sequence[int]]) -> Tensor:
    """Lists of rows, at least one wide and filled up with ``NO_ROW``: (Q, longest list) int64."""
    width = max([1, *map(len, lists)])
    return torch.tensor([[*rows, *[NO_ROW] * (width - len(rows))] for rows in lists], dtype=torch.int64)


def ranks(
    rows: Tensor, similarity: Tensor, distractors: Iterable[Tensor] = (), horizon: Tensor | None = None
) -> Tensor:
    """Where database rows stand in the ranking of each query.

    ::

        order = all images by descending similarity, of equal ones the lower row first
        the position of each of the rows in order

    Beside the similarities, memory holds a sorted copy of Q x COLUMNS of them, and their order where listed rows tie.

    Args:
        rows: of the database, (Q, L) int64; ``NO_ROW`` fills up.
        similarity: of the queries to the database, (Q, N), finite, float32 or float64 on any device.
        distractors: further similarities (Q, n_i), one block after the other; their rows come after the database's.
        horizon: (Q,), where only those distractors are known that score at least so much, as the k best that an index
            finds do. What scores less may have any number of unknown distractors ahead of it. None: all are known.

    Returns:
        (Q, L) int64 on the device of the similarities; ``ABSENT`` in place of ``NO_ROW``, ``BEYOND`` for rows that
        score below the horizon.

    Raises:
        ValueError: a row lies outside the database or is listed twice for one query, or the numbers of queries differ.
    """
    rows = rows.to(similarity.device)
    _check(rows, similarity)
    scores = similarity.gather(1, rows.clamp(min=0))
    found = torch.zeros_like(rows)
    first = 0
    for block in chain([similarity], distractors):
        for columns in block.split(COLUMNS, dim=1):
            found += _ahead(rows - first, scores, columns)
            first += columns.shape[1]
    if horizon is not None:
        found[scores < horizon.to(scores.device)[:, None]] = BEYOND
    return found.masked_fill(rows == NO_ROW, ABSENT)


def without_junk(positives: Tensor, junk: Tensor) -> Tensor:
    """Ranks of the positives once junk is taken out of the ranking.

    Args:
        positives: ranks (Q, P) int64; ``ABSENT`` fills up.
        junk: likewise (Q, J).
    """
    ahead = torch.searchsorted(junk.sort(dim=1).values, positives.contiguous())
    return torch.where(positives == ABSENT, ABSENT, positives - ahead)


def average_precision(positives: Tensor, depth: int | None = None) -> Tensor:
    """Area under the precision-recall curve by the trapezoid rule.

    ::

        for the j-th positive (from 0), at rank r:
            before = j / r, or 1 at rank 0
            after = (j + 1) / (r + 1)
            area += (before + after) / 2 / number of positives

    Args:
        positives: ranks (Q, P) int64 in any order; ``ABSENT`` fills up.
        depth: positives at this rank and beyond count as not found; ``COPYDAYS_DEPTH`` is what the official
            copy detection does. By default the whole ranking counts.

    Returns:
        (Q,) float64; NaN for a query without positives.
    """
    positives = positives.sort(dim=1).values
    j = torch.arange(positives.shape[1], dtype=torch.float64, device=positives.device)
    before = torch.where(positives == 0, 1.0, j / positives)
    after = (j + 1) / (positives.double() + 1)
    found = positives < (ABSENT if depth is None else depth)
    area = torch.where(found, (before + after) / 2, 0.0).sum(dim=1)
    return area / (positives != ABSENT).sum(dim=1)


def precision_at(positives: Tensor, k: int) -> Tensor:
    """Share of positives among the first k images, or up to the last positive where that comes sooner.

    Args:
        positives: ranks (Q, P) int64 in any order, P >= 1; ``ABSENT`` fills up.
        k: how many images are looked at.

    Returns:
        (Q,) float64; NaN for a query without positives.
    """
    until = positives.masked_fill(positives == ABSENT, -1).amax(dim=1).add(1).clamp(max=k)
    return (positives < until[:, None]).sum(dim=1).double() / until


def _ahead(rows: Tensor, scores: Tensor, columns: Tensor) -> Tensor:
    """How many of the columns (Q, n) rank ahead of each listed row (Q, L); rows count from the first column."""
    n = columns.shape[1]
    ordered = _sorted(columns)
    up_to = torch.searchsorted(ordered, scores, right=True)
    equal = up_to - torch.searchsorted(ordered, scores)
    ahead = n - up_to + torch.where(rows >= n, equal, 0)
    # A row among these columns equals itself. Where it equals another too, only the order itself says which is first.
    tied = (rows >= 0) & (rows < n) & (equal > 1)
    some = tied.any(dim=1)
    order = columns[some].argsort(dim=1, descending=True, stable=True)
    place = torch.empty_like(order).scatter_(1, order, torch.arange(n, device=order.device).expand_as(order))
    ahead[tied] = place.gather(1, rows[some].clamp(0, n - 1))[tied[some]]
    return ahead


def _sorted(columns: Tensor) -> Tensor:
    """Every row of (Q, n) in ascending order."""
    if columns.device.type != "cpu":
        return columns.sort(dim=1).values
    values = columns.clone(memory_format=torch.contiguous_format)
    values.numpy().sort(axis=1)  # several times quicker than torch, which cannot sort without indices
    return values


def _check(rows: Tensor, similarity: Tensor) -> None:
    if len(rows) != len(similarity):
        raise ValueError(f"{len(rows)} queries have lists of rows and {len(similarity)} have similarities")
    if ((rows < NO_ROW) | (rows >= similarity.shape[1])).any():
        raise ValueError(f"a listed row lies outside the {similarity.shape[1]} rows of the database")
    ordered = rows.sort(dim=1).values
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != NO_ROW)
    if twice.any():
        query = int(twice.any(dim=1).nonzero()[0].item())
        raise ValueError(f"query {query} lists row {int(ordered[query, 1:][twice[query]][0].item())} twice")
