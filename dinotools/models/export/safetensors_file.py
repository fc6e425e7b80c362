"""Our own layout: one safetensors file, whose metadata say all that loading it takes.

The tensors have the backbone's own names. Each metadata value is a JSON text: arch, patch_size, img_size, num_heads,
in_chans, registers, layer_scale, mean, std and key, with the versions of this layout and of dinotools.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn

import dinotools
from dinotools.models.checkpoint_files import BACKBONE_FILE, WRAPPERS
from dinotools.models.checkpoints import LoadedBackbone, load_backbone
from dinotools.models.vit import VisionTransformer
from dinotools.runtime.run_directory import write_atomically

FORMAT_VERSION = 1


def write_backbone(path: Path, backbone: nn.Module, description: Mapping[str, Any], half: bool = False) -> None:
    """Writes a backbone atomically, so that every command takes the file as --ckpt without a further option.

    Args:
        path: the file, which ends in ``.safetensors``.
        backbone: the network, bare or wrapped for distribution or compilation, on any device.
        description: what loading it takes, in plain JSON values: at least arch, and of a ViT all that its tensors do
            not tell, such as num_heads.
        half: whether floating-point numbers are written as float16; loading widens them again.
    """
    tensors = plain_tensors(backbone, half)
    write_atomically(path, lambda temporary: write_tensors(temporary, tensors, metadata(description)))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> None:
    """Writes a safetensors file that others may read as any new file; the library's own would be its owner's alone."""
    path.write_bytes(save(dict(tensors), metadata=dict(texts)))


def plain_tensors(backbone: nn.Module, half: bool = False) -> dict[str, Tensor]:
    """A network's weights by their own names, each a contiguous copy on the CPU; of half precision if asked for."""
    state = {WRAPPERS.sub("", name): tensor.detach().cpu() for name, tensor in backbone.state_dict().items()}
    return {
        name: (tensor.half() if half and tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in state.items()
    }


def metadata(description: Mapping[str, Any]) -> dict[str, str]:
    """A description as a file's metadata: every value a JSON text, beside the versions of layout and dinotools."""
    versions = {"format_version": FORMAT_VERSION, "dinotools": dinotools.__version__}
    return {name: json.dumps(value) for name, value in {**versions, **description}.items()}


def description_of(backbone: LoadedBackbone) -> dict[str, Any]:
    """What a file says of a loaded backbone."""
    described: dict[str, Any] = {
        "arch": backbone.arch,
        "patch_size": backbone.patch_size,
        "img_size": getattr(backbone.model, "img_size", None),
        "in_chans": in_chans(backbone.model),
        "mean": list(backbone.mean),
        "std": list(backbone.std),
        "key": backbone.key,
    }
    vit = backbone.model
    if isinstance(vit, VisionTransformer):
        described |= {"num_heads": vit.num_heads, "registers": vit.registers, "layer_scale": has_layer_scale(vit)}
    return described


def in_chans(network: nn.Module) -> int:
    """Channels of the images that a network takes: those of its first convolution."""
    return next((layer.in_channels for layer in network.modules() if isinstance(layer, nn.Conv2d)), 3)


def has_layer_scale(vit: VisionTransformer) -> bool:
    """Whether each residual branch ends in a LayerScale."""
    return not isinstance(vit.blocks[0].ls1, nn.Identity)


def check(backbone: LoadedBackbone) -> None:
    """Every backbone can be written so."""


def write(folder: Path, backbone: LoadedBackbone, half: bool) -> None:
    """Writes ``backbone.safetensors`` into a folder."""
    write_backbone(folder / BACKBONE_FILE, backbone.model, description_of(backbone), half)


def features(folder: Path, backbone: LoadedBackbone, images: Tensor) -> Tensor:
    """Features of images (B, C, H, W) by the network re-loaded from a folder, without a further option: (B, D)."""
    return load_backbone(str(folder / BACKBONE_FILE)).model(images)


def how_to_load(folder: Path, backbone: LoadedBackbone) -> str:
    """A command that reads the file."""
    return f"dinotools knn --ckpt {folder / BACKBONE_FILE} --data ..."
