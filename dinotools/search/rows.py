"""Rows of vectors that lie in several shards, numbered one shard after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


def rows_of(shards: Sequence[Tensor], rows: Tensor) -> Tensor:
    """Some rows, copied.

    Args:
        shards: (n_i, D) floats of any precision, perhaps mapped from files.
        rows: (n,) int64 on the CPU, in any order.

    Returns:
        (n, D) float32 on the CPU.
    """
    ascending, order = rows.sort()
    found = torch.empty(len(rows), shards[0].shape[1])
    for shard, first, here in places(shards, ascending):
        found[order[here]] = shard[ascending[here] - first].cpu().float()
    return found


def places(shards: Sequence[Tensor], rows: Tensor) -> Iterator[tuple[Tensor, int, slice]]:
    """Every shard that holds some of the ascending rows, the number of its first row, and which of the rows it holds.

    The shards are read in order and once: some are made only when they are asked for.
    """
    first = begin = 0
    for shard in shards:
        end = int(torch.searchsorted(rows, first + len(shard)))
        if begin < end:
            yield shard, first, slice(begin, end)
        first, begin = first + len(shard), end
