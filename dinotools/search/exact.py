"""Nearest neighbours by dot product: exact, streamed, in memory that grows with neither set of vectors.

One tile of similarities exists at a time, one chunk of the database against one chunk of the queries. On the CPU the
products themselves are quick and ``torch.topk`` over every tile would cost more than they do. So the running k-th
best similarity of each query tells which entries of a tile matter, and the maximum of every block of rows tells where
they are: after the first chunks nearly nothing is left to sort.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dinotools.runtime.errors import DinotoolsError

Backend = Literal["torch", "faiss"]

QUERY_CHUNK = 512
DATABASE_CHUNK = 8192
FIRST_CHUNK = 1024  # then as many rows as before, up to DATABASE_CHUNK: no chunk brings many more than k candidates
FAISS_CHUNK = 131_072  # FAISS sorts anew for every chunk, so it gets few
BLOCK = 8  # rows that share a maximum


def nearest(
    queries: Tensor,
    database: Tensor | Sequence[Tensor],
    k: int,
    backend: Backend = "torch",
    *,
    cosine: bool = False,
) -> tuple[Tensor, Tensor]:
    """The k database rows with the largest dot product, for every query, best first.

    ::

        s = queries @ database.T
        each query's k largest s, and where they are; of equal ones, those of the lowest rows

    The database is read once, chunk by chunk, and widened where the queries lie. Beside the queries in float32 and
    20 bytes per result, memory holds a chunk of the database, twice where it is widened or normalised, and one tile
    with what is selected of it: about 8 D DATABASE_CHUNK + 12 QUERY_CHUNK DATABASE_CHUNK bytes, which are 75 MB for
    D = 384, whatever Q and N. An accelerator, which sorts whole tiles, needs 40 bytes instead of 12, and a database in
    ascending order of similarity, the worst case, 80. FAISS needs 8 D FAISS_CHUNK bytes.

    Args:
        queries: (Q, D) floats on the device that computes.
        database: (N, D) floats of any precision on any device, N >= k, or shards (n_i, D) whose rows are numbered
            one shard after the other. Tensors over memory-mapped files are welcome. N is below 2**32.
        k: how many.
        backend: ``torch``, or ``faiss`` for its flat index, on a GPU where the queries lie on one and FAISS has one.
            Of equal similarities at the end of the list FAISS keeps whichever it met.
        cosine: divide queries and rows by their lengths, a chunk at a time.

    Returns:
        Similarities (Q, k) float32, descending, and int64 row numbers (Q, k), on the device of the queries.

    Raises:
        DinotoolsError: FAISS is asked for and not installed.
    """
    shards = [database] if isinstance(database, Tensor) else database
    device = queries.device
    queries = _vectors(queries, device, cosine)
    index = _faiss_index(queries) if backend == "faiss" else None
    chunk_size = DATABASE_CHUNK if index is None else FAISS_CHUNK
    best = _keys(torch.full((len(queries), k), -torch.inf, device=device), 0)
    # every tile in the same memory: fetching new pages from the system would cost half as much as the products
    space = torch.empty(0 if index is not None else QUERY_CHUNK * chunk_size, device=device)

    for first_row, raw in _chunks(shards, chunk_size):
        chunk = _vectors(raw, device, cosine)
        if index is not None:
            index.reset()
            index.add(chunk.cpu().numpy())
        for query, found in zip(queries.split(QUERY_CHUNK), best.split(QUERY_CHUNK), strict=True):
            if index is not None:
                similarity, rows = map(torch.from_numpy, index.search(query.cpu().numpy(), min(k, len(chunk))))
                candidates = _keys(similarity, rows + first_row).to(device)
            else:
                tile = space[: len(chunk) * len(query)].view(len(chunk), len(query))
                candidates = _candidates(torch.mm(chunk, query.T, out=tile), first_row, found)
            found.copy_(torch.cat([found, candidates], dim=1).topk(k).values)
    return _values(best), _columns(best)


def stable_topk(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """``torch.topk`` with a promise: of equal values, the one in the lower column comes first.

    Args:
        values: (B, C) float32 without nan.
        k: how many, at most C.

    Returns:
        Values (B, k), descending, and their columns (B, k) int64.
    """
    best = _keys(values, torch.arange(values.shape[1], device=values.device)).topk(k).values
    return _values(best), _columns(best)


def _vectors(raw: Tensor, device: torch.device, cosine: bool) -> Tensor:
    vectors = raw.to(device).float()
    return F.normalize(vectors, dim=1) if cosine else vectors


def _chunks(shards: Sequence[Tensor], largest: int) -> Iterator[tuple[int, Tensor]]:
    """Pieces of the shards, each with the number of its first row; what is less than a block stands alone."""
    first_row = 0
    for shard in shards:
        done = 0
        while done < len(shard):
            size = min(largest, max(FIRST_CHUNK, first_row), len(shard) - done)
            size = size // BLOCK * BLOCK or size
            yield first_row, shard[done : done + size]
            done += size
            first_row += size


def _candidates(similarity: Tensor, first_row: int, found: Tensor) -> Tensor:
    """Keys of everything in a tile that can be among the k best.

    Args:
        similarity: (n, B), a chunk of the database against a chunk of the queries.
        first_row: the number of the chunk's first row.
        found: keys of the k best before this chunk (B, k), descending.

    Returns:
        (B, any number), padded with keys that are found already or lose to all.
    """
    rows = torch.arange(first_row, first_row + len(similarity), device=similarity.device)
    if similarity.device.type != "cpu" or len(similarity) % BLOCK:
        return _keys(similarity.T, rows)  # counting what matters would make the host wait for an accelerator
    blocks = similarity.unflatten(0, (-1, BLOCK))
    worst = _values(found[:, -1])
    promising = (blocks.amax(dim=1) > worst).T
    if 2 * int(promising.sum()) >= promising.numel():
        return _keys(similarity.T, rows)
    query, block = promising.nonzero().unbind(dim=1)
    values = blocks[block, :, query]
    hit, offset = (values > worst[query, None]).nonzero().unbind(dim=1)
    query = query[hit]
    # the hits are in order of queries: each goes to the first free column of its query
    count = query.bincount(minlength=len(found))
    column = torch.arange(len(query)) - (count.cumsum(0) - count)[query]
    keys = found[:, -1:].repeat(1, int(count.max()))
    keys[query, column] = _keys(values[hit, offset], rows[block[hit] * BLOCK + offset])
    return keys


def _keys(values: Tensor, columns: Tensor | int) -> Tensor:
    """One int64 for a float32 value and its column that sorts by value and, among equals, by falling column."""
    bits = (values + 0.0).view(torch.int32)  # -0.0 equals 0.0
    bits ^= (bits >> 31) & 0x7FFFFFFF  # the bits of negative floats grow with their size
    return bits.long().mul_(2**32).sub_(columns)


def _values(keys: Tensor) -> Tensor:
    bits = (-(-keys >> 32)).int()
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(torch.float32)


def _columns(keys: Tensor) -> Tensor:
    return -keys & 0xFFFFFFFF


def import_faiss(asked_for: str, instead: str) -> Any:
    """The FAISS library, which not every machine has.

    Args:
        asked_for: the option that needs it.
        instead: what to do without it, an order without a full stop.

    Raises:
        DinotoolsError: it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise DinotoolsError("FAISS is not installed", asked_for, f"{instead}, or pip install faiss-cpu.") from error
    return faiss


def _faiss_index(queries: Tensor) -> Any:
    faiss = import_faiss("--backend faiss", "Use --backend torch")
    if queries.is_cuda and getattr(faiss, "get_num_gpus", int)():
        return faiss.GpuIndexFlatIP(faiss.StandardGpuResources(), queries.shape[1])
    return faiss.IndexFlatIP(queries.shape[1])
