"""Images on their way into training: which comes when, and its random views.

Chance is a function of the seed and of the position in the run, so that a run can go on from any step, with any
number of reader processes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from random import Random
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from dinotools.data import photometric
from dinotools.data.augment import Unfinished
from dinotools.data.images import ImageSource, UnreadableImage
from dinotools.data.transforms import to_uint8_tensor

Views = Callable[[Any, Random], list[Tensor] | Unfinished]  # of what the source loads


@dataclass(frozen=True)
class CropSample:
    """The crops of one image, its index, and what could not be read on the way to it.

    Args:
        crops: each (channels, size, size) uint8, or float32 where the images are.
        index: of the image.
        bad: unreadable images.
        photometrics: (crops, photometric.COLUMNS) of unfinished crops, or None.
    """

    crops: list[Tensor]
    index: int
    bad: list[UnreadableImage]
    photometrics: Tensor | None = None


class CropBatch(NamedTuple):
    """The crops of some images.

    Args:
        crops: one tensor (B, channels, size, size) per crop, uint8, or float32 where the images are.
        indices: (B,) int64.
        bad: the unreadable images met.
        photometrics: (crops, B, photometric.COLUMNS) float64 of crops that ``finish`` will finish, or None.
    """

    crops: list[Tensor]
    indices: Tensor
    bad: list[UnreadableImage]
    photometrics: Tensor | None = None


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
                views = self.transform(image, rng)
                if isinstance(views, Unfinished):
                    return CropSample(views.crops, index, bad, views.photometrics)
                return CropSample(views, index, bad)
            bad.append(image)
        return CropSample([], wanted, bad)

    def _load(self, index: int) -> Any:
        if index not in self._bad:
            try:
                return self.source.load(index)
            except UnreadableImage as error:
                self._bad[index] = UnreadableImage(*error.args)  # a traceback would keep the pixels alive
        return self._bad[index]


def collate_crops(samples: list[CropSample]) -> CropBatch:
    """Stacks samples crop by crop."""
    tables = [sample.photometrics for sample in samples if sample.photometrics is not None]
    return CropBatch(
        crops=default_collate([sample.crops for sample in samples]),
        indices=torch.tensor([sample.index for sample in samples]),
        bad=[image for sample in samples for image in sample.bad],
        photometrics=torch.stack(tables, dim=1) if tables else None,
    )


def finish(batch: CropBatch, device: torch.device) -> list[Tensor]:
    """Moves the crops to a device and computes there what is left to compute, all crops of one size at once.

    Nothing waits for the device.

    Returns:
        One tensor (B, channels, size, size) per crop, of the type that the batch has.
    """
    crops = [crop.to(device, non_blocking=True) for crop in batch.crops]
    if batch.photometrics is None:
        return crops
    tables = batch.photometrics.tolist()
    finished: list[Tensor] = []
    for _, group in groupby(crops, key=lambda crop: crop.shape):
        run = list(group)
        table = [row for rows in tables[len(finished) : len(finished) + len(run)] for row in rows]
        finished += photometric.apply(torch.cat(run), table).chunk(len(run))
    return finished


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
