"""Vision Transformer, with the parameter names of the official DINO checkpoints.

Source: Dosovitskiy et al. 2021 (arXiv 2010.11929), as used by DINO (arXiv 2104.14294, section 3.2 and Table 1;
official file ``vision_transformer.py``). LayerScale and registers are those of DINOv2 (arXiv 2304.07193 and
2309.16588; its own ``vision_transformer.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dinotools.models.blocks import LAYER_NORM_EPS, Attention, Block


@dataclass(frozen=True)
class ViTSize:
    """Width, depth and number of heads of a named architecture."""

    embed_dim: int
    depth: int
    num_heads: int


SIZES: dict[str, ViTSize] = {
    "vit_micro": ViTSize(128, 4, 4),  # ours: small images on a laptop
    "vit_tiny": ViTSize(192, 12, 3),
    "vit_small": ViTSize(384, 12, 6),
    "vit_base": ViTSize(768, 12, 12),
    "vit_large": ViTSize(1024, 24, 16),
}


class PatchEmbed(nn.Module):
    """Cuts an image into patches and projects each; rows and columns beyond the last whole patch are dropped."""

    def __init__(self, patch_size: int, in_chans: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, in_chans, H, W) to (B, (H // p) * (W // p), embed_dim), rows of the grid first."""
        return self.proj(x).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """ViT whose feature is the [CLS] token after the final LayerNorm.

    Registers stand between [CLS] and the patches, have no positions, and are in nothing that the methods return.

    Args:
        img_size: side in pixels of the square image that ``pos_embed`` is laid out for; other sizes interpolate it.
        patch_size: side of a patch in pixels.
        in_chans: channels of the image.
        embed_dim: width of a token.
        depth: number of blocks.
        num_heads: attention heads per block.
        mlp_ratio: hidden width of a block's MLP over ``embed_dim``.
        qkv_bias: whether the query, key and value projections have a bias.
        drop_path_rate: stochastic-depth rate of the last block; earlier blocks grow linearly from 0.
        registers: number of register tokens.
        layer_scale: whether each residual branch ends in a LayerScale, initially 1.
        checkpoint_activations: in training, keep only what enters each block, and compute the rest again in the
            backward pass (Chen et al. 2016, arXiv 1604.06174).
    """

    def __init__(
        self,
        img_size: int = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        registers: int = 0,
        layer_scale: bool = False,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.patch_size = patch_size
        self.img_size = img_size // patch_size * patch_size
        self.num_heads = num_heads
        self.registers = registers
        self.checkpoint_activations = checkpoint_activations
        self.patch_embed = PatchEmbed(patch_size, in_chans, embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (img_size // patch_size) ** 2, embed_dim))
        self.register_tokens = nn.Parameter(torch.zeros(1, registers, embed_dim)) if registers else None
        rates = [drop_path_rate * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads, mlp_ratio, qkv_bias, r, layer_scale) for r in rates)
        self.norm = nn.LayerNorm(embed_dim, eps=LAYER_NORM_EPS)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        self.apply(init_linear)

    def interpolate_pos_encoding(self, height: int, width: int) -> Tensor:
        """Positional encodings for an image of height x width pixels: (1, 1 + patches, embed_dim).

        Bicubic, with the official quirk: ``scale_factor`` is (patches + 0.1) / side, and that factor, not the ratio
        of the sizes, enters the coordinate map; networks with registers go by the sizes, antialiased. The encodings
        are returned untouched only if the number of patches is that of ``pos_embed`` and the image is square.
        """
        rows, cols = height // self.patch_size, width // self.patch_size
        stored = self.pos_embed.shape[1] - 1
        if rows * cols == stored and height == width:
            return self.pos_embed
        side = int(stored**0.5)
        grid = self.pos_embed[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        size = (rows, cols) if self.registers else None
        quirk = None if self.registers else ((rows + 0.1) / side, (cols + 0.1) / side)
        grid = F.interpolate(grid, size, quirk, mode="bicubic", antialias=self.registers > 0)
        return torch.cat([self.pos_embed[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)

    def prepare_tokens(self, x: Tensor) -> Tensor:
        """What the first block reads: (B, C, H, W) -> (B, 1 + registers + patches, embed_dim)."""
        height, width = x.shape[-2:]
        if min(height, width) < self.patch_size:
            raise ValueError(f"an image of {height}x{width} pixels is smaller than one patch of {self.patch_size}")
        patches = self.patch_embed(x)
        tokens = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), patches], dim=1)
        tokens = tokens + self.interpolate_pos_encoding(height, width)
        if self.register_tokens is None:
            return tokens
        return torch.cat([tokens[:, :1], self.register_tokens.expand(x.shape[0], -1, -1), tokens[:, 1:]], dim=1)

    def _without_registers(self, x: Tensor, dim: int) -> Tensor:
        """Leaves 1 + patches of the 1 + registers + patches entries along a dimension."""
        if not self.registers:
            return x
        cls, _, patches = x.tensor_split((1, 1 + self.registers), dim)
        return torch.cat([cls, patches], dim)

    def forward(self, x: Tensor) -> Tensor:
        """The [CLS] feature: (B, C, H, W) -> (B, embed_dim)."""
        x = self.prepare_tokens(x)
        again = self.checkpoint_activations and self.training and torch.is_grad_enabled()
        blocks: list[Callable[[Tensor], Tensor]] = [*self.blocks[:-1], cast(Block, self.blocks[-1]).cls]
        for block in blocks:
            x = checkpoint(block, x, use_reentrant=False) if again else block(x)
        return self.norm(x[:, 0])

    def get_intermediate_layers(self, x: Tensor, n: int = 1) -> list[Tensor]:
        """Tokens of the last n blocks, earliest first, each after the final LayerNorm: n x (B, 1 + patches, D)."""
        x = self.prepare_tokens(x)
        outputs = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if len(self.blocks) - i <= n:
                outputs.append(self.norm(self._without_registers(x, dim=1)))
        return outputs

    def _last_attention(self, x: Tensor) -> tuple[Attention, Tensor]:
        """The attention of the last block, and its input for images x: (B, 1 + registers + patches, D)."""
        x = self.prepare_tokens(x)
        for block in self.blocks[:-1]:
            x = block(x)
        last = cast(Block, self.blocks[-1])
        return last.attn, last.norm1(x)

    def get_last_selfattention(self, x: Tensor) -> Tensor:
        """The last block's attention matrix: (B, C, H, W) -> (B, heads, N, N), N = 1 + patches.

        The softmax runs over the registers too: with them, a row sums to 1 less what they drew.
        """
        attention, tokens = self._last_attention(x)
        return self._without_registers(self._without_registers(attention.weights(tokens), dim=-1), dim=-2)

    def get_cls_attention(self, x: Tensor) -> Tensor:
        """The [CLS] row of ``get_last_selfattention``, without the matrix: (B, C, H, W) -> (B, heads, N)."""
        attention, tokens = self._last_attention(x)
        return self._without_registers(attention.cls_weights(tokens), dim=-1)


def init_linear(module: nn.Module) -> None:
    """Official initialisation of linear layers: truncated normal of deviation 0.02, zero bias."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def build_vit(
    arch: str,
    patch_size: int = 16,
    img_size: int = 224,
    drop_path_rate: float = 0.0,
    registers: int = 0,
    layer_scale: bool = False,
    *,
    num_heads: int | None = None,
    in_chans: int = 3,
    checkpoint_activations: bool = False,
) -> VisionTransformer:
    """A ViT of a named size (a key of ``SIZES``), randomly initialised; ``num_heads`` in place of the size's own."""
    size = asdict(SIZES[arch])
    if num_heads is not None:
        size["num_heads"] = num_heads
    return VisionTransformer(
        img_size,
        patch_size,
        in_chans,
        drop_path_rate=drop_path_rate,
        registers=registers,
        layer_scale=layer_scale,
        checkpoint_activations=checkpoint_activations,
        **size,
    )
