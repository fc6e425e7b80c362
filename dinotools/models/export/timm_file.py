"""timm's layout: ``timm.safetensors``, a state dict that timm's own network loads strictly.

timm's ViT shares the official names, so that most files differ in nothing. Only where there are registers, it calls
them ``reg_token`` and keeps the position of [CLS] within ``cls_token``; its ResNets are named as torchvision's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from dinotools.models.checkpoints import LoadedBackbone
from dinotools.models.export.extras import library
from dinotools.models.export.safetensors_file import (
    description_of,
    has_layer_scale,
    in_chans,
    metadata,
    plain_tensors,
    write_tensors,
)
from dinotools.models.recognition import RESNETS
from dinotools.models.timm_backbones import TIMM, TimmViT, is_timm
from dinotools.models.vit import VisionTransformer
from dinotools.runtime.errors import DinotoolsError

FILE = "timm.safetensors"


def check(backbone: LoadedBackbone) -> None:
    """Refuses a network that timm has under no name we know.

    Raises:
        DinotoolsError: it is no ViT, ResNet or network of timm; or timm is not installed.
    """
    if not (isinstance(backbone.model, VisionTransformer) or backbone.arch in RESNETS or is_timm(backbone.arch)):
        raise DinotoolsError(
            f"{backbone.arch} has no counterpart in timm with the same weights",
            "--to timm",
            f"ViTs have, and {', '.join(RESNETS)}.",
        )
    library("timm", "timm")


def write(folder: Path, backbone: LoadedBackbone, half: bool) -> None:
    """Writes ``timm.safetensors`` into a folder."""
    tensors = plain_tensors(backbone.model, half)
    if "register_tokens" in tensors:
        positions = tensors["pos_embed"]
        tensors["reg_token"] = tensors.pop("register_tokens")
        tensors["cls_token"] = tensors["cls_token"] + positions[:, :1]
        tensors["pos_embed"] = positions[:, 1:].contiguous()
    write_tensors(folder / FILE, tensors, metadata(description_of(backbone)))


def features(folder: Path, backbone: LoadedBackbone, images: Tensor) -> Tensor:
    """Features of images (B, C, H, W) by timm's network, filled strictly from a folder: (B, D)."""
    network = _timms(backbone)
    network.load_state_dict(load_file(folder / FILE))
    network.eval()
    return network.forward_features(images)[:, 0] if isinstance(backbone.model, TimmViT) else network(images)


def arguments(backbone: LoadedBackbone) -> dict[str, Any]:
    """How timm's ``VisionTransformer`` has to be called for the weights of one of ours."""
    vit = backbone.model
    if not isinstance(vit, VisionTransformer):
        raise TypeError(f"{type(vit).__name__} is no VisionTransformer")
    called: dict[str, Any] = {
        "img_size": vit.img_size,
        "patch_size": vit.patch_size,
        "in_chans": in_chans(vit),
        "embed_dim": vit.embed_dim,
        "depth": len(vit.blocks),
        "num_heads": vit.num_heads,
        "num_classes": 0,
    }
    if has_layer_scale(vit):
        called["init_values"] = 1.0
    return called | ({"reg_tokens": vit.registers, "no_embed_class": True} if vit.registers else {})


def _timms(backbone: LoadedBackbone) -> Any:
    """timm's network for the weights, without a classifier."""
    if isinstance(backbone.model, VisionTransformer):
        return library("timm.models", "timm").VisionTransformer(**arguments(backbone))
    name = backbone.arch.removeprefix(TIMM)
    network: nn.Module = library("timm", "timm").create_model(name, num_classes=0, in_chans=in_chans(backbone.model))
    return network


def how_to_load(folder: Path, backbone: LoadedBackbone) -> str:
    """A line of Python that makes timm's network and fills it."""
    file = folder / FILE
    if isinstance(backbone.model, VisionTransformer):
        named = ", ".join(f"{name}={value}" for name, value in arguments(backbone).items())
        return f'network = timm.models.VisionTransformer({named}); network.load_state_dict(load_file("{file}"))'
    return f'timm.create_model("{backbone.arch.removeprefix(TIMM)}", num_classes=0, checkpoint_path="{file}")'
