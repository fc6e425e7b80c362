"""Which image comes when: a function of seed, epoch and position alone, so that a run can go on from any step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class EpochOrder(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) from a given step to the end of the run.

    Every epoch is a new permutation; the incomplete batch at its end is dropped. Since the keys carry the epoch, one
    pass over one loader is the whole run, and reader processes live from its first step to its last.

    Args:
        n_images: images in the data set.
        batch_size: images per step, at most n_images.
        epochs: epochs of the run.
        seed: of the permutations.
        start: first step, counted from the beginning of the run.
    """

    def __init__(self, n_images: int, batch_size: int, epochs: int, seed: int, start: int = 0) -> None:
        self.n_images = n_images
        self.batch_size = batch_size
        self.epochs = epochs
        self.seed = seed
        self.start = start
        self.steps_per_epoch = n_images // batch_size

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
