"""What is said of a run before its first step, in effective numbers."""

from __future__ import annotations

from itertools import groupby

from dinotools.configs.pretraining import PretrainConfig
from dinotools.models.vit import SIZES
from dinotools.pretraining.schedules import Schedules
from dinotools.runtime import distributed
from dinotools.runtime.device import Runtime


def announcement(config: PretrainConfig, schedules: Schedules, n_images: int, runtime: Runtime) -> str:
    """The effective numbers of a run: learning rate after scaling, images per step, warm-up in steps, and so on."""
    per_epoch = schedules.steps_per_epoch
    parts = [
        f"{network_name(config)}",
        f"{n_images:,} images",
        f"{config.epochs} epochs of {per_epoch:,} steps of {config.batch_size} images{_shared(config)}",
        f"peak lr {schedules.lr.max():.2e} after {config.warmup_epochs * per_epoch:,} steps of warm-up",
        f"K {config.out_dim:,}",
        f"{crop_list(config)} px",
        f"{runtime.device} {runtime.precision}, {runtime.workers} reader(s)",
    ]
    return " · ".join(parts)


def network_name(config: PretrainConfig) -> str:
    """Such as vit_small/16; a convolutional network has no patches."""
    return f"{config.arch}/{config.patch_size}" if config.arch in SIZES else config.arch


def crop_list(config: PretrainConfig) -> str:
    """The crops of an image, such as 2x224 + 8x96."""
    return " + ".join(f"{len(list(same))}x{size}" for size, same in groupby(config.crop_sizes))


def _shared(config: PretrainConfig) -> str:
    ranks = distributed.world_size()
    if ranks * config.accumulate == 1:
        return ""
    each = config.batch_size // (ranks * config.accumulate)
    return f" ({ranks} process(es) x {config.accumulate} part(s) x {each})"
