"""What a linear classifier reads: which tokens of which blocks, and in which order.

Source: DINO, section 4.1 and appendix F; official ``eval_linear.py``. Up to ViT-S: [CLS] of the last four blocks;
from ViT-B on: [CLS] and the mean patch token of the last one; of a convolutional network, its average pool.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from dinotools.configs.linear import LinearConfig
from dinotools.features.extraction import View
from dinotools.features.network import open_network
from dinotools.features.pooling import PooledBackbone, Pooling, available_pooling
from dinotools.models.checkpoints import LoadedBackbone
from dinotools.runtime.errors import DinotoolsError

WIDE = 768  # embed_dim of ViT-B
GRID_BLOCKS = (1, 4)  # as DINOv2's own linear evaluation
AVGPOOL = {"false": (False,), "true": (True,)}


class ProbedBackbone(PooledBackbone):
    """A backbone whose pooled feature has the order that the official classifiers expect."""

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, parts * D)."""
        return official_order(super().forward(images), self.pooling)


def official_order(features: Tensor, pooling: Pooling) -> Tensor:
    """[CLS] and the mean patch token of one block interleaved, value by value; any other pooling as it is.

    The official code stacks the two on a new last axis before it flattens them, and the released classifiers were
    trained so: cls[0], avg[0], cls[1], avg[1], ...

    Args:
        features: (N, parts * D), parts one after the other; or weights that read such features.
        pooling: what they consist of.
    """
    if pooling != Pooling(1, avg=True):
        return features
    return features.unflatten(1, (2, -1)).transpose(1, 2).flatten(1)


def papers_pooling(embed_dim: int, has_tokens: bool) -> Pooling:
    """What the paper's classifier of a network reads.

    Args:
        embed_dim: width of its tokens.
        has_tokens: whether it is a ViT; a convolutional network has its own feature alone.
    """
    if not has_tokens:
        return Pooling()
    return Pooling(1, avg=True) if embed_dim >= WIDE else Pooling(4)


def asked_poolings(config: LinearConfig, available: Pooling, unless: Sequence[Pooling]) -> list[Pooling]:
    """The poolings that the options ask for.

    Args:
        config: the options.
        available: the most that features can consist of.
        unless: what the protocol takes where the options say nothing; those of it that can be had.

    Raises:
        DinotoolsError: something asked for, or everything, cannot be had.
    """
    blocks = config.n_last_blocks or tuple(dict.fromkeys(p.n_last_blocks for p in unless))
    averages = AVGPOOL.get(config.avgpool_patchtokens) or tuple(dict.fromkeys(p.avg for p in unless))
    wanted = [Pooling(n, avg) for n in blocks for avg in averages]
    there = [pooling for pooling in wanted if set(pooling.parts) <= set(available.parts)]
    asked = config.n_last_blocks or config.avgpool_patchtokens != "auto"
    if not there or (asked and len(there) < len(wanted)):
        lacking = next(pooling for pooling in wanted if pooling not in there)
        raise DinotoolsError(
            f"{lacking} is needed, but only {available} can be had",
            config.features or config.ckpt,
            f"Extract the features with --pooling {lacking}, or change --n-last-blocks and --avgpool-patchtokens."
            if config.features
            else "Change --n-last-blocks and --avgpool-patchtokens.",
        )
    return there


def open_probed(config: LinearConfig, pooling: Pooling | None = None) -> tuple[LoadedBackbone, ProbedBackbone, View]:
    """The backbone, the same as a classifier reads it, in eval mode, and how images reach it.

    Args:
        config: the options.
        pooling: what the classifier reads where the options say nothing; None for the paper's choice.

    Raises:
        DinotoolsError: the checkpoint cannot be used, or has no such tokens.
    """
    backbone, _, view = open_network(config, config, Pooling(), config.seed)
    available = available_pooling(backbone.model)
    unless = pooling or papers_pooling(backbone.embed_dim, available.avg)
    (chosen,) = asked_poolings(config, available, [unless])
    # a new module is in training mode, to which ``extract`` would return it: batch normalisation would go on learning
    return backbone, ProbedBackbone(backbone.model, chosen).eval(), view


def grid_poolings(config: LinearConfig, available: Pooling) -> list[Pooling]:
    """The feature settings of the cached grid: blocks without, then with the mean patch token, narrow ones first.

    Args:
        config: the options.
        available: the most that features can consist of.

    Raises:
        DinotoolsError: the network or the stored features have no such tokens.
    """
    return asked_poolings(config, available, [Pooling(n, avg) for n in GRID_BLOCKS for avg in (False, True)])
