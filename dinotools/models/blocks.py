"""The parts of a transformer block, with the parameter names of the official DINO checkpoints.

Source: Dosovitskiy et al. 2021 (arXiv 2010.11929); official file ``vision_transformer.py``. Attention runs through
``scaled_dot_product_attention``; the explicit matrix exists only where an attention map is asked for.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LAYER_NORM_EPS = 1e-6  # official value; PyTorch's own default is 1e-5


class DropPath(nn.Module):
    """Stochastic depth: drops a residual branch per sample and divides the kept ones by the keep probability.

    Source: Huang et al. 2016 (arXiv 1603.09382).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, ...) to the same shape; the identity in eval mode or at rate 0."""
        if self.rate == 0.0 or not self.training:
            return x
        keep = 1.0 - self.rate
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * mask.div_(keep)


class LayerScale(nn.Module):
    """A learned factor for each channel of a residual branch. Source: Touvron et al. 2021 (arXiv 2103.17239)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., dim) to the same shape."""
        return x * self.gamma


class Mlp(nn.Module):
    """Two linear layers with an exact (erf) GELU between them."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, N, dim) to (B, N, dim)."""
        return self.fc2(self.act(self.fc1(x)))


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool = True) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, dim * 3, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def _split_heads(self, x: Tensor) -> Tensor:
        """(B, N, heads * d) -> (B, heads, N, d)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def _project(self, x: Tensor, which: int) -> Tensor:
        """Queries (0), keys (1) or values (2) alone: (B, N, dim) -> (B, heads, N, d)."""
        dim = x.shape[-1]
        bias = None if self.qkv.bias is None else self.qkv.bias.split(dim)[which]
        return self._split_heads(F.linear(x, self.qkv.weight.split(dim)[which], bias))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, N, dim) to (B, N, dim)."""
        q, k, v = (self._split_heads(t) for t in self.qkv(x).chunk(3, dim=-1))
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).flatten(2))

    def cls(self, x: Tensor) -> Tensor:
        """What ``forward`` gives for [CLS] alone: (B, N, dim) -> (B, 1, dim)."""
        q, k, v = self._project(x[:, :1], 0), self._project(x, 1), self._project(x, 2)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def weights(self, x: Tensor) -> Tensor:
        """The full attention matrix: (B, N, dim) -> (B, heads, N, N), rows summing to 1."""
        q, k, _ = (self._split_heads(t) for t in self.qkv(x).chunk(3, dim=-1))
        return ((q @ k.transpose(-2, -1)) * self.scale).softmax(dim=-1)

    def cls_weights(self, x: Tensor) -> Tensor:
        """The [CLS] query's row alone: (B, N, dim) -> (B, heads, N), in O(N) memory."""
        q, k = self._project(x[:, :1], 0), self._project(x, 1)
        return ((q @ k.transpose(-2, -1)) * self.scale).softmax(dim=-1).squeeze(2)


class Block(nn.Module):
    """Pre-norm transformer block; both residual branches share one stochastic-depth rate."""

    def __init__(
        self, dim: int, num_heads: int, mlp_ratio: float, qkv_bias: bool, drop_path: float, layer_scale: bool
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.attn = Attention(dim, num_heads, qkv_bias)
        self.ls1 = LayerScale(dim) if layer_scale else nn.Identity()
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.ls2 = LayerScale(dim) if layer_scale else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, N, dim) to (B, N, dim)."""
        return self._mix(x, self.attn(self.norm1(x)))

    def cls(self, x: Tensor) -> Tensor:
        """What ``forward`` gives for [CLS] alone, which is all that the last block is asked for: -> (B, 1, dim)."""
        return self._mix(x[:, :1], self.attn.cls(self.norm1(x)))

    def _mix(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.drop_path(self.ls1(attended))
        return x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))
