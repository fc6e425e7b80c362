"""The network that features come from, and everything that they depend on."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

from torch import nn

from dinotools.configs.shared import BackboneOptions, LabelledDataOptions
from dinotools.data.transforms import EvalTransform
from dinotools.features.extraction import View
from dinotools.features.pooling import PooledBackbone, Pooling
from dinotools.models.checkpoints import PIXELS, RANDOM, LoadedBackbone, load_backbone
from dinotools.runtime.errors import DinotoolsError, require


def open_network(
    backbone_options: BackboneOptions, data_options: LabelledDataOptions, pooling: Pooling, seed: int
) -> tuple[LoadedBackbone, PooledBackbone, View]:
    """The backbone, the same with its pooling, and how images reach it.

    Raises:
        DinotoolsError: no checkpoint is named, it cannot be loaded, has no such pooling, or no room for a patch.
    """
    ckpt, crop_size = backbone_options.ckpt, data_options.crop_size
    if ckpt is None:
        raise DinotoolsError("no network to measure", "--ckpt", "Give --ckpt (and --data), or --features.")
    backbone = load_backbone(
        ckpt,
        key=backbone_options.key,
        arch=backbone_options.arch,
        patch_size=backbone_options.patch_size,
        img_size=crop_size if ckpt in (RANDOM, PIXELS) else None,
        seed=seed,
    )
    require(
        crop_size >= (backbone.patch_size or 1),
        f"a crop of {crop_size} pixels is smaller than a patch of {backbone.patch_size}",
        "crop_size",
        "Use a larger crop.",
    )
    view = View(EvalTransform(data_options.resize_size, crop_size), backbone.mean, backbone.std)
    return backbone, PooledBackbone(backbone.model, pooling), view


def in_chans_of(network: nn.Module) -> int:
    """Channels of the images that a network takes: those of its first convolution."""
    convolutions = (module for module in network.modules() if isinstance(module, nn.Conv2d))
    return next((convolution.in_channels for convolution in convolutions), 3)


def settings_of(
    backbone: LoadedBackbone, view: View, pooling: Pooling, seed: int, dtype: str = "float32"
) -> dict[str, Any]:
    """Everything beside the images that features depend on, but for the precision they are computed in."""
    return {
        "sha256": backbone.sha256,
        "key": backbone.key,
        "arch": backbone.arch,
        "patch_size": backbone.patch_size,
        "seed": seed if backbone.sha256 is None else None,
        **dataclasses.asdict(cast(Any, view.transform)),
        "mean": list(view.mean),
        "std": list(view.std),
        "pooling": str(pooling),
        "dtype": dtype,
    }


def check_sizes(options: LabelledDataOptions) -> None:
    """Refuses sizes and shares that mean nothing.

    Raises:
        DinotoolsError: a size is not positive, or max_bad no share.
    """
    for name in ("batch_size", "resize_size", "crop_size"):
        require(getattr(options, name) > 0, f"is {getattr(options, name)}", name, "It must be above 0.")
    require(0 <= options.max_bad <= 1, f"is {options.max_bad}", "max_bad", "It must lie between 0 and 1.")
