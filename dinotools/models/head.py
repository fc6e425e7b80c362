"""The projection head: an MLP, an L2-normalised bottleneck and a weight-normalised layer of prototypes.

Source: DINO, section 3.1 "Network architecture" and appendix C "Projection head", with the alternatives tried there;
official ``vision_transformer.py``. The predictor is row 6 of Table 7, after BYOL (arXiv 2006.07733).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinotools.models.vit import init_linear

Activation = Literal["gelu", "relu"]
ACTIVATIONS: dict[Activation, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU}


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
        nlayers: linear layers before the prototypes; 1 is a single linear layer without norm or activation.
        hidden_dim: width of the hidden layers.
        bottleneck_dim: width of the L2-normalised bottleneck; 0 for neither bottleneck nor prototypes: the last of
            the ``nlayers`` has K outputs itself.
        activation: between the layers.
        predictor: a further MLP of one hidden layer, as the student of BYOL has it. The paper does not tell its
            place; ours is before the bottleneck's normalisation or, without bottleneck, at the end (K to K).
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
        activation: Activation = "gelu",
        predictor: bool = False,
    ) -> None:
        super().__init__()
        width = bottleneck_dim or out_dim
        hidden = [hidden_dim] * (nlayers - 1)
        self.mlp: nn.Module = _mlp([in_dim, *hidden, width], use_bn, activation) if hidden else nn.Linear(in_dim, width)
        self.predictor = _mlp([width, hidden_dim, width], use_bn, activation) if predictor else nn.Identity()
        self.apply(init_linear)
        self.last_layer = WeightNormLinear(bottleneck_dim, out_dim, norm_last_layer) if bottleneck_dim else None

    def forward(self, x: Tensor) -> Tensor:
        """Maps features (B, in_dim) to logits (B, out_dim)."""
        x = self.predictor(self.mlp(x))
        return x if self.last_layer is None else self.last_layer(F.normalize(x, dim=-1, eps=1e-12))


def _mlp(widths: Sequence[int], use_bn: bool, activation: Activation) -> nn.Sequential:
    """Linear layers from width to width; behind each but the last an activation, after a batch norm if wanted."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths[:-1]):
        layers.append(nn.Linear(width_in, width_out))
        if use_bn:
            layers.append(nn.BatchNorm1d(width_out))
        layers.append(ACTIVATIONS[activation]())
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))
