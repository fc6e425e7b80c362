"""Groups of near-copies: every photo of a group is similar enough to the one that is to be kept.

Joining whatever is connected would chain photos that have nothing in common through others that lie between them.
So groups are stars. The photos are taken in order, best first; one that belongs to no group yet begins one, and all
that are similar enough to it, and free, are its copies.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dinotools.runtime.console import track
from dinotools.search.exact import nearest

QUERIES = 4096  # photos whose neighbours are held at a time; each lot reads all vectors once
NEIGHBOURS = (32, 1024)  # of each photo; the second number where even the last of the first is similar enough

Neighbours = dict[int, dict[int, float]]  # photo -> photos that are similar enough -> similarity


def similar_photos(shards: Sequence[Tensor], threshold: float, device: torch.device) -> Neighbours:
    """All pairs of photos from a similarity on; of a photo with more than 1,023 such others, the most similar.

    The search is exact: N^2 similarities, in memory that does not grow with them. For 30,000 photos and D = 768 that is
    about a minute on two cores, for ten times as many a hundred times as long; hundreds of thousands want a GPU.

    Args:
        shards: vectors (n_i, D), whose rows are numbered one shard after the other.
        threshold: the least similarity.
        device: where to compute.

    Returns:
        Both directions of every pair; photos without one are left out.
    """
    total = sum(map(len, shards))
    found: Neighbours = {}
    lots = [queries for shard in shards for queries in shard.split(QUERIES)]
    first_row = 0
    for queries in track(lots, "comparing photos", total=len(lots)):
        rows = torch.arange(first_row, first_row + len(queries))
        first_row += len(queries)
        for k in NEIGHBOURS:
            similarity, others = (x.cpu() for x in nearest(queries.to(device), shards, min(k, total), cosine=True))
            _add_pairs(found, rows, similarity, others, threshold)
            unfinished = (similarity[:, -1] >= threshold) & (k < total)
            rows, queries = rows[unfinished], queries[unfinished]
            if not len(rows):
                break
    return found


def stars(neighbours: Neighbours, best_first: Sequence[int]) -> list[list[tuple[int, float]]]:
    """Groups of two or more photos.

    Args:
        neighbours: symmetric, as ``similar_photos`` returns them.
        best_first: the photos that have neighbours, those to be kept before their copies.

    Returns:
        Of each group its photos with their similarity to the first, which is the best; the others by similarity.
    """
    groups, taken = [], set()
    for first in best_first:
        if first in taken:
            continue
        copies = [(other, similarity) for other, similarity in neighbours[first].items() if other not in taken]
        if copies:
            groups.append([(first, 1.0), *sorted(copies, key=lambda copy: (-copy[1], copy[0]))])
            taken |= {first, *(other for other, _ in copies)}
    return groups


def _add_pairs(found: Neighbours, rows: Tensor, similarity: Tensor, others: Tensor, threshold: float) -> None:
    enough = (similarity >= threshold) & (others != rows[:, None])
    for i, j in enough.nonzero().tolist():
        one, other, alike = int(rows[i]), int(others[i, j]), min(1.0, float(similarity[i, j]))
        found.setdefault(one, {})[other] = alike
        found.setdefault(other, {})[one] = alike
