"""Whole runs of the paper's protocol: they resume exactly, leave official files, and refuse what cannot work."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from dinotools.configs.linear import LinearConfig
from dinotools.data.epoch_order import EpochOrder
from dinotools.evaluation.linear import paper
from dinotools.evaluation.linear.classifier import FILE, RELEASED
from dinotools.evaluation.linear.inputs import available_pooling, official_order, papers_pooling
from dinotools.evaluation.linear.paper import papers_top1, training_view
from dinotools.evaluation.linear.probe import run
from dinotools.evaluation.linear.training import base_lr, effective_lr
from dinotools.features.pooling import Pooling
from dinotools.models.checkpoint_files import read_checkpoint
from dinotools.models.convnets import build_convnet
from dinotools.models.vit import build_vit
from dinotools.models.zoo import ZOO
from dinotools.runtime.errors import DinotoolsError


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("network") / "vit.pth"
    torch.save(build_vit("vit_micro", 16, 32).state_dict(), path)
    return str(path)


@pytest.fixture
def config(ckpt, image_folder, tmp_path):
    sizes = {"resize_size": 32, "crop_size": 32, "workers": 0}
    training = {"epochs": 4, "train_batch_size": 10, "lr": 0.5}  # 24 images: batches of 10, 10 and 4
    return LinearConfig(ckpt=ckpt, data=str(image_folder), out=tmp_path / "run", **sizes, **training)


class Killed(Exception):
    pass


def test_a_convolutional_network_stays_as_it_was(config, monkeypatch):
    networks, opened = [], paper.open_probed

    def watched(*options):
        backbone, network, view = opened(*options)
        networks.extend([network, build_convnet("resnet18")[0]])
        networks[1].load_state_dict(network.backbone.state_dict())
        return backbone, network, view

    monkeypatch.setattr(paper, "open_probed", watched)
    run(dataclasses.replace(config, ckpt="random", arch="resnet18", epochs=1, out=None))
    used, before = networks
    assert not any(module.training for module in used.modules())
    for name, tensor in used.backbone.state_dict().items():  # among them the statistics of batch normalisation
        assert torch.equal(tensor, before.state_dict()[name]), name


def test_learns_and_leaves_an_official_file_that_evaluates_to_the_same_accuracy(config, tmp_path):
    result = run(config)
    assert result.metrics["top1"] > 80  # three colours
    assert result.metrics["best_top1"] == max(record["top1"] for record in result.metrics["epochs"])
    content = read_checkpoint(config.out / FILE)
    assert {"epoch", "state_dict", "optimizer", "scheduler", "best_acc"} <= content.keys()
    assert {name: list(t.shape) for name, t in content["state_dict"].items()} == {
        "module.linear.weight": [3, 512],
        "module.linear.bias": [3],
    }
    assert (content["epoch"], content["best_acc"]) == (4, result.metrics["best_top1"])
    rates = [0.5 * 10 / 256 * (1 + np.cos(np.pi * epoch / 4)) / 2 for epoch in range(4)]
    assert [record["lr"] for record in result.metrics["epochs"]] == pytest.approx(rates)
    for named in (config.out / FILE, config.out):  # the file, and the run that it is in
        again = run(dataclasses.replace(config, evaluate=str(named), out=None))
        assert {name: again.metrics[name] for name in ("top1", "top5", "loss")} == pytest.approx(
            {name: result.metrics[name] for name in ("top1", "top5", "loss")}
        )
    bare = tmp_path / "official.pth"  # with nothing but what official files have
    torch.save({name: content[name] for name in ("epoch", "state_dict", "best_acc")}, bare)
    assert run(dataclasses.replace(config, evaluate=str(bare), out=None)).metrics["top1"] == result.metrics["top1"]


def test_resumed_equals_uninterrupted(config, tmp_path, monkeypatch):
    whole = run(config)
    halves = dataclasses.replace(config, out=tmp_path / "halves")
    save = paper.save

    def save_and_die(path, state, *rest):
        save(path, state, *rest)
        if state.epoch == 2:
            raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(paper, "save", save_and_die)
        run(halves)
    resumed = run(dataclasses.replace(halves, resume=True))
    assert resumed.metrics == whole.metrics
    one, other = (read_checkpoint(out / FILE) for out in (config.out, halves.out))
    for name, tensor in one["state_dict"].items():
        assert torch.equal(tensor, other["state_dict"][name])
    momenta = [content["optimizer"]["state"] for content in (one, other)]
    assert all(torch.equal(momenta[0][i]["momentum_buffer"], momenta[1][i]["momentum_buffer"]) for i in momenta[0])
    finished = run(dataclasses.replace(halves, resume=True))  # nothing is left to do
    assert finished.metrics == whole.metrics


def test_resuming_with_other_options_is_refused_and_lists_them(config, image_folder):
    run(config)
    before = (config.out / FILE).read_bytes()
    other = dataclasses.replace(config, resume=True, lr=0.1, epochs=6, n_last_blocks=(1,), workers=1, batch_size=3)
    with pytest.raises(DinotoolsError) as error:
        run(other)
    for words in ("lr was 0.5, now 0.1", "epochs was 4, now 6", "n_last_blocks was [], now [1]"):
        assert words in str(error.value)
    assert "workers" not in str(error.value) and "batch_size was 128" not in str(error.value)
    more = dataclasses.replace(config, resume=True, data=None, train=str(image_folder / "val"))
    with pytest.raises(DinotoolsError, match="training images was 24, now 12"):
        run(dataclasses.replace(more, val=str(image_folder / "val")))
    assert (config.out / FILE).read_bytes() == before


def test_an_unreadable_image_is_skipped_and_named(config, image_folder, tmp_path):
    import shutil

    data = tmp_path / "data"
    shutil.copytree(image_folder, data)
    (data / "train" / "red" / "0.png").write_bytes(b"no image")
    damaged = dataclasses.replace(config, data=str(data), epochs=1)
    with pytest.raises(DinotoolsError, match="--max-bad"):
        run(damaged)
    result = run(dataclasses.replace(damaged, max_bad=0.1, overwrite=True))
    assert result.details["data"]["train"]["skipped"] == [str(data / "train" / "red" / "0.png")]


def test_the_incomplete_batch_is_a_step_of_its_own():
    kept = list(EpochOrder(23, 4, 3, seed=5, drop_last=False))
    assert [len(batch) for batch in kept] == [4, 4, 4, 4, 4, 3] * 3
    assert sorted(index for batch in kept[:6] for _, index in batch) == list(range(23))
    assert list(EpochOrder(23, 4, 3, seed=5, start=8, drop_last=False)) == kept[8:]
    assert [len(batch) for batch in EpochOrder(3, 1024, 2, seed=5, drop_last=False)] == [3, 3]


def test_training_views_are_random_crops_that_depend_on_the_generator_alone():
    from random import Random

    image = Image.fromarray(np.random.RandomState(0).randint(0, 256, (40, 60, 3)).astype(np.uint8))
    view = training_view(24)
    (first,), (again,), (other,) = view(image, Random(1)), view(image, Random(1)), view(image, Random(2))
    assert (first.shape, first.dtype) == ((3, 24, 24), torch.uint8)
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize(
    ("embed_dim", "has_tokens", "pooling"),
    [(192, True, "cls4"), (384, True, "cls4"), (768, True, "cls+avg"), (1024, True, "cls+avg"), (2048, False, "cls")],
)
def test_the_papers_choice(embed_dim, has_tokens, pooling):
    assert str(papers_pooling(embed_dim, has_tokens)) == pooling


def test_what_can_be_had_of_a_network():
    assert available_pooling(build_vit("vit_micro", 16, 32)) == Pooling(4, avg=True)
    assert available_pooling(build_convnet("resnet18")[0]) == Pooling()


def test_only_one_cls_and_the_average_are_interleaved():
    row = torch.tensor([[1, 2, 3, 10, 20, 30]])
    assert official_order(row, Pooling(1, avg=True)).tolist() == [[1, 10, 2, 20, 3, 30]]
    assert official_order(row, Pooling(2)) is row
    assert official_order(row, Pooling(1)) is row


def test_learning_rates_of_the_paper():
    defaults = LinearConfig()
    assert effective_lr(base_lr(defaults, patch_size=16), defaults.train_batch_size) == pytest.approx(0.004)
    assert effective_lr(base_lr(defaults, patch_size=None), defaults.train_batch_size) == pytest.approx(0.3)
    assert base_lr(LinearConfig(lr=0.7), patch_size=None) == 0.7


def test_released_classifiers_belong_to_released_networks():
    assert set(RELEASED) <= set(ZOO)
    assert all(ZOO[name].linear_top1 for name in RELEASED)
    assert json.dumps(RELEASED).count("_linearweights.pth") == 5


@pytest.mark.parametrize(("changes", "shown"), [({}, 77.0), ({"crop_size": 192}, None)])
def test_the_papers_number_stands_only_beside_the_papers_setting(changes, shown):
    settings = {"resize_size": 256, "crop_size": 224, **changes}
    assert papers_top1("dino_vits16", settings, 1000, 50_000) == shown
    assert papers_top1("dino_vits16", settings, 100, 5_000) is None
    assert papers_top1("mine.pth", settings, 1000, 50_000) is None
