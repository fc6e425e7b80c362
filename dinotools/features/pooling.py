"""From a network's tokens to one feature per image.

``cls``: the network's own feature, the [CLS] token of the last block (of a convolutional network, its average pool).
``cls4``: the [CLS] tokens of the last four blocks (DINO, appendix F: linear evaluation of ViT-S). ``avg``: the mean
patch token of the last block. ``gem``: their generalised mean of power 4 (copy detection; ``gem3`` has power 3, usual
for convolutional networks). ``rmac``: the sum of their maxima over square regions, each divided by its length.
Joined with ``+``: ``cls+avg`` (linear evaluation of ViT-B), ``cls+gem``, ``cls4+avg``.

The patch tokens of a convolutional network are the cells of its last feature map; its [CLS] token is their mean.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinotools.models.convnets import has_feature_map, last_feature_map
from dinotools.models.vit import VisionTransformer
from dinotools.runtime.errors import DinotoolsError

GEM_POWER = 4.0  # official eval_copy_detection.py
GEM_FLOOR = 1e-6  # a root of something negative is none
RMAC_LEVELS = 3  # sizes of regions
REMEDY = "Use cls, cls4, avg, gem, rmac, or several joined by +, such as cls+avg."


@dataclass(frozen=True)
class Pooling:
    """Which parts a feature consists of, in this order.

    Args:
        n_last_blocks: [CLS] tokens of so many last blocks, earliest first; 0 for none.
        avg: the mean patch token.
        gem: power of the generalised mean of the patch tokens; None for none.
        rmac: their regional maxima.
    """

    n_last_blocks: int = 1
    avg: bool = False
    gem: float | None = None
    rmac: bool = False

    @classmethod
    def parse(cls, text: str) -> Pooling:
        """Reads a word such as ``cls4+avg``.

        Raises:
            DinotoolsError: it is none.
        """
        n_last_blocks, gem = 0, None
        seen = set()
        for part in text.lower().split("+"):
            match = re.fullmatch(r"(cls)([1-9]\d*)?|(avg)|(gem)(\d+(?:\.\d+)?)?|(rmac)", part)
            kind = match and (match[1] or match[3] or match[4] or match[6])
            if match is None or kind in seen or (match[5] and float(match[5]) == 0):
                raise DinotoolsError(f"{text!r} is no pooling", "--pooling", REMEDY)
            seen.add(kind)
            if kind == "cls":
                n_last_blocks = int(match[2] or 1)
            elif kind == "gem":
                gem = float(match[5] or GEM_POWER)
        return cls(n_last_blocks, "avg" in seen, gem, "rmac" in seen)

    def __str__(self) -> str:
        parts = [f"cls{self.n_last_blocks}" if self.n_last_blocks > 1 else "cls"] if self.n_last_blocks else []
        parts += ["avg"] if self.avg else []
        parts += [] if self.gem is None else ["gem" if self.gem == GEM_POWER else f"gem{self.gem:g}"]
        parts += ["rmac"] if self.rmac else []
        return "+".join(parts)

    @property
    def parts(self) -> list[str]:
        """One name per part of embed_dim values: ``cls-4`` ... ``cls-1``, ``avg``, ``gem4``, ``rmac``."""
        parts = [f"cls-{i}" for i in range(self.n_last_blocks, 0, -1)]
        parts += ["avg"] if self.avg else []
        parts += [] if self.gem is None else [f"gem{self.gem:g}"]
        return parts + (["rmac"] if self.rmac else [])

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
            ``get_intermediate_layers`` and ``patch_size`` as the ViT has them, or a last feature map, of which its
            own feature is the average. A network without tokens has ``cls`` and ``avg`` in one.
        pooling: what is asked.

    Raises:
        DinotoolsError: the backbone has no tokens and no feature map, or not so many blocks.
    """

    def __init__(self, backbone: nn.Module, pooling: Pooling) -> None:
        super().__init__()
        self.backbone, self.pooling = backbone, pooling
        self.train(backbone.training)  # a new module would be in training mode, whatever it holds
        self.has_tokens = hasattr(backbone, "get_intermediate_layers")
        self.own = pooling == Pooling() or (not self.has_tokens and pooling == Pooling(0, avg=True))
        if not self.own and not self.has_tokens:
            _check_convnet(backbone, pooling)
        depth = len(getattr(backbone, "blocks", ())) or pooling.n_last_blocks
        if pooling.n_last_blocks > depth:
            raise DinotoolsError(f"{pooling} of a network of {depth} blocks", "--pooling", f"Use at most cls{depth}.")

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, parts * D)."""
        if self.own:
            return self.backbone(images)
        n = self.pooling.n_last_blocks
        layers, grid = self._tokens(images, max(n, 1))
        patches = layers[-1][:, 1:]
        parts = [tokens[:, 0] for tokens in layers] if n else []
        if self.pooling.avg:
            parts.append(patches.mean(dim=1))
        if self.pooling.gem is not None:
            parts.append(gem(patches, self.pooling.gem))
        if self.pooling.rmac:
            parts.append(rmac(patches, grid))
        return torch.cat(parts, dim=1)

    def _tokens(self, images: Tensor, n: int) -> tuple[Sequence[Tensor], tuple[int, int]]:
        """Tokens of the last n blocks, each (B, 1 + h w, D), and the grid (h, w) of the patches."""
        if self.has_tokens:
            vit = cast(VisionTransformer, self.backbone)
            height, width = (side // vit.patch_size for side in images.shape[-2:])
            return vit.get_intermediate_layers(images, n), (height, width)
        feature_map = last_feature_map(self.backbone, images)
        height, width = feature_map.shape[2:]
        cells = feature_map.flatten(2).transpose(1, 2)
        return [torch.cat([cells.mean(dim=1, keepdim=True), cells], dim=1)], (height, width)


def available_pooling(backbone: nn.Module) -> Pooling:
    """The most that stored features consist of: every block's [CLS] and the mean patch token, not GeM or R-MAC."""
    if not hasattr(backbone, "get_intermediate_layers"):
        return Pooling()
    return Pooling(len(cast(VisionTransformer, backbone).blocks), avg=True)


def gem(patches: Tensor, power: float) -> Tensor:
    """Generalised mean over tokens, values floored at 1e-6 (Radenovic et al. 2018): (B, N, D) -> (B, D)."""
    return patches.clamp(min=GEM_FLOOR).pow(power).mean(dim=1).pow(1 / power)


def rmac(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """Regional maxima, each divided by its length, summed (R-MAC, Tolias et al. 2016): (B, h w, D) -> (B, D).

    Args:
        patches: tokens, row by row.
        grid: (h, w).
    """
    cells = patches.unflatten(1, grid)
    maxima = [cells[:, y : y + side, x : x + side].amax(dim=(1, 2)) for y, x, side in rmac_regions(*grid)]
    return F.normalize(torch.stack(maxima), dim=-1).sum(dim=0)


def rmac_regions(height: int, width: int) -> list[tuple[int, int, int]]:
    """The square regions of R-MAC in a grid of at least 1 x 1 cells, as (top, left, side).

    Those of level l = 1, 2, 3 have the side 2 min(height, width) / (l + 1). There are l of them along the shorter
    side and l + m - 1 along the longer one, evenly spread from end to end and rounded down to whole cells; m is such
    that neighbours of level 1 overlap by as near 40 % as can be. Where that puts two of a level into one place,
    they are one.
    """
    short, excess = min(height, width), abs(height - width)
    # neighbours of level 1 lie excess / (m - 1) apart, ideally 3/5 of their side
    fewest = max(1, 5 * excess // (3 * short))
    more = min((fewest, fewest + 1), key=lambda steps: abs(5 * excess / steps - 3 * short)) if excess else 0  # m - 1
    regions = []
    for level in range(1, RMAC_LEVELS + 1):
        side = max(1, 2 * short // (level + 1))
        tops, lefts = (_spread(length - side, level + (more if length > short else 0)) for length in (height, width))
        regions += [(top, left, side) for top in tops for left in lefts]
    return regions


def _spread(last: int, count: int) -> list[int]:
    """So many whole numbers from 0 to last, or fewer where they coincide."""
    return sorted({i * last // max(count - 1, 1) for i in range(count)})


def _check_convnet(backbone: nn.Module, pooling: Pooling) -> None:
    if pooling.n_last_blocks + pooling.avg > 1:
        raise DinotoolsError(
            f"{pooling} needs the tokens of a ViT",
            "--pooling",
            "Of another network cls is the average: use cls, gem, rmac, or several joined by +.",
        )
    if not has_feature_map(backbone):
        name = getattr(backbone, "name", type(backbone).__name__)
        raise DinotoolsError(f"{pooling} needs a feature map, and {name} shows none", "--pooling", "Use cls.")
