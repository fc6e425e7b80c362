from collections import Counter
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dinotools.data.epoch_order import EpochOrder, quotas
from dinotools.runtime.errors import DinotoolsError


def plain_order(n_images: int, batch_size: int, epochs: int, seed: int) -> list[list[tuple[int, int]]]:
    """The order of runs without any option, which checkpoints of earlier versions go on with."""
    batches = []
    for epoch in range(epochs):
        order = np.random.default_rng((seed, epoch)).permutation(n_images).tolist()
        whole = n_images - n_images % batch_size
        batches += [[(epoch, i) for i in order[at : at + batch_size]] for at in range(0, whole, batch_size)]
    return batches


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 4), st.integers(0, 9))
def test_without_options_an_epoch_is_one_permutation(n_images, batch_size, epochs, seed):
    batch_size = min(batch_size, n_images)
    order = EpochOrder(n_images, batch_size, epochs, seed)
    assert list(order) == plain_order(n_images, batch_size, epochs, seed)
    assert list(EpochOrder(n_images, batch_size, epochs, seed, epoch_images=n_images)) == list(order)
    assert len(order) == epochs * order.steps_per_epoch == epochs * (n_images // batch_size)


@st.composite
def orders(draw) -> dict:
    """Arguments of an order with any of its options."""
    parts = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    weights = draw(st.none() | st.lists(st.integers(1, 3), min_size=len(parts), max_size=len(parts)))
    epoch_images = draw(st.none() | st.integers(12, 60))
    at_least = max(12, sum(parts)) if weights else 1
    options = {"parts": parts, "weights": weights, "epoch_images": epoch_images}
    if weights and epoch_images is None:
        options["epoch_images"] = at_least
    images = options["epoch_images"] or sum(parts)
    return {
        "n_images": sum(parts),
        "batch_size": draw(st.integers(1, images)),
        "epochs": draw(st.integers(1, 5)),
        "seed": draw(st.integers(0, 5)),
        "drop_last": draw(st.booleans()),
        **options,
    }


@settings(max_examples=50)
@given(orders(), st.data())
def test_a_resumed_run_sees_what_was_left(options, data):
    whole = list(EpochOrder(**options))
    start = data.draw(st.integers(0, len(whole)))
    rest = EpochOrder(**options, start=start)
    assert list(rest) == whole[start:]
    assert len(rest) == len(whole) - start


@settings(max_examples=50)
@given(orders(), st.integers(1, 4))
def test_the_ranks_together_take_the_batches_of_one_process(options, world_size):
    options["batch_size"] = -(-options["batch_size"] // world_size) * world_size
    if options["batch_size"] > (options["epoch_images"] or options["n_images"]):
        options["drop_last"] = False
    ranks = [list(EpochOrder(**options, rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert [list(chain(*slices)) for slices in zip(*ranks, strict=True)] == list(EpochOrder(**options))
    share = options["batch_size"] // world_size
    if options["drop_last"]:
        assert all(len(batch) == share for batches in ranks for batch in batches)


@settings(max_examples=50)
@given(orders())
def test_no_key_comes_twice_and_all_images_come_equally_often(options):
    options["drop_last"] = False
    keys = [key for batch in EpochOrder(**options) for key in batch]
    assert len(set(keys)) == len(keys)
    assert all(type(value) is int for key in keys for value in key)
    counts = Counter(index for _, index in keys)
    assert set(counts) <= set(range(options["n_images"]))
    first = 0
    for size in options["parts"] if options["weights"] else [options["n_images"]]:
        of_part = [counts[index] for index in range(first, first + size)]
        assert max(of_part) - min(of_part) <= 1
        first += size


@settings(max_examples=50)
@given(orders())
def test_every_epoch_gives_each_part_its_quota(options):
    options["drop_last"], options["weights"] = False, options["weights"] or [1] * len(options["parts"])
    options["epoch_images"] = options["epoch_images"] or max(12, options["n_images"])
    options["batch_size"] = min(options["batch_size"], options["epoch_images"])
    order = EpochOrder(**options)
    batches = list(order)
    expected = quotas(options["weights"], len(options["parts"]), options["epoch_images"])
    ends = np.cumsum(options["parts"])
    for epoch in range(options["epochs"]):
        steps = batches[epoch * order.steps_per_epoch : (epoch + 1) * order.steps_per_epoch]
        indices = [index for batch in steps for _, index in batch]
        assert np.bincount(np.searchsorted(ends, indices, side="right"), minlength=len(ends)).tolist() == expected


def test_parts_are_mixed_within_an_epoch_and_streams_differ():
    batches = list(EpochOrder(40, 20, 2, seed=3, epoch_images=40, parts=[20, 20], weights=[1, 1]))
    from_first = [sum(index < 20 for _, index in batch) for batch in batches]
    assert all(3 < n < 17 for n in from_first)
    first = [index for batch in batches[:2] for _, index in batch if index < 20]
    second = [index - 20 for batch in batches[:2] for _, index in batch if index >= 20]
    again = [index for batch in batches[2:] for _, index in batch if index < 20]
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second
    assert first != again


def test_short_epochs_go_on_where_the_last_one_ended():
    keys = [key for batch in EpochOrder(10, 4, 5, seed=1, epoch_images=4) for key in batch]
    assert [number for number, _ in keys] == [0] * 10 + [1] * 10
    assert sorted(index for _, index in keys[:10]) == list(range(10))


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=6), st.integers(600, 5000))
def test_quotas_are_the_nearest_whole_shares(weights, images):
    found = quotas(weights, len(weights), images)
    assert sum(found) == images
    assert all(abs(quota - images * w / sum(weights)) < 1 for quota, w in zip(found, weights, strict=True))


@pytest.mark.parametrize(
    ("weights", "what"),
    [
        ([1.0], "1 weights for 2 parts"),
        ([1.0, 0.0], "above 0"),
        ([1.0, -1.0], "above 0"),
        ([1.0, float("nan")], "above 0"),
        ([1.0, 1e-9], "part 2 of --data gives none of the 10 images"),
    ],
)
def test_weights_that_do_not_fit(weights, what):
    with pytest.raises(DinotoolsError, match=what) as caught:
        EpochOrder(10, 2, 1, seed=0, parts=[5, 5], weights=weights)
    assert caught.value.where == "--data-weights"


def test_a_batch_that_the_ranks_cannot_share():
    with pytest.raises(DinotoolsError, match="10 images cannot be shared equally by 4"):
        EpochOrder(20, 10, 1, seed=0, world_size=4)
