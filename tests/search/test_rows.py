"""Rows of shards: those of the shards put together."""

import pytest
import torch

from dinotools.search.rows import rows_of


@pytest.mark.parametrize("size", [1, 7, 16, 100])
def test_rows_are_those_of_all_shards_together(size):
    vectors = torch.randn(40, 3).half()
    rows = torch.tensor([39, 0, 17, 17, 5, 16])
    assert torch.equal(rows_of(vectors.split(size), rows), vectors[rows].float())
    assert rows_of(vectors.split(size), rows[:0]).shape == (0, 3)
