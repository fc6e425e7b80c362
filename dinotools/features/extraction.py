"""Frozen features of a data set: every image once through a network."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dinotools.configs.normalization import IMAGENET_MEAN, IMAGENET_STD
from dinotools.data.images import BadImages
from dinotools.data.sources import ImageSource
from dinotools.data.transforms import EvalImages, collate_readable, normalize
from dinotools.runtime.console import track
from dinotools.runtime.device import Runtime
from dinotools.runtime.errors import RunFailed

CPU_PIXELS = 8 * 224 * 224  # of a forward pass on a CPU; its caches hold no more (ViT-S/16: 25 images/s, 19 with 128)


@dataclass(frozen=True)
class Features:
    """Features of the images that could be read, in the order of the data set.

    Args:
        shards: (n, D) float32 or float16 each, N rows in all, on the CPU; possibly mapped from files.
        labels: (N,) int64; -1 where there is none.
        indices: (N,) int64, positions in the data set.
        skipped: names of the images that could not be read.
    """

    shards: tuple[Tensor, ...]
    labels: Tensor
    indices: Tensor
    skipped: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        """N."""
        return len(self.labels)

    @property
    def width(self) -> int:
        """D."""
        return self.shards[0].shape[1]

    def tensor(self) -> Tensor:
        """All rows, copied: (N, D) float32."""
        return torch.cat([shard.float() for shard in self.shards])

    def select(self, chosen: Tensor) -> Features:
        """The rows where chosen (N,) bool is true, copied; the order stays."""
        masks = chosen.split([len(shard) for shard in self.shards])
        shards = tuple(shard[mask] for shard, mask in zip(self.shards, masks, strict=True))
        return Features(shards, self.labels[chosen], self.indices[chosen], self.skipped)

    def describe(self) -> dict[str, Any]:
        """Counts for results.json."""
        return {"images": len(self), "skipped": list(self.skipped)}


@dataclass(frozen=True)
class View:
    """How an image reaches the network.

    Args:
        resize_size: shorter side after the bicubic resize, in pixels.
        crop_size: side of the centre crop, in pixels.
        mean: of the normalisation, per channel, for values from 0 to 1.
        std: the same.
    """

    resize_size: int = 256
    crop_size: int = 224
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD


class Extracted(NamedTuple):
    """Of one batch: features (B, D) float32, labels and positions (B,) int64, on the CPU; B may be 0."""

    features: Tensor
    labels: Tensor
    indices: Tensor


class Extractor:
    """Runs images through a network, in eval mode, and says how long it waited for them.

    Args:
        network: maps (B, 3, crop_size, crop_size) to (B, D).
        images: the data set.
        runtime: where to compute, and how many processes read.
        view: how an image reaches the network.
        max_bad: share of unreadable images that is skipped and named rather than an error.
    """

    def __init__(
        self, network: nn.Module, images: ImageSource, runtime: Runtime, view: View, max_bad: float = 0.01
    ) -> None:
        self.network, self.images, self.runtime, self.view = network, images, runtime, view
        self.bad = BadImages(max_bad, len(images))
        self.elapsed = self.waited = 0.0  # seconds

    @property
    def data_wait(self) -> float:
        """Share of the time, in percent, in which the network waited for images to be decoded."""
        return 100 * self.waited / max(self.elapsed, 1e-9)

    @torch.inference_mode()
    def run(self, batches: Sequence[range], name: str) -> Generator[Extracted, None, None]:
        """Yields one ``Extracted`` per batch of positions.

        Args:
            batches: positions in the data set.
            name: what the progress bar calls the images.

        Raises:
            DinotoolsError: more unreadable images than max_bad.
            RunFailed: a feature is not finite.
        """
        loader = DataLoader(
            EvalImages(self.images, resize_size=self.view.resize_size, crop_size=self.view.crop_size),
            batch_sampler=[list(batch) for batch in batches],
            num_workers=self.runtime.workers,
            collate_fn=collate_readable,
            pin_memory=self.runtime.device.type == "cuda",
            generator=torch.Generator(),  # the loader must not draw from the generator that training uses
        )
        was_training = self.network.training
        self.network.eval()
        started = asked = time.monotonic()
        try:
            for batch in track(loader, f"features of {name}", total=len(batches)):
                self.waited += time.monotonic() - asked
                for unreadable in batch.bad:
                    self.bad.add(unreadable)
                yield Extracted(self._features(batch.images), batch.labels, batch.indices)
                asked = time.monotonic()
        finally:
            self.elapsed += time.monotonic() - started
            self.network.train(was_training)

    def _features(self, images: Tensor) -> Tensor:
        if len(images) == 0:
            return torch.empty(0, 0)
        features = forward(self.network, images, self.view, self.runtime, at_once=len(images)).cpu()
        if not features.isfinite().all():
            raise RunFailed(
                "the network's features are not finite",
                remedy="Use --precision fp32; if that does not help, its weights are damaged.",
            )
        return features


def forward(network: nn.Module, images: Tensor, view: View, runtime: Runtime, *, at_once: int) -> Tensor:
    """The features of a batch, in several passes where it is larger than the memory or the caches should hold.

    Args:
        network: a frozen one, so that passes do not see one another: maps (B, 3, H, W) to (B, D).
        images: (B, 3, H, W) uint8, on the CPU.
        view: its normalisation.
        runtime: where to compute.
        at_once: images of a pass, at most; on a CPU perhaps fewer.

    Returns:
        (B, D) float32, on the device.
    """
    if runtime.device.type == "cpu":
        at_once = min(at_once, max(1, CPU_PIXELS // images[0, 0].numel()))
    with runtime.autocast():
        passes = [
            network(normalize(part.to(runtime.device, non_blocking=True), view.mean, view.std)).float()
            for part in images.split(at_once)
        ]
    return torch.cat(passes)


def batches_of(positions: range, batch_size: int) -> list[range]:
    """Cuts consecutive positions into batches."""
    return [positions[start : start + batch_size] for start in range(0, len(positions), batch_size)]


def extract(
    network: nn.Module,
    images: ImageSource,
    runtime: Runtime,
    view: View,
    *,
    batch_size: int = 128,
    max_bad: float = 0.01,
    name: str = "images",
) -> Features:
    """The features of a whole data set, in memory.

    Args: as for ``Extractor`` and its ``run``; batch_size counts the images of a forward pass.

    Raises:
        DinotoolsError: more unreadable images than max_bad.
        RunFailed: a feature is not finite.
    """
    extractor = Extractor(network, images, runtime, view, max_bad)
    batches = [batch for batch in extractor.run(batches_of(range(len(images)), batch_size), name) if len(batch.labels)]
    features, labels, indices = (torch.cat(column) for column in zip(*batches, strict=True))
    return Features((features,), labels, indices, tuple(extractor.bad.names))
