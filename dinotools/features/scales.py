"""One feature of an image seen at several sizes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCALES = (1.0, 2**-0.5, 0.5)  # of retrieval's multi-scale features (official utils.multi_scale)


class MultiScale(nn.Module):
    """The mean of a network's features over several scales of an image, L2-normalised.

    The official ``utils.multi_scale`` divides by the length of the whole batch's features, so it is right for one image
    at a time; here every image has its own length.

    Args:
        network: maps (B, 3, H, W), of any size, to (B, D).
        scales: of height and width.
    """

    def __init__(self, network: nn.Module, scales: Sequence[float] = SCALES) -> None:
        super().__init__()
        self.network, self.scales = network, tuple(scales)
        self.train(network.training)  # a new module would be in training mode, whatever it holds

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D), each row of length 1."""
        features = [self.network(images if scale == 1 else _scaled(images, scale)) for scale in self.scales]
        return F.normalize(torch.stack(features).mean(dim=0), dim=1)


def _scaled(images: Tensor, scale: float) -> Tensor:
    # the sides are rounded down, and positions follow the scale that was asked for, as officially
    return F.interpolate(images, scale_factor=scale, mode="bilinear", align_corners=False)
