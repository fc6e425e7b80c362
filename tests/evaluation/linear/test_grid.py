"""A grid of classifiers trained at once against each one trained alone by torch."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dinotools.evaluation.linear.cached import Cell, choose, columns_of
from dinotools.evaluation.linear.grid import Heads, batches, train
from dinotools.features.pooling import Pooling
from dinotools.runtime.errors import RunFailed

EPOCHS, BATCH = 4, 32


@pytest.fixture(scope="module")
def task():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(5, (100,), generator=generator)
    centres = torch.randn(5, 12, generator=generator, dtype=torch.float64)
    return centres[labels] + torch.randn(100, 12, generator=generator, dtype=torch.float64), labels


def in_double(heads: Heads) -> Heads:
    heads.weight, heads.bias, heads.lrs = heads.weight.double(), heads.bias.double(), heads.lrs.double()
    heads.velocities = torch.zeros_like(heads.weight), torch.zeros_like(heads.bias)
    return heads


def trained_alone(weight, bias, features, labels, positions, lr):
    """What torch's own layer, optimizer and schedule make of the same batches."""
    layer = nn.Linear(*reversed(weight.shape), dtype=torch.float64)
    layer.load_state_dict({"weight": weight, "bias": bias})
    optimizer = torch.optim.SGD(layer.parameters(), lr=lr, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS, eta_min=0)
    for epoch in range(EPOCHS):
        for rows in batches(positions, BATCH, seed=3, epoch=epoch):
            optimizer.zero_grad()
            F.cross_entropy(layer(features[rows]), labels[rows]).backward()
            optimizer.step()
        schedule.step()
    return layer


def test_every_head_equals_one_trained_alone(task):
    features, labels = task
    positions = torch.arange(100)[torch.arange(100) % 10 > 0]  # 90 rows: the last batch is smaller
    lrs, slices = (0.01, 0.3, 2.0), (slice(0, 12), slice(4, 8))
    grid = [in_double(Heads(columns, 5, lrs, seed=1)) for columns in slices]
    initial = [heads.head(0) for heads in grid]
    initial = [(weight.clone(), bias.clone()) for weight, bias in initial]
    train(grid, features, labels, positions, epochs=EPOCHS, batch_size=BATCH, seed=3)
    for heads, columns, start in zip(grid, slices, initial, strict=True):
        accuracies = heads.accuracies(features, labels)
        for i, lr in enumerate(torch.tensor(lrs).tolist()):  # the rates as float32 holds them
            alone = trained_alone(*start, features[:, columns], labels, positions, lr)
            weight, bias = heads.head(i)
            torch.testing.assert_close(weight, alone.weight.detach(), rtol=0, atol=1e-9)
            torch.testing.assert_close(bias, alone.bias.detach(), rtol=0, atol=1e-9)
            hits = alone(features[:, columns]).argmax(dim=1) == labels
            assert accuracies[i] == pytest.approx(100 * hits.double().mean().item())
    assert not torch.allclose(grid[0].head(0)[0], grid[0].head(2)[0], atol=0.1)


def test_a_diverged_head_leaves_the_others_alone(task):
    features, labels = task[0].float(), task[1]
    alone, beside = Heads(slice(0, 12), 5, (0.1,), seed=1), Heads(slice(0, 12), 5, (1e38, 0.1), seed=1)
    for heads in (alone, beside):
        train([heads], features, labels, torch.arange(100), epochs=EPOCHS, batch_size=BATCH, seed=3)
    assert beside.diverged() == [True, False]
    torch.testing.assert_close(beside.head(1)[0], alone.head(0)[0], rtol=1e-6, atol=1e-6)
    assert beside.accuracies(features, labels)[1] == pytest.approx(alone.accuracies(features, labels)[0])


def test_one_order_of_batches_per_epoch_covers_every_position_once():
    positions = torch.arange(5, 28)
    first, again, second = (batches(positions, 8, seed=2, epoch=epoch) for epoch in (0, 0, 1))
    assert [len(batch) for batch in first] == [8, 8, 7]
    assert sorted(torch.cat(first).tolist()) == positions.tolist()
    assert torch.equal(torch.cat(first), torch.cat(again))
    assert not torch.equal(torch.cat(first), torch.cat(second))


def test_steps_on_the_device_of_the_weights(fake_cuda):
    with fake_cuda:
        heads = Heads(slice(2, 10), 5, (0.1, 0.2), seed=0, device=fake_cuda)
        rows, labels = torch.randn(7, 12), torch.zeros(7, dtype=torch.int64)
    heads.step(rows, labels, decay=0.5)
    assert (heads.weight.device.type, heads.logits(rows).shape) == ("cuda", (2, 5, 7))


@pytest.mark.parametrize(
    ("pooling", "columns"),
    [
        (Pooling(1), slice(9, 12)),
        (Pooling(1, avg=True), slice(9, 15)),
        (Pooling(4), slice(0, 12)),
        (Pooling(4, avg=True), slice(0, 15)),
        (Pooling(2), slice(6, 12)),
    ],
)
def test_every_setting_is_a_slice_of_the_widest(pooling, columns):
    widest = Pooling(4, avg=True)
    assert columns_of(pooling, widest, 15) == columns
    found = widest.columns(pooling, 15)
    assert found.tolist() == list(range(columns.start, columns.stop))


def cell(holdout, test, diverged=False):
    return Cell(Pooling(), 0.1, 0.4, diverged, holdout, test)


def test_chooses_by_the_images_held_out_and_never_by_the_test():
    cells = [cell(50.0, 90.0), cell(60.0, 10.0), cell(99.0, 99.0, diverged=True), cell(60.0, 70.0)]
    assert choose(cells) is cells[1]
    assert cells[2].describe()["holdout_top1"] is None
    with pytest.raises(RunFailed, match="every classifier diverged"):
        choose([cells[2]])
