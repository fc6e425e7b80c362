from itertools import chain, pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from dinotools.configs.finetuning import FinetuneConfig
from dinotools.data.epoch_order import EpochOrder
from dinotools.evaluation.finetuning.recipe import Mixing, RepeatedOrder, training_view


def config(**options) -> FinetuneConfig:
    return FinetuneConfig(out="unused", **options)


@given(st.data())
def test_batches_hold_several_views_of_few_images_and_no_view_twice(data):
    n = data.draw(st.integers(1, 40))
    batch_size = data.draw(st.integers(1, n))
    repeats = data.draw(st.integers(1, batch_size))
    epochs = data.draw(st.integers(1, 5))
    order = RepeatedOrder(n, batch_size, epochs, seed=3, repeats=repeats)
    batches = list(order)
    assert len(batches) == len(order) == epochs * (n // batch_size)
    assert {len(batch) for batch in batches} == {batch_size}
    keys = list(chain(*batches))
    assert len(set(keys)) == len(keys)
    distinct = -(-batch_size // repeats)
    assert {len({index for _, index in batch}) for batch in batches} == {distinct}
    for batch in batches:  # neighbours are different images, where there are two
        assert distinct == 1 or all(a[1] != b[1] for a, b in pairwise(batch))


def test_without_repetition_it_is_the_usual_order():
    assert list(RepeatedOrder(10, 4, 3, seed=1, repeats=1)) == list(EpochOrder(10, 4, 3, seed=1))


@pytest.mark.parametrize("repeats", [1, 2, 3])
def test_from_an_epoch_on_it_is_the_end_of_the_whole(repeats):
    whole = list(RepeatedOrder(11, 4, 5, seed=1, repeats=repeats))
    rest = RepeatedOrder(11, 4, 5, seed=1, repeats=repeats, start=3)
    assert list(rest) == whole[3 * 2 :]
    assert len(rest) == 4


def test_every_image_comes_equally_often_in_as_many_epochs_as_repeats():
    keys = list(chain(*RepeatedOrder(12, 6, 3, seed=0, repeats=3)))
    assert sorted(index for _, index in keys) == sorted(list(range(12)) * 3)


def test_magnitudes_are_on_timms_scale_of_ten():
    randaugment = training_view(config()).transform.transforms[-1]
    strengths = {
        name: float(space(randaugment.num_magnitude_bins, 224, 224)[randaugment.magnitude])
        for name, (space, _) in randaugment._AUGMENTATION_SPACE.items()
        if name in ("Rotate", "ShearX", "Brightness")
    }
    assert strengths == pytest.approx({"Rotate": 27.0, "ShearX": 0.27, "Brightness": 0.81})  # nine tenths of the most


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 4, 0])


def test_nothing_is_done_where_nothing_is_asked_for():
    images, labels = batch()
    mixed, targets = Mixing(config(erasing=0.0, mixup=0.0, cutmix=0.0), 5)(images, labels)
    assert mixed is images and targets is labels


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0)])
def test_labels_are_mixed_as_the_images(mixup, cutmix):
    images, labels = batch()
    torch.manual_seed(5)
    mixed, targets = Mixing(config(erasing=0.0, mixup=mixup, cutmix=cutmix), 5)(images, labels)
    share = targets[1, 1].item()  # the neighbour of image 1 is of another class
    assert 0 < share < 1
    torch.testing.assert_close(targets, share * F.one_hot(labels, 5) + (1 - share) * F.one_hot(labels.roll(1), 5))
    if mixup:
        torch.testing.assert_close(mixed, share * images + (1 - share) * images.roll(1, 0))
    else:
        own = (mixed == images).all(dim=1)  # pixel by pixel, the one image or the other
        assert (own | (mixed == images.roll(1, 0)).all(dim=1)).all()
        assert own.float().mean().item() == pytest.approx(share)


def test_both_mixers_take_turns():
    mixing = Mixing(config(erasing=0.0), 5)
    images, labels = batch()
    kinds = set()
    for seed in range(8):
        torch.manual_seed(seed)
        mixed, _ = mixing(images, labels)
        kinds.add(bool((mixed == images).any()))
    assert kinds == {True, False}


def test_every_image_is_erased_at_its_own_place():
    images = torch.full((32, 3, 16, 16), 7.0)
    torch.manual_seed(0)
    erased, _ = Mixing(config(erasing=0.5, mixup=0.0, cutmix=0.0), 5)(images, torch.zeros(32, dtype=torch.int64))
    places = (erased != 7.0).all(dim=1)
    changed = places.flatten(1).any(dim=1)
    assert 8 < changed.sum() < 24
    assert len({place.numpy().tobytes() for place in places[changed]}) > 5
    assert (images == 7.0).all()


def test_chance_is_that_of_torchs_generator():
    mixing = Mixing(config(erasing=0.5), 5)
    images, labels = batch()
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(mixing(images, labels)[0])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_smoothing_a_mixture_is_mixing_smoothed_labels():
    labels, smoothing, share, n = torch.tensor([0, 1, 2, 3]), 0.1, 0.3, 5
    logits = torch.randn(4, n, generator=torch.Generator().manual_seed(0))
    smooth = torch.full((4, n), smoothing / n).scatter_(1, labels[:, None], 1 - smoothing + smoothing / n)
    wanted = -((share * smooth + (1 - share) * smooth.roll(1, 0)) * logits.log_softmax(dim=1)).sum(dim=1).mean()
    mixture = share * F.one_hot(labels, n) + (1 - share) * F.one_hot(labels.roll(1), n)
    torch.testing.assert_close(F.cross_entropy(logits, mixture, label_smoothing=smoothing), wanted)
