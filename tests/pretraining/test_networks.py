import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from dinotools.configs.pretraining import PretrainConfig
from dinotools.models.checkpoints import load_backbone
from dinotools.models.synced_norm import SyncedBatchNorm
from dinotools.models.zoo import normalization_of
from dinotools.pretraining import networks
from dinotools.pretraining.networks import build_networks, build_state, model_description
from dinotools.runtime.device import Runtime
from dinotools.runtime.errors import DinotoolsError
from tests.golden import official

SMALL = PretrainConfig(
    data="digits",
    out=Path("unused"),
    arch="vit_micro",
    patch_size=8,
    crops="2x32+3x16",
    out_dim=24,
    head_hidden_dim=16,
    head_bottleneck_dim=8,
    epochs=2,
    warmup_epochs=0,
    device="cpu",
)


def small(**options) -> PretrainConfig:
    return dataclasses.replace(SMALL, **options)


def crops(config: PretrainConfig) -> list[torch.Tensor]:
    return [official.normal(i, (2, config.in_chans, side, side)) for i, side in enumerate(config.crop_sizes)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"head_activation": "relu"},
        {"head_bottleneck_dim": 0},
        {"head_bottleneck_dim": 0, "head_layers": 1},
        {"head_layers": 4},
        {"use_bn_in_head": True},
        {"predictor": True},
        {"predictor": True, "head_bottleneck_dim": 0, "use_bn_in_head": True},
        {"norm_last_layer": False},
        {"num_heads": 8},
        {"patch_size": 5},
        {"in_chans": 1, "channel_mean": (0.5,), "channel_std": (0.2,)},
        {"checkpoint_activations": True},
        {"arch": "resnet18", "in_chans": 4, "channel_mean": (0.5,) * 4, "channel_std": (0.2,) * 4},
    ],
)
def test_every_option_builds_a_student_and_a_teacher_that_starts_as_it(options):
    config = small(**options)
    student, teacher = build_networks(config)
    assert student(crops(config)).shape == (5 * 2, 24)
    assert teacher(crops(config)[:2]).shape == (2 * 2, 24)
    theirs = student.state_dict()
    beyond = {name for name in theirs if name not in teacher.state_dict()}
    assert bool(beyond) is config.predictor and all(name.startswith("head.predictor.") for name in beyond)
    assert not any(p.requires_grad for p in teacher.parameters())
    for name, tensor in build_networks(config)[1].state_dict().items():
        assert tensor.shape == theirs[name].shape
    assert all(
        torch.equal(t, theirs[n]) for n, t in teacher.state_dict().items() if "running" not in n and "num_b" not in n
    )


def test_options_reach_the_networks():
    student, teacher = build_networks(
        small(num_heads=8, checkpoint_activations=True, drop_path_rate=0.3, head_layers=2)
    )
    assert [block.attn.num_heads for block in (student.backbone.blocks[0], teacher.backbone.blocks[3])] == [8, 8]
    assert student.backbone.checkpoint_activations and not teacher.backbone.checkpoint_activations
    assert (student.backbone.blocks[-1].drop_path.rate, teacher.backbone.blocks[-1].drop_path.rate) == (0.3, 0.0)
    assert student.backbone.img_size == 32  # the first of --crops
    assert sum(isinstance(m, nn.Linear) for m in student.head.modules()) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"num_heads": 8},
        {"in_chans": 2, "channel_mean": (0.5, 0.25), "channel_std": (0.2, 0.3)},
        {"channel_mean": (0.4, 0.5, 0.6), "channel_std": (0.1, 0.2, 0.3)},
        {"arch": "resnet18", "in_chans": 1, "channel_mean": (0.5,), "channel_std": (0.2,)},
        {"arch": "mobilenet_v3_small", "in_chans": 1, "channel_mean": (0.5,), "channel_std": (0.2,)},
        {"patch_size": 5},
    ],
)
@torch.no_grad()
def test_a_checkpoint_gives_back_the_very_network(tmp_path, options):
    config = small(**options)
    _, teacher = build_networks(config)
    content = {"teacher": teacher.state_dict(), "student": teacher.state_dict(), "model": model_description(config)}
    torch.save(content, tmp_path / "checkpoint.pth")
    loaded = load_backbone(str(tmp_path))
    images = crops(config)[0]
    assert torch.equal(loaded.model(images), teacher.backbone.eval()(images))
    assert (loaded.mean, loaded.std) == normalization_of(teacher.backbone)
    if config.channel_mean:
        assert (loaded.mean, loaded.std) == (config.channel_mean, config.channel_std)
    assert loaded.describe()["num_heads"] == {"vit_micro": config.num_heads or 4}.get(config.arch)


def test_another_number_of_heads_is_another_network():
    images = official.normal(1, (2, 3, 32, 32))
    four, eight = (official.fill(build_networks(small(num_heads=heads))[1]).backbone.eval() for heads in (None, 8))
    assert list(four.state_dict()) == list(eight.state_dict())
    assert not torch.allclose(four(images), eight(images), atol=1e-2)


def test_init_from_wants_the_same_predictor(tmp_path):
    student, teacher = build_networks(small(predictor=True))
    torch.save({"student": student.state_dict(), "teacher": teacher.state_dict()}, tmp_path / "run.pth")
    again, _ = build_networks(small(predictor=True, init_from=str(tmp_path / "run.pth")))
    assert all(torch.equal(t, student.state_dict()[n]) for n, t in again.state_dict().items())
    with pytest.raises(DinotoolsError, match="predictor"):
        build_networks(small(init_from=str(tmp_path / "run.pth")))


@pytest.mark.parametrize(("ranks", "synced"), [("1", 0), ("2", 4)])
def test_batch_norms_are_synchronised_among_several_ranks(monkeypatch, ranks, synced):
    monkeypatch.setenv("WORLD_SIZE", ranks)
    monkeypatch.setattr(networks, "DistributedDataParallel", lambda student, **_: student)  # needs ranks that meet
    state = build_state(small(use_bn_in_head=True), Runtime(torch.device("cpu"), "fp32", 0))
    modules = [*state.student.modules(), *state.teacher.modules()]
    assert sum(isinstance(module, SyncedBatchNorm) for module in modules) == synced


def test_runs_on_fake_cuda(fake_cuda):
    config = small(num_heads=8, predictor=True, checkpoint_activations=True, head_activation="relu")
    with fake_cuda:
        student, teacher = build_networks(config)
        views = crops(config)
    views = [view.to("cuda") for view in views]
    assert (student(views).device.type, teacher(views[:2]).shape) == ("cuda", (4, 24))
