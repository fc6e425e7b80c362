"""What the official runs were fed with, and what came out of them (README.md beside this file).

Weights are a function of a parameter's name and shape alone, inputs of a seed and a shape, so neither is stored.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from dinotools.models.head import DINOHead
from dinotools.models.multicrop import MultiCropWrapper
from dinotools.models.vit import VisionTransformer

HERE = Path(__file__).parent
Module = TypeVar("Module", bound=nn.Module)


@cache
def arrays(name: str) -> dict[str, np.ndarray]:
    """Every array of ``name.npz``."""
    with np.load(HERE / f"{name}.npz", allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


@cache
def keys() -> dict[str, Any]:
    """State-dict names, shapes and parameter counts of the official models."""
    return json.loads((HERE / "keys.json").read_text())


def normal(seed: int, shape: Sequence[int]) -> Tensor:
    """Standard normal float32 tensor."""
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(tuple(shape)).astype(np.float32))


def image(seed: int, height: int, width: int) -> np.ndarray:
    """Noise as an RGB uint8 image (height, width, 3)."""
    return np.random.RandomState(seed).randint(0, 256, size=(height, width, 3)).astype(np.uint8)


def fill(model: Module, seed: int = 0) -> Module:
    """Gives a model the weights of the official runs, in place; frozen ``weight_g`` are 1."""
    state = model.state_dict()
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    for key, value in state.items():
        if value.is_floating_point():
            state[key] = _weight(key, tuple(value.shape), seed, frozen=key in frozen).to(value.dtype)
    model.load_state_dict(state)
    return model


def _weight(key: str, shape: tuple[int, ...], seed: int, frozen: bool) -> Tensor:
    v = np.random.RandomState((zlib.crc32(key.encode()) ^ seed) & 0xFFFFFFFF).standard_normal(shape)
    name = key.rpartition(".")[2]
    if name == "running_var":
        v = 1 + 0.1 * np.abs(v)
    elif name in ("running_mean", "bias"):
        v = 0.02 * v
    elif name == "weight_g":
        v = np.ones(shape) if frozen else 1 + 0.1 * np.abs(v)
    elif name in ("pos_embed", "cls_token"):
        v = 0.5 * v
    elif name == "weight" and len(shape) == 1:
        v = 1 + 0.1 * v
    else:
        v = v / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(v.astype(np.float32))


def small_vit(img_size: int = 64) -> VisionTransformer:
    """The "small ViT" of the records: patch 8, width 64, two blocks of two heads."""
    return VisionTransformer(img_size, patch_size=8, embed_dim=64, depth=2, num_heads=2)


def small_network(norm_last_layer: bool = True) -> MultiCropWrapper:
    """The small ViT under a head of 1024 prototypes, the network of the multi-crop and training records."""
    head = DINOHead(64, 1024, norm_last_layer=norm_last_layer, hidden_dim=256, bottleneck_dim=64)
    return MultiCropWrapper(small_vit(), head)
