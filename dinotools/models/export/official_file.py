"""The layout of the backbones that the authors of DINO released: ``backbone.pth``, a state dict and nothing else."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from dinotools.configs.normalization import IMAGENET_MEAN, IMAGENET_STD
from dinotools.models.checkpoints import LoadedBackbone, load_backbone
from dinotools.models.export.safetensors_file import has_layer_scale, plain_tensors
from dinotools.models.timm_backbones import is_timm
from dinotools.models.vit import SIZES, VisionTransformer
from dinotools.runtime.errors import DinotoolsError

FILE = "backbone.pth"
WHERE = "--to official"
REMEDY = "Take --to safetensors, which says what the network is."


def check(backbone: LoadedBackbone) -> None:
    """Refuses what the official code could not tell from the tensors.

    Raises:
        DinotoolsError: the network is one of timm's, normalises images in its own way, or is a ViT with parts or
            heads that the official ones have not.
    """
    if is_timm(backbone.arch):
        raise DinotoolsError(f"{backbone.arch} is none of the official architectures", WHERE, REMEDY)
    if (backbone.mean, backbone.std) != (IMAGENET_MEAN, IMAGENET_STD):
        raise DinotoolsError("the layout cannot say that images are not normalised as ImageNet's", WHERE, REMEDY)
    vit = backbone.model
    if not isinstance(vit, VisionTransformer):
        return
    if vit.registers or has_layer_scale(vit):
        raise DinotoolsError("the official ViT has neither registers nor LayerScale", WHERE, REMEDY)
    if vit.num_heads != SIZES[backbone.arch].num_heads:
        raise DinotoolsError(
            f"the layout cannot say that this {backbone.arch} has {vit.num_heads} heads", WHERE, REMEDY
        )


def write(folder: Path, backbone: LoadedBackbone, half: bool) -> None:
    """Writes ``backbone.pth`` into a folder."""
    torch.save(plain_tensors(backbone.model, half), folder / FILE)


def features(folder: Path, backbone: LoadedBackbone, images: Tensor) -> Tensor:
    """Features of images (B, C, H, W) by the network re-loaded from a folder: (B, D)."""
    return load_backbone(str(folder / FILE), arch=backbone.arch).model(images)


def how_to_load(folder: Path, backbone: LoadedBackbone) -> str:
    """A line of Python that reads the file."""
    return f'network.load_state_dict(torch.load("{folder / FILE}", weights_only=True))'
