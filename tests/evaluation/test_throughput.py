"""How many images a second a network takes in: what is counted, what is timed, and what is said of it."""

import json

import pytest
import torch
from torch import nn

from dinotools.configs.models import ThroughputConfig
from dinotools.evaluation import throughput
from dinotools.evaluation.throughput import check_config, count_tokens, papers_columns, run, time_passes
from dinotools.models.checkpoints import load_backbone
from dinotools.models.vit import build_vit
from dinotools.runtime import device
from dinotools.runtime.errors import DinotoolsError

MICRO = {"ckpt": "random", "arch": "vit_micro", "patch_size": 8, "size": 32, "batch_size": 2, "seconds": 0.0}


class Counting(nn.Module):
    """A network that knows how often it was asked, on what and how."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def forward(self, images):
        self.asked.append(
            (tuple(images.shape), torch.is_autocast_enabled("cpu"), torch.is_grad_enabled(), self.training)
        )
        return images.mean(dim=(1, 2, 3))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_passes_are_timed_after_a_warm_up_and_without_gradients(precision):
    network, runtime = Counting(), device.prepare("cpu", precision, 0, 0)
    seconds = time_passes(network, torch.rand(4, 3, 8, 8), runtime, least_s=0.0)
    assert len(seconds) == 3
    assert min(seconds) > 0
    assert network.asked == [((4, 3, 8, 8), precision == "bf16", False, False)] * (throughput.WARM_UP + 3)


def test_it_goes_on_until_the_time_is_up():
    network, runtime = Counting(), device.prepare("cpu", "fp32", 0, 0)
    seconds = time_passes(network, torch.rand(1, 3, 8, 8), runtime, least_s=0.02)
    assert sum(seconds) >= 0.02 > sum(seconds[:-1])


def test_a_device_is_waited_for_within_the_time(monkeypatch):
    told = []
    monkeypatch.setattr(throughput, "wait_for", lambda where: told.append(where.type))
    time_passes(Counting(), torch.rand(1, 3, 8, 8), device.prepare("cpu", "fp32", 0, 0), least_s=0.0)
    assert told == ["cpu"] * 4  # once after the warm-up, then once a pass


def test_only_accelerators_are_waited_for(monkeypatch):
    told = []
    monkeypatch.setattr(torch.cuda, "synchronize", told.append)
    for name in ("cpu", "cuda:1"):
        throughput.wait_for(torch.device(name))
    assert told == [torch.device("cuda:1")]


def test_the_median_of_the_passes_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(throughput, "time_passes", lambda *_: [0.5, 0.1, 0.2, 0.1, 4.0])
    result = run(ThroughputConfig(**MICRO, out=tmp_path / "out"))
    assert result.metrics["images_per_s"] == pytest.approx(2 / 0.2)
    assert (result.metrics["embed_dim"], result.metrics["tokens"]) == (128, 17)
    assert result.metrics["parameters"] == sum(p.numel() for p in build_vit("vit_micro", 8, 32).parameters())
    assert result.details["device_name"] == "cpu"
    assert any("twice" in note for note in result.notes)
    assert any("V100" in note for note in result.notes)
    json.dumps(result.metrics | result.details)
    assert 'arch = "vit_micro"' in (tmp_path / "out" / "config.toml").read_text()


def test_it_runs():
    result = run(ThroughputConfig(**MICRO | {"ckpt": "dino_micro_cifar10", "arch": None, "patch_size": None}))
    assert result.metrics["images_per_s"] > 0
    assert result.details["checkpoint"]["source"] == "dino_micro_cifar10"


@pytest.mark.parametrize(
    ("arch", "patch", "tokens"), [("vit_micro", 16, 197), ("vit_micro", 8, 785), ("resnet18", None, None)]
)
def test_tokens_are_those_of_table_1(arch, patch, tokens):
    backbone = load_backbone("random", arch=arch, patch_size=patch)
    assert count_tokens(backbone, 224) == tokens
    if tokens is not None:
        assert backbone.model.prepare_tokens(torch.zeros(1, 3, 224, 224)).shape[1] == tokens


def test_the_papers_number_stands_only_beside_its_own_network():
    assert papers_columns("random", 224) == papers_columns("dino_micro_cifar10", 224) == {}
    assert papers_columns("dino_vits16", 224) == {"paper images/s (V100)": 1007}
    assert papers_columns("dino_vits16", 96) == {}


@pytest.mark.parametrize(
    ("wrong", "named"), [({"batch_size": 0}, "--batch-size"), ({"size": 0}, "--size"), ({"seconds": -1.0}, "--seconds")]
)
def test_numbers_that_mean_nothing_are_refused(wrong, named):
    with pytest.raises(DinotoolsError, match=named):
        check_config(ThroughputConfig(**MICRO | wrong))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"ckpt": None}, "--ckpt"),
        ({"ckpt": "pixels"}, "--ckpt"),
        ({"ckpt": "dino_micro_cifar10", "arch": None, "size": 4}, "--size"),
    ],
)
def test_a_network_is_needed_and_room_for_a_patch(wrong, named):
    with pytest.raises(DinotoolsError, match=named):
        run(ThroughputConfig(**MICRO | wrong))
