"""From a network's tokens to one feature per image.

``cls``: the network's own feature, the [CLS] token of the last block (of a convolutional network, its average pool).
``cls4``: the [CLS] tokens of the last four blocks (DINO, appendix F: linear evaluation of ViT-S). ``avg``: the mean
patch token of the last block. ``gem``: their generalised mean of power 4 (copy detection; ``gem3`` has power 3).
Joined with ``+``: ``cls+avg`` (linear evaluation of ViT-B), ``cls+gem``, ``cls4+avg``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from dinotools.models.vit import VisionTransformer
from dinotools.runtime.errors import DinotoolsError

GEM_POWER = 4.0  # official eval_copy_detection.py
GEM_FLOOR = 1e-6  # a root of something negative is none
REMEDY = "Use cls, cls4, avg, gem, or several joined by +, such as cls+avg."


@dataclass(frozen=True)
class Pooling:
    """Which parts a feature consists of, in this order.

    Args:
        n_last_blocks: [CLS] tokens of so many last blocks, earliest first; 0 for none.
        avg: the mean patch token.
        gem: power of the generalised mean of the patch tokens; None for none.
    """

    n_last_blocks: int = 1
    avg: bool = False
    gem: float | None = None

    @classmethod
    def parse(cls, text: str) -> Pooling:
        """Reads a word such as ``cls4+avg``.

        Raises:
            DinotoolsError: it is none.
        """
        n_last_blocks, avg, gem = 0, False, None
        seen = set()
        for part in text.lower().split("+"):
            match = re.fullmatch(r"(cls)([1-9]\d*)?|(avg)|(gem)(\d+(?:\.\d+)?)?", part)
            kind = match and (match[1] or match[3] or match[4])
            if match is None or kind in seen or (match[5] and float(match[5]) == 0):
                raise DinotoolsError(f"{text!r} is no pooling", "--pooling", REMEDY)
            seen.add(kind)
            if kind == "cls":
                n_last_blocks = int(match[2] or 1)
            elif kind == "avg":
                avg = True
            else:
                gem = float(match[5] or GEM_POWER)
        return cls(n_last_blocks, avg, gem)

    def __str__(self) -> str:
        parts = [f"cls{self.n_last_blocks}" if self.n_last_blocks > 1 else "cls"] if self.n_last_blocks else []
        parts += ["avg"] if self.avg else []
        parts += [] if self.gem is None else ["gem" if self.gem == GEM_POWER else f"gem{self.gem:g}"]
        return "+".join(parts)

    @property
    def parts(self) -> list[str]:
        """One name per part of embed_dim values: ``cls-4`` ... ``cls-1``, ``avg``, ``gem4``."""
        parts = [f"cls-{i}" for i in range(self.n_last_blocks, 0, -1)]
        parts += ["avg"] if self.avg else []
        return parts + ([] if self.gem is None else [f"gem{self.gem:g}"])

    def columns(self, wanted: Pooling, width: int) -> Tensor | None:
        """Where the values of another pooling lie among those of this one.

        Args:
            wanted: the other pooling.
            width: of a feature pooled by this one.

        Returns:
            Columns (int64), or None if some are not there.
        """
        if not set(wanted.parts) <= set(self.parts):
            return None
        dim = width // len(self.parts)
        starts = [self.parts.index(part) * dim for part in wanted.parts]
        return torch.cat([torch.arange(start, start + dim) for start in starts])


class PooledBackbone(nn.Module):
    """A backbone whose output is pooled as asked.

    Args:
        backbone: maps (B, 3, H, W) to its own feature (B, D). For any pooling but ``cls`` it also needs
            ``get_intermediate_layers`` as the ViT has it; a convolutional network's own feature also counts as
            ``avg``, which it is.
        pooling: what is asked.

    Raises:
        DinotoolsError: the backbone has no tokens, or not so many blocks.
    """

    def __init__(self, backbone: nn.Module, pooling: Pooling) -> None:
        super().__init__()
        self.backbone, self.pooling = backbone, pooling
        self.train(backbone.training)  # a new module would be in training mode, whatever it holds
        has_tokens = hasattr(backbone, "get_intermediate_layers")
        self.own = pooling == Pooling() or (not has_tokens and pooling == Pooling(0, avg=True))
        if not self.own and not has_tokens:
            raise DinotoolsError(
                f"{pooling} needs the tokens of a ViT", "--pooling", "Use cls: of a convolutional network, its average."
            )
        depth = len(getattr(backbone, "blocks", ())) or pooling.n_last_blocks
        if pooling.n_last_blocks > depth:
            raise DinotoolsError(f"{pooling} of a network of {depth} blocks", "--pooling", f"Use at most cls{depth}.")

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, parts * D)."""
        if self.own:
            return self.backbone(images)
        n = self.pooling.n_last_blocks
        layers = cast(VisionTransformer, self.backbone).get_intermediate_layers(images, max(n, 1))
        patches = layers[-1][:, 1:]
        parts = [tokens[:, 0] for tokens in layers] if n else []
        if self.pooling.avg:
            parts.append(patches.mean(dim=1))
        if self.pooling.gem is not None:
            parts.append(gem(patches, self.pooling.gem))
        return torch.cat(parts, dim=1)


def available_pooling(backbone: nn.Module) -> Pooling:
    """The most that features of a backbone can consist of, GeM aside: every block's [CLS] and the mean patch token."""
    if not hasattr(backbone, "get_intermediate_layers"):
        return Pooling()
    return Pooling(len(cast(VisionTransformer, backbone).blocks), avg=True)


def gem(patches: Tensor, power: float) -> Tensor:
    """Generalised mean over tokens, values floored at 1e-6 (Radenovic et al. 2018): (B, N, D) -> (B, D)."""
    return patches.clamp(min=GEM_FLOOR).pow(power).mean(dim=1).pow(1 / power)
