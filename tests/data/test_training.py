from collections import Counter
from random import Random

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from dinotools.data.augment import MultiCrop
from dinotools.data.images import UnreadableImage
from dinotools.data.training import SingleView, TrainingImages, collate_crops, finish


class Numbered:
    """A source whose image i is of colour i, save for those that cannot be read."""

    labels = classes = None

    def __init__(self, n: int, bad: tuple[int, ...] = ()) -> None:
        self.n, self.bad, self.opened = n, bad, Counter()

    def __len__(self) -> int:
        return self.n

    def name(self, index: int) -> str:
        return f"{index}.jpg"

    def load(self, index: int) -> Image.Image:
        self.opened[index] += 1
        if index in self.bad:
            raise UnreadableImage(self.name(index), "torn")
        rng = np.random.RandomState(index)
        return Image.fromarray(rng.randint(0, 256, (40, 40, 3)).astype(np.uint8))


def equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_crops_depend_on_seed_epoch_and_index_alone():
    def crops(seed: int, epoch: int, index: int) -> list[torch.Tensor]:
        return TrainingImages(Numbered(10), MultiCrop((16, 16, 8, 8)), seed)[epoch, index].crops

    first = crops(0, 3, 4)
    torch.rand(5)
    assert equal(first, crops(0, 3, 4))
    for other in ((1, 3, 4), (0, 4, 4), (0, 3, 5), (0, 4, 3)):
        assert not equal(first, crops(*other))


def test_worker_processes_change_nothing():
    images = TrainingImages(Numbered(12, bad=(5,)), MultiCrop((16, 16, 8, 8)), seed=7)
    keys = [[(epoch, index) for index in range(start, start + 4)] for epoch in range(2) for start in (0, 4, 8)]
    one, many = (
        list(DataLoader(images, batch_sampler=keys, num_workers=workers, collate_fn=collate_crops))
        for workers in (0, 2)
    )
    assert len(one) == 6
    for a, b in zip(one, many, strict=True):
        assert equal(a.crops, b.crops)
        assert torch.equal(a.indices, b.indices)
        assert [str(bad) for bad in a.bad] == [str(bad) for bad in b.bad]
    assert [len(batch.bad) for batch in one] == [0, 1, 0, 0, 1, 0]
    assert one[1].indices.tolist() == [4, 6, 6, 7]
    assert [tuple(crop.shape) for crop in one[0].crops] == [(4, 3, 16, 16)] * 2 + [(4, 3, 8, 8)] * 2


def test_where_crops_are_finished_changes_nothing():
    keys = [[(0, index) for index in range(start, start + 4)] for start in (0, 4)]
    sizes = (16, 16, 8, 8, 12)
    here, there = (
        list(
            DataLoader(
                TrainingImages(Numbered(8), MultiCrop(sizes, finish=finished), seed=7),
                batch_sampler=keys,
                num_workers=workers,
                collate_fn=collate_crops,
            )
        )
        for finished, workers in ((True, 0), (False, 1))
    )
    for a, b in zip(here, there, strict=True):
        assert a.photometrics is None
        assert b.photometrics.shape[:2] == (5, 4)
        assert equal(a.crops, finish(b, torch.device("cpu")))
        assert equal(a.crops, finish(a, torch.device("cpu")))
        assert not equal(a.crops, b.crops)


def test_the_next_readable_image_takes_the_place_of_an_unreadable_one():
    source = Numbered(6, bad=(1, 2, 5))
    images = TrainingImages(source, MultiCrop((8, 8, 4)), seed=0)
    for epoch in range(3):
        sample = images[epoch, 1]
        assert sample.index == 3
        assert [bad.path for bad in sample.bad] == ["1.jpg", "2.jpg"]
    assert images[0, 5].index == 0  # round the end
    assert images[0, 4].bad == []
    assert source.opened[1] == source.opened[2] == 1  # not again in every epoch
    assert not equal(images[0, 1].crops, images[0, 3].crops)  # the stand-in is cut in its own way


def test_a_source_without_any_readable_image_gives_no_crops_and_every_reason():
    images = TrainingImages(Numbered(3, bad=(0, 1, 2)), MultiCrop((8, 8, 4)), seed=0)
    batch = collate_crops([images[0, 1], images[0, 2]])
    assert batch.crops == []
    assert {bad.path for bad in batch.bad} == {"0.jpg", "1.jpg", "2.jpg"}


def test_a_single_view_takes_all_chance_from_its_generator() -> None:
    image = Image.fromarray(np.random.RandomState(0).randint(0, 256, (40, 48, 3)).astype(np.uint8))
    view = SingleView(v2.Compose([v2.RandomResizedCrop(24), v2.RandomHorizontalFlip()]))
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    (first,) = view(image, Random(5))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(first, view(image, Random(5))[0])
    assert not torch.equal(first, view(image, Random(6))[0])
    assert first.shape == (3, 24, 24)
    assert first.dtype == torch.uint8
