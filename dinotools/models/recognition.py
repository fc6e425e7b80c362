"""Which architecture a backbone's tensors belong to, from their names and shapes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import isqrt

import torch
import torchvision
from torch import Tensor

from dinotools.models.checkpoint_files import HEADS, few
from dinotools.models.vit import SIZES
from dinotools.models.zoo import convnet_names
from dinotools.runtime.errors import DinotoolsError

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


@dataclass(frozen=True)
class Architecture:
    """What ``build_backbone`` needs to know; patch and image size are None for a convolutional network."""

    arch: str
    patch_size: int | None
    img_size: int | None


def recognise(tensors: Mapping[str, Tensor], said: str | None, where: object) -> Architecture:
    """The architecture of a backbone.

    A ViT shows its width and patch size in the patch embedding, its depth in the blocks and its image size in the
    positional grid; a ResNet is told by comparison with torchvision's.

    Args:
        tensors: the backbone's state dict, without head or classifier.
        said: a name from elsewhere, believed only where the tensors match none that we know by heart.
        where: what an error names as the place.

    Raises:
        DinotoolsError: the tensors fit nothing known; says what they look like.
    """
    if "patch_embed.proj.weight" in tensors:
        return _recognise_vit(tensors, where)
    shapes = _learned_shapes(tensors)
    arch = next((name for name in RESNETS if shapes == _resnet_shapes(name)), None)
    if arch is None and said in convnet_names():
        arch = said
    if arch is None:
        raise DinotoolsError(
            f"its {len(tensors)} tensors ({few(list(tensors))}) fit no architecture that we know by heart",
            where,
            "If it is one of torchvision's, name it with --arch.",
        )
    return Architecture(arch, None, None)


def _recognise_vit(tensors: Mapping[str, Tensor], where: object) -> Architecture:
    kernel, positions = tensors["patch_embed.proj.weight"], tensors.get("pos_embed")
    if positions is None or positions.ndim != 3 or kernel.ndim != 4:
        raise DinotoolsError("has patches but not the positional encodings of a ViT", where, "Give a DINO-style ViT.")
    width, patch_size, patches = kernel.shape[0], kernel.shape[-1], positions.shape[1] - 1
    depth = len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
    arch = next((name for name, size in SIZES.items() if (size.embed_dim, size.depth) == (width, depth)), None)
    if arch is None:
        known = ", ".join(f"{name} {size.embed_dim} and {size.depth}" for name, size in SIZES.items())
        raise DinotoolsError(
            f"is a ViT of width {width} with {depth} blocks, which has no name here", where, f"Known are {known}."
        )
    side = isqrt(max(patches, 0))
    if side == 0 or side**2 != patches:
        raise DinotoolsError(
            f"has positional encodings for {patches} patches, which make no square", where, "Give a DINO-style ViT."
        )
    return Architecture(arch, patch_size, side * patch_size)


@cache
def _resnet_shapes(name: str) -> dict[str, torch.Size]:
    with torch.device("meta"):  # shapes without memory
        return _learned_shapes(torchvision.models.get_model(name).state_dict())


def _learned_shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """Shapes by name, less the classifier and the batch counters, which old files lack."""
    return {
        name: tensor.shape
        for name, tensor in state.items()
        if name.split(".")[0] not in HEADS and not name.endswith("num_batches_tracked")
    }
