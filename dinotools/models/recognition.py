"""Which architecture a backbone's tensors belong to, from their names and shapes alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import isqrt

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from dinotools.models.checkpoint_files import HEADS, few
from dinotools.models.timm_backbones import TIMM, is_timm
from dinotools.models.vit import SIZES
from dinotools.models.zoo import convnet_names
from dinotools.runtime.errors import DinotoolsError

OTHER_VITS = f"Give a ViT of DINO or DINOv2, or name one of timm's with --arch {TIMM}NAME."
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


@dataclass(frozen=True)
class Architecture:
    """What ``build_backbone`` needs to know; patch and image size are None for torchvision's networks and timm's."""

    arch: str
    patch_size: int | None = None
    img_size: int | None = None
    registers: int = 0
    layer_scale: bool = False
    in_chans: int = 3


def with_our_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A ViT's tensors as the released DINO and DINOv2 files have them; other networks' stay as they are.

    A training checkpoint of DINOv2 keeps its blocks in chunks. timm calls the registers ``reg_token``, and adds the
    position of [CLS] to ``cls_token``, so that it has to be 0 beside it.
    """
    ours = {re.sub(r"^blocks\.\d+\.(\d+\.)", r"blocks.\1", name): tensor for name, tensor in tensors.items()}
    if "reg_token" in ours:
        ours["register_tokens"] = ours.pop("reg_token")
    positions = ours.get("pos_embed")
    if positions is not None and positions.ndim == 3 and _side(positions.shape[1]) and "cls_token" in ours:
        ours["pos_embed"] = F.pad(positions, (0, 0, 1, 0))
    return ours


def recognise(tensors: Mapping[str, Tensor], said: str | None, where: object) -> Architecture:
    """The architecture of a backbone.

    A ViT shows its width and patch size in the patch embedding, its depth in the blocks and its image size in the
    positional grid; a ResNet is told by comparison with torchvision's.

    Args:
        tensors: the backbone's state dict, without head or classifier, ``with_our_names``.
        said: a name from elsewhere, believed if it is one of timm's, and else only where the tensors match none that
            we know by heart.
        where: what an error names as the place.

    Raises:
        DinotoolsError: the tensors fit nothing known; says what they look like.
    """
    if said is not None and is_timm(said):
        return Architecture(said)
    if "patch_embed.proj.weight" in tensors:
        return _recognise_vit(tensors, where)
    shapes = _learned_shapes(tensors)
    first = shapes.get("conv1.weight", torch.Size())
    in_chans = first[1] if len(first) == 4 else 3
    if in_chans != 3:  # the comparison is with networks of three channels
        shapes["conv1.weight"] = torch.Size((first[0], 3, *first[2:]))
    arch = next((name for name in RESNETS if shapes == _resnet_shapes(name)), None)
    if arch is None and said in convnet_names():
        return Architecture(str(said))
    if arch is None:
        raise DinotoolsError(
            f"its {len(tensors)} tensors ({few(list(tensors))}) fit no architecture that we know by heart",
            where,
            f"If it is one of torchvision's or timm's, name it with --arch NAME or --arch {TIMM}NAME.",
        )
    return Architecture(arch, in_chans=in_chans)


def _recognise_vit(tensors: Mapping[str, Tensor], where: object) -> Architecture:
    kernel, positions = tensors["patch_embed.proj.weight"], tensors.get("pos_embed")
    if positions is None or positions.ndim != 3 or kernel.ndim != 4:
        raise DinotoolsError("has patches but not the positional encodings of a ViT", where, OTHER_VITS)
    if "blocks.0.mlp.w12.weight" in tensors:
        raise DinotoolsError(
            "has SwiGLU in its blocks, as DINOv2's ViT-g, which our ViT has not",
            where,
            f"Take timm's copy of it: --ckpt {TIMM}vit_giant_patch14_dinov2.",
        )
    width, patch_size, patches = kernel.shape[0], kernel.shape[-1], positions.shape[1] - 1
    depth = len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
    arch = next((name for name, size in SIZES.items() if (size.embed_dim, size.depth) == (width, depth)), None)
    if arch is None:
        known = ", ".join(f"{name} {size.embed_dim} and {size.depth}" for name, size in SIZES.items())
        raise DinotoolsError(
            f"is a ViT of width {width} with {depth} blocks, which has no name here", where, f"Known are {known}."
        )
    side = _side(patches)
    if side == 0:
        raise DinotoolsError(f"has positional encodings for {patches} patches, which make no square", where, OTHER_VITS)
    registers = tensors["register_tokens"].shape if "register_tokens" in tensors else ()
    return Architecture(
        arch,
        patch_size,
        side * patch_size,
        registers=registers[1] if len(registers) == 3 else 0,
        layer_scale="blocks.0.ls1.gamma" in tensors,
        in_chans=kernel.shape[1],
    )


def _side(patches: int) -> int:
    """Patches along a side of a square grid; 0 if that many make none."""
    side = isqrt(max(patches, 0))
    return side if side**2 == patches else 0


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
