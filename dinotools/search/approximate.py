"""A FAISS index over many vectors: built once, saved, and searched where it lies on the disk.

``flat`` keeps every vector in single precision and compares all of them; it finds what ``exact.nearest`` finds.
``ivfpq`` (Jégou et al. 2011, "Product quantization for nearest neighbor search") keeps a byte for a few dimensions, in
lists of neighbouring vectors of which a search reads a few. Its similarities are estimates. So it proposes several
times as many vectors as are wanted, and those alone are compared exactly, with what it was built of.

FAISS maps the file into memory: the vectors or codes that a search reads are pages of the file, which the system can
take back, and nothing is copied. What takes long is done by torch, on a GPU where there is one and on a CPU several
times quicker than FAISS multiplies there: to compare queries with the vectors of a flat index, and to learn lists and
assign vectors to them. FAISS learns the codewords, and searches lists on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, isqrt
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dinotools.runtime.console import track
from dinotools.runtime.errors import DinotoolsError, RunFailed
from dinotools.runtime.run_directory import write_atomically
from dinotools.search.exact import import_faiss, nearest
from dinotools.search.rows import places, rows_of

Kind = Literal["flat", "ivfpq"]

# FAISS's guidelines: 4 to 16 sqrt(N) lists, and 39 training vectors at least for each list and for each codeword
LISTS_PER_ROOT = 4
SAMPLED = 40
LEARNED = 256  # vectors at most for each codeword
ROUNDS = 10  # of k-means, as many as FAISS takes for lists
CODEWORD_BITS = 8  # a byte, and the only width for which FAISS has quick code on every machine
FEWEST = SAMPLED * 2**CODEWORD_BITS  # below so many vectors there is too little to learn codewords from

# On the vectors of benchmarks/million.py, which are harder than features, 0.96 of the 100 nearest are found. Half the
# dimensions per byte would add 0.002, twice the candidates 0.003; half the probed lists would take 0.006 away.
DIMENSIONS_PER_BYTE = 8
PROBED_SHARE = 32  # one list in so many is searched
CANDIDATES = 4  # for each row that is wanted

CHUNK = 16_384  # vectors read at a time: 25 MB in single precision for D = 384
QUERY_CHUNK = 256


@dataclass(frozen=True)
class Index:
    """An open index. Row i is the i-th vector of the shards it was built of."""

    path: Path
    kind: Kind
    faiss: Any  # the library's own object
    vectors: Tensor | None  # (N, D) float32 of a flat index: its file, mapped

    def __len__(self) -> int:
        return self.faiss.ntotal

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self.faiss.d

    def search(self, queries: Tensor, k: int, shards: Sequence[Tensor] = ()) -> tuple[Tensor, Tensor]:
        """The k rows with the largest inner product that the index finds for every query, best first.

        Beside the queries, the results and the pages of the file, memory holds what ``exact.nearest`` needs, or
        ``rescored`` for QUERY_CHUNK queries, whose candidates FAISS holds twice.

        Args:
            queries: (Q, D) floats on any device.
            k: how many.
            shards: what the index was built of, mapped or not. With them ``ivfpq`` looks for ``CANDIDATES`` times as
                many rows and keeps those that are exactly the nearest; without them its similarities are estimates.
                ``flat`` needs none.

        Returns:
            Similarities (Q, k) float32, descending, and int64 row numbers (Q, k), on the device of the queries.
            Where fewer are found, the rest is -inf and -1.

        Raises:
            DinotoolsError: the queries are of another width, or the shards are not those of the index.
        """
        self._check(queries, shards)
        chunks = queries.split(QUERY_CHUNK)
        results = [self._search(chunk, k, shards) for chunk in track(chunks, "searching the index", len(chunks))]
        similarity, rows = (torch.cat(parts) for parts in zip(*results, strict=True))
        return similarity.to(queries.device), rows.to(queries.device)

    def _search(self, queries: Tensor, k: int, shards: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        if self.vectors is not None:
            similarity, rows = nearest(queries, self.vectors, min(k, len(self)))
            missing = (0, k - rows.shape[1])
            return F.pad(similarity, missing, value=-torch.inf), F.pad(rows, missing, value=-1)
        queries = queries.cpu().float()
        found = self.faiss.search(queries.numpy(), CANDIDATES * k if shards else k)
        similarity, rows = map(torch.from_numpy, found)
        if shards:
            return rescored(queries, rows, shards, k)
        return similarity.masked_fill(rows < 0, -torch.inf), rows

    def _check(self, queries: Tensor, shards: Sequence[Tensor]) -> None:
        remedy = "Use the features it was built of, or build it again."
        if queries.shape[1] != self.dim:
            what = f"holds vectors of width {self.dim}, and the queries have {queries.shape[1]}"
            raise DinotoolsError(what, self.path, remedy)
        n = sum(map(len, shards))
        if shards and (n, shards[0].shape[1]) != (len(self), self.dim):
            what = f"holds {len(self)} vectors of width {self.dim}, and the features are {n} of {shards[0].shape[1]}"
            raise DinotoolsError(what, self.path, remedy)


def build(shards: Sequence[Tensor], kind: Kind, path: Path, *, device: torch.device, seed: int) -> None:
    """Writes an index of all rows of all shards, atomically.

    FAISS puts the index together in memory, which takes up to twice the size of the file. Beside it there is a chunk of
    the shards and, for ``ivfpq``, a sample of at most 160 sqrt(N) rows in single precision: 250 MB for N = 1,000,000
    and D = 384.

    Fewer than ``FEWEST`` rows become ``flat`` whatever is asked for, which is exact and at that size quick.

    Args:
        shards: (n_i, D) floats of any precision, L2-normalised; tensors over memory-mapped files are welcome.
        kind: of index.
        path: the file.
        device: where the lists are learned and vectors are assigned to them.
        seed: of the sample, the rotation and the clustering. On a CPU the same seed writes the same file.

    Raises:
        DinotoolsError: FAISS is not installed, or there is nothing to index.
        RunFailed: the file cannot be written.
    """
    faiss = _faiss()
    n = sum(map(len, shards))
    if not n:
        raise DinotoolsError("there are no vectors to index", path, "Check the features it is to be built of.")
    index = _ivfpq(faiss, shards, n, device, seed) if kind == "ivfpq" and n >= FEWEST else _flat(faiss, shards)
    try:
        write_atomically(path, lambda temporary: faiss.write_index(index, str(temporary)))
    except RuntimeError as error:  # FAISS has no other kind
        raise RunFailed(f"the index cannot be written ({error})", path, "Is the disk full?") from error


def open_index(path: Path) -> Index:
    """Maps an index into memory; only what a search touches is read.

    Raises:
        DinotoolsError: FAISS is not installed, or the file is missing, damaged or of a kind never written here.
    """
    faiss = _faiss()
    remedy = "Build the index again."
    if not path.is_file():
        raise DinotoolsError("there is no such index", path, remedy)
    try:
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)  # IO_FLAG_MMAP would copy a flat index
    except (RuntimeError, MemoryError) as error:
        raise DinotoolsError("is not a FAISS index, or a damaged one", path, remedy) from error
    if isinstance(index, faiss.IndexFlatIP):
        vectors = torch.from_numpy(faiss.rev_swig_ptr(index.get_xb(), index.ntotal * index.d))
        return Index(path, "flat", index, vectors.view(index.ntotal, index.d))
    if isinstance(index, faiss.IndexPreTransform) and isinstance(faiss.downcast_index(index.index), faiss.IndexIVFPQ):
        return Index(path, "ivfpq", index, None)
    raise DinotoolsError(f"is a FAISS index of another kind, {type(index).__name__}", path, remedy)


def rescored(queries: Tensor, rows: Tensor, shards: Sequence[Tensor], k: int) -> tuple[Tensor, Tensor]:
    """The k best of the candidate rows of every query by exact inner product; of equal ones the lower row first.

    Only these rows of the shards are read, in ascending order and once for every query that they are candidates of.
    Memory holds about 12 D CHUNK bytes and 50 for every candidate.

    Args:
        queries: (Q, D) float32 on the CPU.
        rows: of the shards, (Q, C) int64, C >= k; -1 fills up.
        shards: (n_i, D) floats of any precision.
        k: how many are kept.

    Returns:
        Similarities (Q, k) float32, descending, and rows (Q, k) int64; -inf and -1 fill up.
    """
    rows = rows.sort(dim=1).values
    every = rows.flatten()
    similarity = torch.full(every.shape, -torch.inf)
    present = every.argsort()[int((every < 0).sum()) :]
    for shard, first, here in places(shards, every[present]):
        for pairs in present[here].split(CHUNK):
            vectors = shard[every[pairs] - first].cpu().float()
            similarity[pairs] = torch.einsum("nd,nd->n", queries[pairs // rows.shape[1]], vectors)
    best = similarity.view_as(rows).sort(dim=1, descending=True, stable=True)
    return best.values[:, :k], rows.gather(1, best.indices[:, :k])


def recall(found: Tensor, exact: Tensor) -> float:
    """Share of the rows that exact search finds which an index finds as well, over all queries.

    Args:
        found: rows (Q, k) int64, -1 where there are fewer.
        exact: likewise, (Q, any number).
    """
    ordered = found.sort(dim=1).values
    place = torch.searchsorted(ordered, exact).clamp(max=found.shape[1] - 1)
    hit = (ordered.gather(1, place) == exact) & (exact >= 0)
    return (hit.sum() / (exact >= 0).sum()).item()


def _faiss() -> Any:
    return import_faiss("an index", "Search without one")


def _flat(faiss: Any, shards: Sequence[Tensor]) -> Any:
    index = faiss.IndexFlatIP(shards[0].shape[1])
    for chunk in _chunks(shards):
        index.add(chunk.numpy())
    return index


def _ivfpq(faiss: Any, shards: Sequence[Tensor], n: int, device: torch.device, seed: int) -> Any:
    """Learns lists and codewords from a sample of the n rows, then sorts all rows in."""
    generator = torch.Generator().manual_seed(seed)
    rotation_seed, codeword_seed = torch.randint(2**31, (2,), generator=generator).tolist()
    n_lists = min(LISTS_PER_ROOT * isqrt(n), n // SAMPLED)
    sample = rows_of(shards, torch.randperm(n, generator=generator)[: SAMPLED * n_lists].sort().values)
    order = torch.randperm(len(sample), generator=generator)
    centres = _centres(sample.to(device), order[:n_lists])

    dim = sample.shape[1]
    n_bytes = ceil(dim / DIMENSIONS_PER_BYTE)
    # a rotation spreads the variance evenly over the bytes, and fills any width up to a multiple of theirs
    rotation = faiss.RandomRotationMatrix(dim, n_bytes * DIMENSIONS_PER_BYTE)
    rotation.init(rotation_seed)
    quantizer = faiss.IndexFlatIP(rotation.d_out)
    quantizer.add(rotation.apply(centres.cpu().numpy()))
    lists = faiss.IndexIVFPQ(quantizer, rotation.d_out, n_lists, n_bytes, CODEWORD_BITS, faiss.METRIC_INNER_PRODUCT)
    lists.nprobe = ceil(n_lists / PROBED_SHARE)
    sample = sample[order[: LEARNED * 2**CODEWORD_BITS]]
    residuals = sample - centres.cpu()[_nearest_centre(sample.to(device), centres)]
    lists.pq.cp.seed, lists.pq.cp.niter = codeword_seed, ROUNDS
    lists.pq.train(rotation.apply(residuals.numpy()))
    lists.is_trained = True

    for chunk in _chunks(shards):
        list_of = _nearest_centre(chunk.to(device), centres).numpy()
        turned = rotation.apply(chunk.numpy())  # both by name: swig_ptr keeps nothing alive
        lists.add_core(len(chunk), faiss.swig_ptr(turned), None, faiss.swig_ptr(list_of))
    return faiss.IndexPreTransform(rotation, lists)


def _centres(vectors: Tensor, first: Tensor) -> Tensor:
    """Spherical k-means: (n, D) float32 of length 1 and the rows it starts from (C,) -> (C, D) on the same device."""
    centres = vectors[first]
    for _ in track(range(ROUNDS), "learning the lists", ROUNDS):
        sums = torch.zeros_like(centres).index_add_(0, _nearest_centre(vectors, centres).to(vectors.device), vectors)
        centres = torch.where(sums.any(dim=1, keepdim=True), F.normalize(sums, dim=1), centres)  # some may get nothing
    return centres


def _nearest_centre(vectors: Tensor, centres: Tensor) -> Tensor:
    return nearest(vectors, centres, 1)[1].flatten().cpu()


def _chunks(shards: Sequence[Tensor]) -> Iterator[Tensor]:
    """All rows in order, float32 on the CPU, behind a progress bar."""
    for shard in track(shards, "filling the index", len(shards)):
        for chunk in shard.split(CHUNK):
            yield chunk.cpu().float()
