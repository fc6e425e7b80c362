"""Frozen features of a data set."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dinotools.data.images import BadImages
from dinotools.data.sources import ImageSource
from dinotools.data.transforms import EvalImages, collate_readable, normalize
from dinotools.runtime.console import track
from dinotools.runtime.device import Runtime


@dataclass(frozen=True)
class Features:
    """Features of the images that could be read.

    Args:
        features: (N, D) float32, on the CPU.
        labels: (N,) int64; -1 where there is none.
        indices: (N,) int64, positions in the data set.
        skipped: names of the images that could not be read.
    """

    features: Tensor
    labels: Tensor
    indices: Tensor
    skipped: tuple[str, ...] = field(default=())

    def describe(self) -> dict[str, Any]:
        """Counts for results.json."""
        return {"images": len(self.features), "skipped": list(self.skipped)}


@torch.inference_mode()
def extract(
    model: nn.Module,
    images: ImageSource,
    runtime: Runtime,
    *,
    resize_size: int,
    crop_size: int,
    batch_size: int = 128,
    max_bad: float = 0.01,
    name: str = "images",
) -> Features:
    """Runs every image through the model, in eval mode, and leaves the model's mode as it was.

    Args:
        model: maps (B, 3, crop_size, crop_size) to (B, D).
        images: the data set.
        runtime: where to compute, and how many processes read.
        resize_size: shorter side after the bicubic resize, in pixels.
        crop_size: side of the centre crop, in pixels.
        batch_size: images per forward pass.
        max_bad: share of unreadable images that is skipped and named rather than an error.
        name: what the progress bar calls them.

    Raises:
        DinotoolsError: more unreadable images than max_bad.
    """
    loader = DataLoader(
        EvalImages(images, resize_size=resize_size, crop_size=crop_size),
        batch_size=batch_size,
        num_workers=runtime.workers,
        collate_fn=collate_readable,
        pin_memory=runtime.device.type == "cuda",
        generator=torch.Generator(),  # the loader must not draw from the generator that training uses
    )
    bad = BadImages(max_bad, len(images))
    was_training = model.training
    model.eval()
    features, labels, indices = [], [], []
    for batch in track(loader, f"features of {name}", total=len(loader)):
        for unreadable in batch.bad:
            bad.add(unreadable)
        if len(batch.images) == 0:
            continue
        inputs = normalize(batch.images.to(runtime.device, non_blocking=True))
        with runtime.autocast():
            features.append(model(inputs).float().cpu())
        labels.append(batch.labels)
        indices.append(batch.indices)
    model.train(was_training)
    return Features(torch.cat(features), torch.cat(labels), torch.cat(indices), tuple(bad.names))
