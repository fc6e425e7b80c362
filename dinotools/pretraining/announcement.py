"""What is said of a run before its first step, in effective numbers."""

from __future__ import annotations

from itertools import groupby

from dinotools.configs.pretraining import PretrainConfig
from dinotools.models.vit import SIZES
from dinotools.pretraining.schedules import Schedules
from dinotools.runtime import distributed
from dinotools.runtime.device import Runtime


def announcement(config: PretrainConfig, schedules: Schedules, n_images: int, runtime: Runtime) -> str:
    """The effective numbers of a run, such as the scaled learning rate; a second line where colours are left out."""
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
    return "\n".join([" · ".join(parts), *_skipped(config.in_chans)])


def network_name(config: PretrainConfig) -> str:
    """Such as vit_small/16; a convolutional network has no patches."""
    return f"{config.arch}/{config.patch_size}" if config.arch in SIZES else config.arch


def crop_list(config: PretrainConfig) -> str:
    """The crops of an image, such as 2x224 + 8x96."""
    return " + ".join(f"{len(list(same))}x{size}" for size, same in groupby(config.crop_sizes))


def _skipped(in_chans: int) -> tuple[str, ...]:
    """What ``MultiCrop`` leaves out where channels are no colours."""
    if in_chans == 3:
        return ()
    images = "one-channel" if in_chans == 1 else f"{in_chans}-channel"
    return (f"{images} images: colour jitter, gray and solarize are skipped; boxes, flips and blur stay",)


def _shared(config: PretrainConfig) -> str:
    ranks = distributed.world_size()
    if ranks * config.accumulate == 1:
        return ""
    each = config.batch_size // (ranks * config.accumulate)
    return f" ({ranks} process(es) x {config.accumulate} part(s) x {each})"
