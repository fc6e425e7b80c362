"""Batches of crops, from any step to the end of a run, and what becomes of them on the device."""

from __future__ import annotations

from collections.abc import Iterable

from torch.utils.data import DataLoader

from dinotools.configs.pretraining import PretrainConfig
from dinotools.data.augment import MultiCrop
from dinotools.data.epoch_order import EpochOrder
from dinotools.data.images import ImageSource
from dinotools.data.mixture import part_sizes
from dinotools.data.training import CropBatch, TrainingImages, collate_crops
from dinotools.runtime import distributed
from dinotools.runtime.device import Runtime
from dinotools.runtime.interruption import ignore_in_reader


def training_loader(config: PretrainConfig, runtime: Runtime, images: ImageSource, start: int) -> Iterable[CropBatch]:
    """This rank's share of every step's crops, from step ``start`` to the end of the run."""
    order = EpochOrder(
        len(images),
        config.batch_size,
        config.epochs,
        config.seed,
        start,
        epoch_images=config.epoch_images,
        parts=part_sizes(images),
        weights=config.data_weights or None,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
    )
    return DataLoader(
        TrainingImages(images, MultiCrop.of(config, runtime.device, colors=config.in_chans == 3), seed=config.seed),
        batch_sampler=order,
        num_workers=runtime.workers,
        collate_fn=collate_crops,
        worker_init_fn=ignore_in_reader,
        pin_memory=runtime.device.type == "cuda",
    )
