"""Images on their way into training: which comes when, and its random views.

Chance is a function of the seed and of the position in the run, so that a run can go on from any step, with any
number of reader processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler, default_collate

from dinotools.data.images import ImageSource, UnreadableImage
from dinotools.data.transforms import to_uint8_tensor

Views = Callable[[Image.Image, Random], list[Tensor]]


class EpochOrder(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) from a given step to the end of the run.

    Every epoch is a new permutation. Since the keys carry the epoch, one pass over one loader is the whole run, and
    reader processes live from its first step to its last.

    Args:
        n_images: images in the data set.
        batch_size: images per step, at most n_images if incomplete batches are dropped.
        epochs: epochs of the run.
        seed: of the permutations.
        start: first step, counted from the beginning of the run.
        drop_last: whether the incomplete batch at the end of an epoch is dropped, or is a smaller step.
    """

    def __init__(
        self, n_images: int, batch_size: int, epochs: int, seed: int, start: int = 0, drop_last: bool = True
    ) -> None:
        self.n_images = n_images
        self.batch_size = batch_size
        self.epochs = epochs
        self.seed = seed
        self.start = start
        self.steps_per_epoch = n_images // batch_size if drop_last else -(-n_images // batch_size)

    def __len__(self) -> int:
        """Steps that are left."""
        return self.epochs * self.steps_per_epoch - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Yields one list of keys per step."""
        first_epoch, skipped = divmod(self.start, self.steps_per_epoch)
        for epoch in range(first_epoch, self.epochs):
            order = np.random.default_rng((self.seed, epoch)).permutation(self.n_images)
            for step in range(skipped, self.steps_per_epoch):
                batch = order[step * self.batch_size : (step + 1) * self.batch_size]
                yield [(epoch, int(index)) for index in batch]
            skipped = 0


@dataclass(frozen=True)
class CropSample:
    """The crops of one image (each (3, size, size) uint8), its index, and what could not be read on the way to it."""

    crops: list[Tensor]
    index: int
    bad: list[UnreadableImage]


class CropBatch(NamedTuple):
    """One uint8 tensor (B, 3, size, size) per crop, indices (B,) int64, and the unreadable images met."""

    crops: list[Tensor]
    indices: Tensor
    bad: list[UnreadableImage]


class TrainingImages(Dataset[CropSample]):
    """Training views of the images of a source, asked for by (epoch, index).

    Chance depends on seed, epoch and index alone: neither the number of worker processes nor a resumed run changes a
    crop. In place of an unreadable image comes the next readable one, together with a report.

    Args:
        source: the images.
        transform: makes the views of an image, such as ``MultiCrop`` or ``views.SingleView``; draws from the generator
            it is given and from nothing else.
        seed: of all crops.
    """

    def __init__(self, source: ImageSource, transform: Views, seed: int) -> None:
        self.source, self.transform, self.seed = source, transform, seed
        self._bad: dict[int, UnreadableImage] = {}  # opened once per process, reported every time

    def __len__(self) -> int:
        """Number of images."""
        return len(self.source)

    def __getitem__(self, key: tuple[int, int]) -> CropSample:
        """The crops of image ``index`` in epoch ``epoch``, key = (epoch, index); none if no image can be read."""
        epoch, wanted = key
        bad: list[UnreadableImage] = []
        for offset in range(len(self)):
            index = (wanted + offset) % len(self)
            image = self._load(index)
            if not isinstance(image, UnreadableImage):
                rng = Random(f"{self.seed} {epoch} {wanted}")
                return CropSample(self.transform(image, rng), index, bad)
            bad.append(image)
        return CropSample([], wanted, bad)

    def _load(self, index: int) -> Image.Image | UnreadableImage:
        if index not in self._bad:
            try:
                return self.source.load(index)
            except UnreadableImage as error:
                self._bad[index] = UnreadableImage(*error.args)  # a traceback would keep the pixels alive
        return self._bad[index]


def collate_crops(samples: list[CropSample]) -> CropBatch:
    """Stacks samples crop by crop."""
    return CropBatch(
        crops=default_collate([sample.crops for sample in samples]),
        indices=torch.tensor([sample.index for sample in samples]),
        bad=[image for sample in samples for image in sample.bad],
    )


class SingleView:
    """One training view of an image, made by a transform that draws from torch's generator, as torchvision's do.

    Args:
        transform: RGB image -> RGB image, such as a ``torchvision.transforms.v2.Compose``.
    """

    def __init__(self, transform: Callable[[Image.Image], Image.Image]) -> None:
        self.transform = transform

    def __call__(self, image: Image.Image, rng: Random) -> list[Tensor]:
        """RGB image -> [(3, height, width) uint8]; all chance comes from rng."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(rng.getrandbits(63))
            return [to_uint8_tensor(self.transform(image))]
