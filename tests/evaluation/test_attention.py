"""Attention maps are the [CLS] row of the matrix, laid out as the patches lie."""

import torch

from dinotools.evaluation.attention import attention_maps
from tests.golden import official


def test_maps_equal_the_row_of_the_full_matrix_on_a_grid_that_is_not_square():
    model = official.fill(official.small_vit()).eval()
    images = official.normal(1, (2, 3, 40, 67))  # 5 rows, 8 columns and 3 pixels to spare
    maps = attention_maps(model, images)
    assert maps.shape == (2, 2, 5, 8)
    with torch.no_grad():
        row = model.get_last_selfattention(images)[:, :, 0]
    torch.testing.assert_close(maps.flatten(2), row[:, :, 1:], atol=5e-6, rtol=0)
    torch.testing.assert_close(maps.sum((2, 3)) + row[:, :, 0], torch.ones(2, 2))
