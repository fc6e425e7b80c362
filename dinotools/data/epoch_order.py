"""Which image comes when in a run.

The order is a function of the seed and of the position in the run, so that a run can go on from any step, with any
number of reader processes and of ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from dinotools.runtime.errors import DinotoolsError

Key = tuple[int, int]  # pass through the images, index; no key comes twice in a run


class EpochOrder(Sampler[list[Key]]):
    """Batches of (pass, index) from a given step to the end of the run.

    Every pass through the images is a new permutation. An epoch is one pass, and the first number of a key the epoch,
    unless ``epoch_images`` or ``weights`` say otherwise; then the passes follow one another without regard to where an
    epoch ends, so that over a run all images (of a part) come equally often. Since the keys carry the pass, going once
    through one loader is the whole run, and reader processes live from its first step to its last.

    Args:
        n_images: images in the data set.
        batch_size: images per step over all ranks, at most those of an epoch if incomplete batches are dropped.
        epochs: epochs of the run.
        seed: of the permutations.
        start: first step, counted from the beginning of the run.
        drop_last: whether the incomplete batch at the end of an epoch is dropped, or is a smaller step.
        epoch_images: images that count as an epoch; None for n_images.
        parts: images of each part of the data set, in its order, n_images in all.
        weights: share of every epoch that each part gives; None for one stream of all images.
        rank: which slice of every batch to yield: those of ranks 0, 1, ... one after the other are the batch.
        world_size: number of ranks.

    Raises:
        DinotoolsError: the weights do not fit the parts, or batch_size is no multiple of world_size.
    """

    def __init__(
        self,
        n_images: int,
        batch_size: int,
        epochs: int,
        seed: int,
        start: int = 0,
        drop_last: bool = True,
        *,
        epoch_images: int | None = None,
        parts: Sequence[int] | None = None,
        weights: Sequence[float] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size % world_size:
            what = f"{batch_size} images cannot be shared equally by {world_size} processes"
            raise DinotoolsError(what, "--batch-size", f"Use a multiple of {world_size}.")
        self.batch_size, self.epochs, self.seed, self.start = batch_size, epochs, seed, start
        self.rank, self.world_size = rank, world_size
        self.epoch_images = n_images if epoch_images is None else epoch_images
        full, rest = divmod(self.epoch_images, batch_size)
        self.steps_per_epoch = full if drop_last else full + (rest > 0)
        if weights:
            sizes = [n_images] if parts is None else parts
            self._quotas = quotas(weights, len(sizes), self.epoch_images)
            firsts = np.cumsum([0, *sizes[:-1]]).tolist()
            self._streams = [
                _Stream(seed, (part + 1,), first, size)
                for part, (first, size) in enumerate(zip(firsts, sizes, strict=True))
            ]
        else:
            self._quotas = [self.epoch_images]
            self._streams = [_Stream(seed, (), 0, n_images)]

    def __len__(self) -> int:
        """Steps that are left."""
        return self.epochs * self.steps_per_epoch - self.start

    def __iter__(self) -> Iterator[list[Key]]:
        """Yields one list of keys per step."""
        first_epoch, skipped = divmod(self.start, self.steps_per_epoch)
        for epoch in range(first_epoch, self.epochs):
            for batch in self._epoch(epoch, skipped):
                mine = slice(*(len(batch) * rank // self.world_size for rank in (self.rank, self.rank + 1)))
                yield batch[mine]
            skipped = 0

    def _epoch(self, epoch: int, skipped: int) -> Iterator[list[Key]]:
        """The whole batches of an epoch from a step on."""
        part_of = self._interleaved(epoch)
        before = np.bincount(part_of[: skipped * self.batch_size], minlength=len(self._quotas))
        cursors = [epoch * quota + int(n) for quota, n in zip(self._quotas, before, strict=True)]
        for step in range(skipped, self.steps_per_epoch):
            batch = []
            for part in part_of[step * self.batch_size : (step + 1) * self.batch_size].tolist():
                batch.append(self._streams[part].key(cursors[part]))
                cursors[part] += 1
            yield batch

    def _interleaved(self, epoch: int) -> np.ndarray:
        """Which part gives each image of an epoch: (epoch_images,) int16."""
        part_of = np.repeat(np.arange(len(self._quotas), dtype=np.int16), self._quotas)
        if len(self._quotas) > 1:
            np.random.default_rng((self.seed, epoch, len(self._quotas) + 1)).shuffle(part_of)
        return part_of


class _Stream:
    """One permutation of some images after the other, without end.

    Args:
        seed: of all permutations; that of a pass is of (seed, number of the pass, *salt).
        salt: what tells several streams of one seed apart.
        first: index of the first image.
        size: number of images.
    """

    def __init__(self, seed: int, salt: tuple[int, ...], first: int, size: int) -> None:
        self._seed, self._salt, self._first, self._size = seed, salt, first, size
        self._pass = -1
        self._order = np.empty(0, dtype=np.int64)

    def key(self, position: int) -> Key:
        """(pass, index) at a position of the stream."""
        number, place = divmod(position, self._size)
        if number != self._pass:
            self._order = np.random.default_rng((self._seed, number, *self._salt)).permutation(self._size)
            self._pass = number
        return number, self._first + int(self._order[place])


def quotas(weights: Sequence[float], parts: int, images: int) -> list[int]:
    """Divides the images of an epoch among the parts: rounded down, and what is left to the largest remainders.

    Args:
        weights: of each part, in any unit.
        parts: number of parts.
        images: to be divided; the sum of the quotas.

    Raises:
        DinotoolsError: not one weight per part, one that is not above 0, or a part that gets no image.
    """
    option = "--data-weights"
    if len(weights) != parts:
        what = f"{len(weights)} weights for {parts} {'part' if parts == 1 else 'parts'} of --data"
        raise DinotoolsError(what, option, "Give one weight for each of the folders, lists or sets that commas join.")
    shares = np.asarray(weights, dtype=np.float64)
    if not (np.isfinite(shares).all() and (shares > 0).all()):
        raise DinotoolsError("every weight must be a number above 0", option, "Leave out what shall not come at all.")
    exact = shares / shares.sum() * images
    whole = np.floor(exact).astype(np.int64)
    largest = np.argsort(whole - exact, kind="stable")[: images - int(whole.sum())]
    whole[largest] += 1
    if not whole.all():
        part = int(np.argmin(whole)) + 1
        what = f"part {part} of --data gives none of the {images:,} images of an epoch"
        raise DinotoolsError(what, option, "Give it a larger weight, or raise --epoch-images.")
    return whole.tolist()
