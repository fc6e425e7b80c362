import pytest
import torch
from torch import nn

from dinotools.configs.finetuning import FinetuneConfig
from dinotools.evaluation.finetuning.network import (
    Classifier,
    build_optimizer,
    parameter_groups,
    set_drop_path,
    set_learning_rate,
)
from dinotools.models.vit import build_vit
from dinotools.models.zoo import build_backbone
from dinotools.runtime.errors import DinotoolsError


@pytest.fixture
def model() -> Classifier:
    torch.manual_seed(0)
    return Classifier(build_vit("vit_micro", 8, 32), 128, 50, head_init_scale=0.001)


def test_the_classifier_starts_near_zero(model):
    assert model.head.weight.std().item() == pytest.approx(0.02 * 0.001, rel=0.05)
    assert (model.head.bias == 0).all()
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(x), model.backbone(x) @ model.head.weight.T)


def test_drop_path_grows_to_its_rate_and_works_in_training_only(model):
    x = torch.randn(4, 3, 32, 32)
    before = model.eval()(x)
    set_drop_path(model.backbone, 0.3)
    assert [block.drop_path.rate for block in model.backbone.blocks] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert torch.equal(model(x), before)
    assert not torch.equal(model.train()(x), before)


def test_timms_vits_drop_paths_too():
    pytest.importorskip("timm")
    backbone, _ = build_backbone("timm:vit_tiny_patch16_224", None)
    x = torch.randn(4, 3, 32, 32)
    before = backbone.eval()(x)
    set_drop_path(backbone, 0.5)
    assert torch.equal(backbone(x), before)
    assert not torch.equal(backbone.train()(x), before)


def groups_by_name(model: nn.Module, layer_decay: float) -> dict[str, tuple[float, float]]:
    found = {
        id(p): (group["lr_scale"], group["weight_decay"])
        for group in parameter_groups(model, 0.05, layer_decay)
        for p in group["params"]
    }
    return {name: found[id(parameter)] for name, parameter in model.named_parameters()}


def test_every_parameter_is_in_one_group(model):
    grouped = [id(p) for group in parameter_groups(model, 0.05, 0.75) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())


def test_layers_learn_the_slower_the_deeper_they_lie(model):
    groups = groups_by_name(model, 0.5)
    scales = {name: scale for name, (scale, _) in groups.items()}
    assert scales["head.weight"] == scales["backbone.norm.bias"] == 1
    assert scales["backbone.blocks.3.mlp.fc1.weight"] == 0.5
    assert scales["backbone.blocks.0.norm1.weight"] == 0.5**4
    assert {scales[f"backbone.{n}"] for n in ("cls_token", "pos_embed", "patch_embed.proj.weight")} == {0.5**5}


def test_only_weights_decay(model):
    decayed = {name for name, (_, decay) in groups_by_name(model, 1.0).items() if decay}
    layers = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    assert decayed == {"head.weight", "backbone.patch_embed.proj.weight"} | {
        f"backbone.blocks.{i}.{layer}.weight" for i in range(4) for layer in layers
    }


def test_a_wrapped_network_decays_by_its_blocks_too():
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = build_vit("vit_micro", 8, 32, registers=2)

    groups = groups_by_name(Classifier(Wrapped(), 128, 3, 1.0), 0.5)
    assert groups["backbone.module.blocks.1.attn.qkv.weight"] == (0.5**3, 0.05)
    assert groups["backbone.module.register_tokens"] == (0.5**5, 0.0)


def test_a_network_without_blocks_has_no_layer_decay(capsys):
    backbone, width = build_backbone("resnet18", None)
    model = Classifier(backbone, width, 3, 0.001)
    assert {scale for scale, _ in groups_by_name(model, 1.0).values()} == {1.0}
    with pytest.raises(DinotoolsError, match="--layer-decay"):
        parameter_groups(model, 0.05, 0.9)
    set_drop_path(backbone, 0.1)
    assert "--drop-path-rate has no effect" in capsys.readouterr().err


def test_a_network_of_stages_has_no_layer_decay():
    pytest.importorskip("timm")
    backbone, width = build_backbone("timm:convnext_atto", None)
    model = Classifier(backbone, width, 3, 0.001)
    assert {scale for scale, _ in groups_by_name(model, 1.0).values()} == {1.0}
    with pytest.raises(DinotoolsError, match="no single row"):  # its first and its last stage both have a block 0
        parameter_groups(model, 0.05, 0.9)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_the_learning_rate_is_scaled_by_layer(model, name):
    optimizer = build_optimizer(FinetuneConfig(out="unused", optimizer=name, layer_decay=0.5), model)
    set_learning_rate(optimizer, 0.1)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates[id(model.head.weight)] == pytest.approx(0.1)
    assert rates[id(model.backbone.cls_token)] == pytest.approx(0.1 * 0.5**5)
