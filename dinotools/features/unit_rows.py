"""Vectors as a search compares them: whitened if asked for, and of length 1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dinotools.features.whitening import Whitening

ROWS = 16_384  # vectors that are in memory at once: 25 MB for D = 384


class UnitRows(Sequence[Tensor]):
    """Shards of vectors, whitened and divided by their lengths; each is made when it is asked for.

    So a million vectors may lie in files, in half precision: nobody holds them all.

    Args:
        shards: (n_i, D) floats of any precision.
        whitening: None for none.
    """

    def __init__(self, shards: Sequence[Tensor], whitening: Whitening | None = None) -> None:
        self._raw = [chunk for shard in shards for chunk in shard.split(ROWS)]
        self._whitening = whitening

    def __len__(self) -> int:
        """Number of shards."""
        return len(self._raw)

    def __getitem__(self, index: int) -> Tensor:  # type: ignore[override]
        """(n, D) float32, n at most 16,384."""
        rows = self._raw[index].float()
        return F.normalize(rows, dim=1) if self._whitening is None else self._whitening(rows)

    def __iter__(self) -> Iterator[Tensor]:
        """One shard after the other."""
        return (self[i] for i in range(len(self)))

    @property
    def n_rows(self) -> int:
        """Rows of all shards."""
        return sum(map(len, self._raw))

    def tensor(self, device: torch.device) -> Tensor:
        """All rows (N, D) float32, on a device."""
        return torch.cat(list(self)).to(device)
