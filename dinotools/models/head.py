"""The projection head: an MLP, an L2-normalised bottleneck and a weight-normalised layer of prototypes.

Source: DINO, section 3.1 "Network architecture" and appendix C "Projection head"; official ``vision_transformer.py``.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinotools.models.vit import init_linear


class WeightNormLinear(nn.Module):
    """Bias-free linear layer with weight g * v / ||v|| per output row, under the names ``weight_g``, ``weight_v``.

    Source: Salimans & Kingma 2016 (arXiv 1602.07868). g starts at 1, and stays there if ``fixed_norm``.
    """

    def __init__(self, in_dim: int, out_dim: int, fixed_norm: bool) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(out_dim, 1), requires_grad=not fixed_norm)
        self.weight_v = nn.Parameter(torch.empty(out_dim, in_dim))
        nn.init.kaiming_uniform_(self.weight_v, a=5**0.5)  # nn.Linear's own default, as in the official head

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, in_dim) to (B, out_dim)."""
        return F.linear(x, torch._weight_norm(self.weight_v, self.weight_g, 0))


class DINOHead(nn.Module):
    """Projection head of student and teacher.

    Args:
        in_dim: width of the backbone's feature.
        out_dim: number of prototypes K.
        use_bn: batch norm after each hidden linear layer (the ViT of the paper has none).
        norm_last_layer: keep the norm of every prototype fixed at 1; steadier, a little weaker with ViT-S.
        nlayers: linear layers before the prototypes; 1 is a single linear layer without norm or GELU.
        hidden_dim: width of the hidden layers.
        bottleneck_dim: width of the L2-normalised bottleneck.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        use_bn: bool = False,
        norm_last_layer: bool = True,
        nlayers: int = 3,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
    ) -> None:
        super().__init__()
        if nlayers <= 1:
            self.mlp: nn.Module = nn.Linear(in_dim, bottleneck_dim)
        else:
            widths = [in_dim] + [hidden_dim] * (nlayers - 1)
            layers: list[nn.Module] = []
            for width_in, width_out in pairwise(widths):
                layers.append(nn.Linear(width_in, width_out))
                if use_bn:
                    layers.append(nn.BatchNorm1d(width_out))
                layers.append(nn.GELU())
            self.mlp = nn.Sequential(*layers, nn.Linear(hidden_dim, bottleneck_dim))
        self.apply(init_linear)
        self.last_layer = WeightNormLinear(bottleneck_dim, out_dim, fixed_norm=norm_last_layer)

    def forward(self, x: Tensor) -> Tensor:
        """Maps features (B, in_dim) to logits (B, out_dim)."""
        return self.last_layer(F.normalize(self.mlp(x), dim=-1, eps=1e-12))
