"""Backbone and head as one network over a list of crops of several sizes.

Source: DINO, section 3.1 (multi-crop training, after SwAV); official ``utils.MultiCropWrapper``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor, nn


def runs_of_one_width(crops: Sequence[Tensor]) -> list[list[Tensor]]:
    """Consecutive crops of one width together, in their order."""
    return [list(run) for _, run in groupby(crops, key=lambda crop: crop.shape[-1])]


class MultiCropWrapper(nn.Module):
    """Runs the backbone once per run of equally wide crops and the head once over everything.

    State-dict names are ``backbone.*`` and ``head.*``, as in the official training checkpoints.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def features(self, crops: Tensor | Sequence[Tensor]) -> Tensor:
        """What the backbone makes of all crops.

        Args:
            crops: one batch (B, C, H, W), or a list of them; consecutive crops of one width are run together.

        Returns:
            (n_crops * B, D), crop after crop in the order of the list.
        """
        if isinstance(crops, Tensor):
            crops = [crops]
        return torch.cat([self.backbone(torch.cat(run)) for run in runs_of_one_width(crops)])

    def forward(self, crops: Tensor | Sequence[Tensor]) -> Tensor:
        """Logits of all crops, ordered as their ``features``: (n_crops * B, out_dim)."""
        return self.head(self.features(crops))
