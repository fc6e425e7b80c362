"""What following objects depends on: the numbers of the protocol, and the network."""

from __future__ import annotations

import dataclasses
from typing import Any

from dinotools.configs.video import DavisConfig
from dinotools.evaluation.davis.propagation import LabelPropagation
from dinotools.evaluation.davis.tracking import Tracker
from dinotools.models.checkpoints import LoadedBackbone, load_backbone
from dinotools.runtime.device import Runtime
from dinotools.runtime.errors import DinotoolsError, require

PROTOCOL = ("short_side", "multiple", "n_last_frames", "size_mask_neighborhood", "topk", "temperature")


def check_numbers(config: DavisConfig) -> None:
    """Refuses numbers that mean nothing.

    Raises:
        DinotoolsError: one does.
    """
    for name, least in {"short_side": 1, "multiple": 1, "n_last_frames": 0, "size_mask_neighborhood": 0}.items():
        value = getattr(config, name)
        require(value >= least, f"is {value}", name, f"It must be {least} at least.")
    # then something is left of the longer side, too
    require(config.short_side >= config.multiple, f"is {config.short_side}", "short_side", "Make --multiple smaller.")
    require(config.topk > 0, f"is {config.topk}", "topk", "It must be above 0.")
    require(config.temperature >= 0.02, f"is {config.temperature}", "temperature", "It must be 0.02 at least.")


def open_tracker(config: DavisConfig, runtime: Runtime) -> tuple[LoadedBackbone, Tracker]:
    """The network that the options name, and what follows objects with it.

    Raises:
        DinotoolsError: none is named, it cannot be loaded, has no patch tokens, or frames would be less than a patch.
    """
    if config.ckpt is None:
        raise DinotoolsError("no network to follow objects with", "--ckpt", "Give a checkpoint, or a released name.")
    backbone = load_backbone(
        config.ckpt, key=config.key, arch=config.arch, patch_size=config.patch_size, seed=config.seed
    )
    method = LabelPropagation(config.n_last_frames, config.size_mask_neighborhood, config.topk, config.temperature)
    tracker = Tracker(backbone, runtime, method)
    least = config.short_side // config.multiple * config.multiple  # the rounded side of a frame that is nearly square
    small = f"sides of {least} pixels are less than a patch of {tracker.patch_size}"
    require(least >= tracker.patch_size, small, "short_side", "Make it larger.")
    return backbone, tracker


def describe(config: DavisConfig, backbone: LoadedBackbone, tracker: Tracker, runtime: Runtime) -> dict[str, Any]:
    """Everything that masks depend on, beside the video."""
    numbers = {name: getattr(config, name) for name in PROTOCOL}
    return {
        "checkpoint": backbone.describe(),
        "protocol": {"name": protocol_name(config), **numbers, "mean": tracker.mean, "std": tracker.std},
        "precision": runtime.precision,
    }


def protocol_name(config: DavisConfig) -> str:
    """``dino-v1``, and what differs from it."""
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    changed = [f"{name} {getattr(config, name)}" for name in PROTOCOL if getattr(config, name) != defaults[name]]
    return "dino-v1" + (f" but for {', '.join(changed)}" if changed else "")
