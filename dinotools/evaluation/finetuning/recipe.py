"""DeiT's recipe: in which order images come, and what is done to them and their labels before the network sees them.

Source: Touvron et al. 2021 (arXiv 2012.12877), Table 9 and the defaults of its ``main.py``. Everything is
torchvision's. Its RandAugment differs from timm's ``rand-m9-mstd0.5-inc1`` of the paper: both choose two operations and
are put on the same scale of 0 to 10 here, with the same ranges but for posterising (never below 4 bits); but timm's
applies each with probability one half and a magnitude that varies by 0.5, and knows SolarizeAdd and Invert.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor
from torch.utils.data import Sampler
from torchvision.transforms import InterpolationMode, v2

from dinotools.configs.finetuning import FinetuneConfig
from dinotools.configs.normalization import IMAGENET_MEAN
from dinotools.data.epoch_order import EpochOrder
from dinotools.data.training import SingleView

MAGNITUDES = 11  # 0 to 10, as timm counts; torchvision's own 31 would make of 9 a third of the strength
GRAY = [round(255 * value) for value in IMAGENET_MEAN]  # what comes into view when an image is turned or shifted


class RepeatedOrder(Sampler[list[tuple[int, int]]]):
    """Batches of (view, index) in which every image comes several times, from a given epoch to the end of the run.

    An epoch is as many steps as without repetition, so one pass over all images takes ``repeats`` epochs; DeiT shuffles
    anew after each epoch and leaves the other images out. The views of an image stand far apart in the batch, since
    mixing joins neighbours. With repeats = 1 this is an ``EpochOrder``.

    Args:
        n_images: images in the data set.
        batch_size: images per step, at most n_images.
        epochs: epochs of the run.
        seed: of the permutations.
        repeats: views of each image.
        start: first epoch.
    """

    def __init__(self, n_images: int, batch_size: int, epochs: int, seed: int, repeats: int, start: int = 0) -> None:
        self.batch_size, self.repeats = batch_size, repeats
        self.steps_per_epoch = n_images // batch_size
        self.left = (epochs - start) * self.steps_per_epoch
        distinct = -(-batch_size // repeats)
        # epochs: passes that suffice for the whole run, however many steps one takes
        self.distinct = EpochOrder(n_images, distinct, epochs, seed, start * self.steps_per_epoch)

    def __len__(self) -> int:
        """Steps that are left."""
        return self.left

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Yields one list of keys per step; no key comes twice in a run."""
        for batch in islice(self.distinct, self.left):
            views = [(one_pass * self.repeats + r, index) for r in range(self.repeats) for one_pass, index in batch]
            yield views[: self.batch_size]


def training_view(config: FinetuneConfig) -> SingleView:
    """A random crop of --crop-size, mirrored or not, with RandAugment's colours and distortions."""
    steps = [
        v2.RandomResizedCrop(config.crop_size, scale=config.crop_scale, interpolation=InterpolationMode.BICUBIC),
        v2.RandomHorizontalFlip(),
        v2.RandAugment(
            config.randaugment_ops, config.randaugment_magnitude, MAGNITUDES, InterpolationMode.BILINEAR, fill=GRAY
        ),
    ]
    return SingleView(v2.Compose(steps))


class Mixing:
    """Random erasing of each image, then mixup or cutmix of the batch. All chance comes from torch's CPU generator.

    Args:
        config: probability of erasing, and the two alphas.
        n_classes: C.
    """

    def __init__(self, config: FinetuneConfig, n_classes: int) -> None:
        self.erase = v2.RandomErasing(config.erasing, value="random") if config.erasing else None
        mixers = [
            kind(alpha=alpha, num_classes=n_classes)
            for kind, alpha in ((v2.MixUp, config.mixup), (v2.CutMix, config.cutmix))
            if alpha
        ]
        self.mix = v2.RandomChoice(mixers) if mixers else None

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised images (B, 3, H, W) and labels (B,) int64 -> images, and labels or their mixtures (B, C)."""
        if self.erase is not None:  # image by image: torchvision would erase the same place of the whole batch
            images = torch.stack([self.erase(image) for image in images])
        return (images, labels) if self.mix is None else self.mix(images, labels)
