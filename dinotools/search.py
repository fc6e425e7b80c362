"""Nearest neighbours by dot product: exact, streamed, in bounded memory."""

from __future__ import annotations

import torch
from torch import Tensor

QUERY_CHUNK = 1024
DATABASE_CHUNK = 16384  # 64 MiB of float32 similarities at a time


def nearest(queries: Tensor, database: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k database rows with the largest dot product, for every query, best first.

    No more than QUERY_CHUNK x (DATABASE_CHUNK + 2 k) similarities exist at a time, however large the two sets are.

    Args:
        queries: (Q, D) floats.
        database: (N, D) floats on the same device, N >= k.
        k: how many.

    Returns:
        Similarities (Q, k), descending, and int64 row numbers (Q, k).
    """
    found = [_nearest_of_chunk(chunk, database, k) for chunk in queries.split(QUERY_CHUNK)]
    return torch.cat([similarity for similarity, _ in found]), torch.cat([index for _, index in found])


def _nearest_of_chunk(queries: Tensor, database: Tensor, k: int) -> tuple[Tensor, Tensor]:
    best = queries.new_empty(len(queries), 0)
    rows = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    for start in range(0, len(database), DATABASE_CHUNK):
        chunk = database[start : start + DATABASE_CHUNK]
        similarity, index = (queries @ chunk.T).topk(min(k, len(chunk)))
        best, order = torch.cat([best, similarity], dim=1).topk(min(k, best.shape[1] + similarity.shape[1]))
        rows = torch.cat([rows, index + start], dim=1).gather(1, order)
    return best, rows
