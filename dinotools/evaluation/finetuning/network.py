"""What is fine-tuned: a backbone with a classifier on its feature, and the optimizer over its layers."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from dinotools.configs.finetuning import FinetuneConfig
from dinotools.models.blocks import DropPath
from dinotools.models.vit import init_linear
from dinotools.runtime.console import warn
from dinotools.runtime.errors import DinotoolsError

BLOCK = re.compile(r"\bblocks\.(\d+)\.")
BELOW_BLOCKS = re.compile(r"\b(patch_embed|cls_token|pos_embed|reg\w*_tokens?)\b")
POSITIONS = re.compile(r"\b(cls_token|pos_embed|reg\w*_tokens?)$")  # like biases, these do not decay in DeiT
# of a block, before its residual branches: ours has one for both, timm's one for each
DROP_PATHS = {"drop_path", "drop_path1", "drop_path2"}


class Classifier(nn.Module):
    """A backbone and one linear layer on its feature: the [CLS] token of a ViT.

    The layer starts as officially (truncated normal of deviation 0.02, zero bias) but scaled down: the authors multiply
    its weights by a small factor (dino, issue 31); 0.001 is the one of BEiT (arXiv 2106.08254).

    Args:
        backbone: maps (B, 3, H, W) to (B, embed_dim).
        embed_dim: width of the feature.
        n_classes: number of classes C.
        head_init_scale: factor on the layer's initial weights.
    """

    def __init__(self, backbone: nn.Module, embed_dim: int, n_classes: int, head_init_scale: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(embed_dim, n_classes)
        init_linear(self.head)
        with torch.no_grad():
            self.head.weight.mul_(head_init_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Logits: (B, 3, H, W) -> (B, C)."""
        return self.head(self.backbone(x))


def set_drop_path(backbone: nn.Module, rate: float) -> None:
    """Gives a loaded ViT, ours or timm's, stochastic depth: from 0 in its first block to the rate in its last."""
    blocks = list(getattr(backbone, "blocks", ()))
    for i, block in enumerate(blocks):
        layer = DropPath(rate * i / max(len(blocks) - 1, 1)).train(block.training)
        for name in DROP_PATHS & dict(block.named_children()).keys():
            setattr(block, name, layer)
    if rate and not any(isinstance(module, DropPath) for module in backbone.modules()):
        warn("this network has no stochastic depth: --drop-path-rate has no effect")


def parameter_groups(model: nn.Module, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """Groups of parameters that share ``weight_decay`` and ``lr_scale``.

    ::

        depth   = 0 for the embeddings, i + 1 for block i, blocks + 1 for the last norm and the classifier
        lr_scale = layer_decay ** (blocks + 1 - depth)

    Biases, other 1-D parameters, [CLS] and positions do not decay. Source: Bao et al. 2022 (BEiT, arXiv 2106.08254).

    Raises:
        DinotoolsError: the network has no blocks to decay along, or several rows of them (ConvNeXt, Swin).
    """
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    rows = {name[: found.start()] for name in names if (found := BLOCK.search(name))}
    n_blocks = 1 + max((int(found[1]) for found in map(BLOCK.search, names) if found), default=-1)
    if len(rows) != 1 and layer_decay != 1:
        raise DinotoolsError("this network is no single row of transformer blocks", "--layer-decay", "Leave it at 1.")
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            block = BLOCK.search(name)
            depth = int(block[1]) + 1 if block else 0 if BELOW_BLOCKS.search(name) else n_blocks + 1
            decays = parameter.ndim > 1 and not POSITIONS.search(name)
            groups[layer_decay ** (n_blocks + 1 - depth), weight_decay if decays else 0.0].append(parameter)
    return [
        {"params": parameters, "lr_scale": scale, "weight_decay": decay}
        for (scale, decay), parameters in groups.items()
    ]


def build_optimizer(config: FinetuneConfig, model: nn.Module) -> torch.optim.Optimizer:
    """AdamW or SGD over ``parameter_groups``; the learning rate is set before every step."""
    groups = parameter_groups(model, config.weight_decay, config.layer_decay)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, fused=True)
    return torch.optim.SGD(groups, lr=0.0, momentum=0.9, nesterov=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of every group, as far as its layer passes it on."""
    for group in optimizer.param_groups:
        group["lr"] = float(lr) * group["lr_scale"]
