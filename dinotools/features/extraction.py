"""Frozen features of a data set: every image once through a network."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dinotools.configs.normalization import IMAGENET_MEAN, IMAGENET_STD
from dinotools.data.images import BadImages
from dinotools.data.sources import ImageSource
from dinotools.data.transforms import (
    Alike,
    EvalBatch,
    EvalImages,
    ImageTransform,
    collate_by_shape,
    normalize,
)
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
        transform: what becomes of its pixels.
        mean: of the normalisation, per channel, for values from 0 to 1.
        std: the same.
        least: pixels that a side must have after the transform.
    """

    transform: ImageTransform
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    least: int = 1


class Extracted(NamedTuple):
    """Of some images: features (B, D) float32, labels and ascending positions (B,) int64, on the CPU; B may be 0."""

    features: Tensor
    labels: Tensor
    indices: Tensor


class Extractor:
    """Runs images through a network, in eval mode, and says how long it waited for them.

    Args:
        network: maps (B, 3, H, W) to (B, D).
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
    def run(self, parts: Sequence[range], batch_size: int, name: str) -> Generator[Extracted, None, None]:
        """Yields one ``Extracted`` per part of the data set, whose images it batches by their shapes.

        Args:
            parts: positions in the data set.
            batch_size: images of a forward pass.
            name: what the progress bar calls the images.

        Raises:
            DinotoolsError: more unreadable images than max_bad.
            RunFailed: a feature is not finite, or has no dimensions.
        """
        batches = [batches_of(part, batch_size) for part in parts]
        loader = DataLoader(
            EvalImages(self.images, self.view.transform, self.view.least),
            batch_sampler=[list(batch) for part in batches for batch in part],
            num_workers=self.runtime.workers,
            collate_fn=collate_by_shape,
            pin_memory=self.runtime.device.type == "cuda",
            generator=torch.Generator(),  # the loader must not draw from the generator that training uses
        )
        was_training = self.network.training
        self.network.eval()
        started = time.monotonic()
        loaded = self._timed(track(loader, f"features of {name}", total=len(loader)))
        try:
            for part in batches:
                yield self._extract(islice(loaded, len(part)), batch_size)
        finally:
            loaded.close()
            self.elapsed += time.monotonic() - started
            self.network.train(was_training)

    def _timed(self, batches: Iterator[EvalBatch]) -> Generator[EvalBatch, None, None]:
        asked = time.monotonic()
        for batch in batches:
            self.waited += time.monotonic() - asked
            yield batch
            asked = time.monotonic()

    def _extract(self, batches: Iterable[EvalBatch], batch_size: int) -> Extracted:
        """Features of the images of a part, in the order of their positions."""
        found = []
        queue = SameShape(batch_size)
        for batch in batches:
            for unreadable in batch.bad:
                self.bad.add(unreadable)
            for alike in batch.by_shape():
                found += [self._features(ready) for ready in queue.add(alike)]
        found += [self._features(rest) for rest in queue.rest()]
        if not found:
            return Extracted(torch.empty(0, 0), torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64))
        features, labels, indices = (torch.cat(column) for column in zip(*found, strict=True))
        if (indices[1:] > indices[:-1]).all():
            return Extracted(features, labels, indices)  # uncopied
        order = indices.argsort()
        return Extracted(features[order], labels[order], indices[order])

    def _features(self, alike: Alike) -> Extracted:
        features = forward(self.network, alike.images, self.view, self.runtime, at_once=len(alike.images)).cpu()
        if not features.isfinite().all():
            raise RunFailed(
                "the network's features are not finite",
                remedy="Use --precision fp32; if that does not help, its weights are damaged.",
            )
        if features.shape[1] == 0:
            raise RunFailed("the network's features have no dimensions", remedy="Give another network.")
        return Extracted(features, alike.labels, alike.indices)


class SameShape:
    """Collects images until a batch of one shape is full.

    Args:
        batch_size: images of a full batch.
        held_bytes: pixels that may wait; beyond, the shape with the most of them goes first.
    """

    def __init__(self, batch_size: int, held_bytes: int = 2**28) -> None:
        self.batch_size, self.held_bytes = batch_size, held_bytes
        self._waiting: dict[torch.Size, list[Alike]] = {}

    def add(self, alike: Alike) -> Iterator[Alike]:
        """Takes images, and yields the batches that are ready."""
        shape = alike.images.shape[1:]
        waiting = [*self._waiting.pop(shape, []), alike]
        if sum(len(some.images) for some in waiting) >= self.batch_size:
            together = _joined(waiting)
            for start in range(0, len(together.images) - self.batch_size + 1, self.batch_size):
                yield Alike(*(column[start : start + self.batch_size] for column in together))
            rest = len(together.images) % self.batch_size
            waiting = [Alike(*(column[-rest:] for column in together))] if rest else []
        if waiting:
            last = waiting.pop()  # copied: a view would keep the whole of a reader's batch in memory
            self._waiting[shape] = [*waiting, Alike(last.images.clone(), last.labels, last.indices)]
        while sum(map(self._bytes, self._waiting)) > self.held_bytes:
            yield _joined(self._waiting.pop(max(self._waiting, key=self._bytes)))

    def rest(self) -> Iterator[Alike]:
        """What still waits, shape by shape."""
        while self._waiting:
            yield _joined(self._waiting.popitem()[1])

    def _bytes(self, shape: torch.Size) -> int:
        return sum(alike.images.nbytes for alike in self._waiting[shape])


def _joined(parts: list[Alike]) -> Alike:
    return parts[0] if len(parts) == 1 else Alike(*(torch.cat(column) for column in zip(*parts, strict=True)))


def forward(network: nn.Module, images: Tensor, view: View, runtime: Runtime, *, at_once: int) -> Tensor:
    """The features of a batch, in several passes where it is larger than the memory or the caches should hold.

    Args:
        network: a frozen one, so that passes do not see one another: maps (B, 3, H, W) to (B, D).
        images: (B, C, H, W) uint8, or float32 in the files' own range, on the CPU.
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

    Args: as for ``Extractor`` and its ``run``.

    Raises:
        DinotoolsError: more unreadable images than max_bad.
        RunFailed: a feature is not finite, or has no dimensions.
    """
    extractor = Extractor(network, images, runtime, view, max_bad)
    [found] = extractor.run([range(len(images))], batch_size, name)
    return Features((found.features,), found.labels, found.indices, tuple(extractor.bad.names))
