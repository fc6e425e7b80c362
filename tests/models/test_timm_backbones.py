import sys

import pytest
import torch

from dinotools.models.checkpoints import describe, load_backbone, locate
from dinotools.models.multicrop import MultiCropWrapper
from dinotools.models.timm_backbones import TimmViT, build_timm
from dinotools.models.zoo import build_backbone
from dinotools.runtime.errors import DinotoolsError
from tests.golden import official

timm = pytest.importorskip("timm")


def filled(name):
    return official.fill(build_timm(name)).eval()


@pytest.mark.parametrize(
    ("name", "dim", "size"),
    [("test_convnext", 64, 96), ("xcit_nano_12_p16_224", 128, 96), ("mobilenetv3_small_050", 1024, 64)],
)
@torch.no_grad()
def test_a_network_without_tokens_gives_timms_pooled_feature(name, dim, size):
    model, embed_dim = build_backbone(f"timm:{name}", patch_size=16, drop_path_rate=0.1)
    assert embed_dim == dim
    assert not hasattr(model, "get_intermediate_layers")
    assert not hasattr(model, "patch_size")
    x = official.normal(20, (2, 3, size, size))
    bare = timm.create_model(name, num_classes=0).eval()
    bare.load_state_dict(model.module.state_dict())
    torch.testing.assert_close(model.eval()(x), bare(x), rtol=0, atol=1e-6)
    assert model(x).shape == (2, dim)


@pytest.mark.parametrize("name", ["test_vit", "vit_small_patch16_dinov3", "deit_tiny_distilled_patch16_224"])
@torch.no_grad()
def test_a_vit_gives_its_cls_token_and_its_layers_as_ours_does(name):
    vit = filled(f"timm:{name}")
    assert isinstance(vit, TimmViT)
    assert vit.patch_size == 16
    x = official.normal(21, (2, 3, 64, 96))
    cropped = torch.nn.functional.pad(x, (0, 5, 0, 3), value=1e3)  # beyond the last whole patch
    tokens = vit.module.forward_features(x)
    layers = vit.get_intermediate_layers(cropped, n=2)
    assert [tuple(layer.shape) for layer in layers] == [(2, 1 + 24, vit.embed_dim)] * 2
    assert torch.equal(layers[1][:, 0], tokens[:, 0])
    assert torch.equal(layers[1][:, 1:], tokens[:, -24:])
    assert torch.equal(vit(cropped), tokens[:, 0])
    assert not torch.equal(layers[0], layers[1])
    assert len(vit.get_intermediate_layers(x, n=99)) == len(vit.blocks)


def test_a_vit_whose_cls_token_is_not_normalised_counts_as_without_tokens():
    assert not hasattr(build_timm("timm:eva02_tiny_patch14_224"), "get_intermediate_layers")


def test_an_image_smaller_than_a_patch():
    with pytest.raises(ValueError, match="8x32 pixels is smaller than one patch of 16"):
        build_timm("timm:test_vit")(torch.zeros(1, 3, 8, 32))


def test_a_network_of_one_size_says_which():
    with pytest.raises(DinotoolsError, match=r"timm:mixer_s32_224: takes no image of 96x64 .*--crop-size 224"):
        build_timm("timm:mixer_s32_224")(torch.zeros(1, 3, 96, 64))


def test_a_network_without_a_feature_vector(monkeypatch):
    model = build_timm("timm:test_convnext")
    monkeypatch.setattr(model.module, "forward", model.module.forward_features)
    with pytest.raises(DinotoolsError, match=r"gives \[1, 64, 2, 2\] for an image, not a feature vector"):
        model(torch.zeros(1, 3, 64, 64))


def test_stochastic_depth_reaches_the_network():
    rates = [m.drop_prob for m in build_timm("timm:test_vit", drop_path_rate=0.2).modules() if hasattr(m, "drop_prob")]
    assert max(rates) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("wrong", "right"), [("convnext_tin", "timm:convnext_tiny"), ("test_vit.r160_in1", "timm:test_vit.r160_in1k")]
)
def test_an_unknown_name_is_answered_with_the_nearest(wrong, right):
    with pytest.raises(DinotoolsError, match=f"timm:{wrong}: timm has no such network. Did you mean .*{right}"):
        build_backbone(f"timm:{wrong}", None)


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(DinotoolsError, match=r"timm is not installed.*pip install 'dinotools\[timm\]'"):
        build_backbone("timm:test_vit", None)


def test_random_weights_are_seeded_and_said_aloud(capfd):
    one, same, other = (load_backbone("random", arch="timm:test_vit", patch_size=8, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.model.module.pos_embed, same.model.module.pos_embed)
    assert not torch.equal(one.model.module.pos_embed, other.model.module.pos_embed)
    assert "timm:test_vit with random weights (seed 1)" in " ".join(capfd.readouterr().err.split())
    assert (one.arch, one.patch_size, one.embed_dim, one.img_size) == ("timm:test_vit", 16, 64, 160)
    assert (one.source, one.sha256, one.key) == ("random", None, None)
    assert (one.mean, one.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert one.describe()["mean"] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
@torch.no_grad()
def test_a_file_loads_strictly_and_its_classifier_is_named(tmp_path, name):
    classifying = official.fill(timm.create_model(name, num_classes=5))
    path = tmp_path / "weights.pth"
    torch.save(classifying.state_dict(), path)
    loaded = load_backbone(str(path), arch=f"timm:{name}")
    classifier = ("head.weight", "head.bias") if name == "test_vit" else ("head.fc.weight", "head.fc.bias")
    assert loaded.dropped == classifier  # and not ConvNeXt's last norm, head.norm
    assert describe(str(path), arch=f"timm:{name}")["dropped"] == list(classifier)
    classifying.reset_classifier(0)
    x = official.normal(22, (2, 3, 160, 160))
    torch.testing.assert_close(loaded.model(x), classifying.eval()(x), rtol=0, atol=1e-6)
    assert not loaded.model.training


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm.bias": None}, "do not fit timm:test_vit: missing norm.bias"),
        ({"acme": torch.zeros(1)}, "do not fit timm:test_vit: unexpected acme"),
        ({"norm.bias": torch.zeros(3)}, r"do not fit timm:test_vit: wrong norm.bias is \[3\], not \[64\]"),
    ],
)
def test_a_file_that_does_not_fit(tmp_path, change, message):
    state = timm.create_model("test_vit", num_classes=0).state_dict() | change
    torch.save({name: tensor for name, tensor in state.items() if tensor is not None}, tmp_path / "weights.pth")
    with pytest.raises(DinotoolsError, match=message):
        load_backbone(str(tmp_path / "weights.pth"), arch="timm:test_vit")


def test_an_option_must_not_contradict_the_network(tmp_path):
    torch.save(timm.create_model("test_vit", num_classes=0).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(DinotoolsError, match="--patch-size says 8, but its tensors say 16"):
        load_backbone(str(tmp_path / "weights.pth"), arch="timm:test_vit", patch_size=8)


def test_our_own_training_checkpoint_names_the_network(tmp_path):
    teacher = official.fill(MultiCropWrapper(build_timm("timm:test_convnext"), torch.nn.Linear(64, 8)))
    torch.save({"teacher": teacher.state_dict(), "model": {"arch": "timm:test_convnext"}}, tmp_path / "checkpoint.pth")
    loaded = load_backbone(str(tmp_path))
    assert (loaded.arch, loaded.key, loaded.dropped) == ("timm:test_convnext", "teacher", ("head.weight", "head.bias"))
    expected = teacher.backbone.module.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.model.module.state_dict().items())


@pytest.fixture
def released(tmp_path, monkeypatch):
    """A file that timm takes for the released weights of test_convnext, and its tensors."""
    state = official.fill(timm.create_model("test_convnext")).state_dict()
    path, create_model = tmp_path / "released.pth", timm.create_model
    torch.save(state, path)
    here = {"file": str(path), "url": "", "hf_hub_id": None}
    monkeypatch.setattr(timm, "create_model", lambda name, **o: create_model(name, pretrained_cfg_overlay=here, **o))
    return path, state


def test_timms_own_weights(released):
    path, state = released
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    loaded, again = load_backbone("timm:test_convnext"), load_backbone("timm:test_convnext", arch="timm:test_convnext")
    assert torch.equal(torch.rand(3), expected)
    assert (loaded.source, loaded.arch, loaded.key) == ("timm:test_convnext", "timm:test_convnext", "state dict")
    assert loaded.dropped == ("head.fc.weight", "head.fc.bias")
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.model.module.state_dict().items())
    assert loaded.sha256 == again.sha256
    torch.save(state | {"head.norm.bias": state["head.norm.bias"] + 1}, path)
    assert load_backbone("timm:test_convnext").sha256 != loaded.sha256


@pytest.mark.parametrize(
    ("fault", "told"), [("tensor", "Error.s. in loading"), ("file", "FileNotFoundError"), ("connection", "no hub")]
)
def test_weights_that_timm_cannot_load(released, monkeypatch, fault, told):
    path, state = released
    if fault == "tensor":
        torch.save({key: tensor for key, tensor in state.items() if key != "head.norm.bias"}, path)
    elif fault == "file":
        path.unlink()
    else:
        monkeypatch.setattr("timm.models._builder.load_pretrained", no_connection)
    with pytest.raises(
        DinotoolsError, match=f"timm cannot load its weights .{told}.*--arch timm:test_convnext"
    ) as error:
        load_backbone("timm:test_convnext")
    assert "\n" not in str(error.value)


def no_connection(*args, **kwargs):
    raise ConnectionError("no hub\nand more")


def test_timms_weights_are_in_no_file_and_off_when_downloads_are(released):
    with pytest.raises(DinotoolsError, match="timm keeps these weights to itself"):
        locate("timm:test_convnext")
    with pytest.raises(DinotoolsError, match="downloads are off"):
        load_backbone("timm:test_convnext", download=False)
    with pytest.raises(DinotoolsError, match="--arch says resnet50, but its tensors say timm:test_convnext"):
        load_backbone("timm:test_convnext", arch="resnet50")


def test_activations_computed_again_give_the_same_gradients():
    def gradients(again: bool) -> list[torch.Tensor]:
        model = official.fill(build_timm("timm:test_vit", checkpoint_activations=again)).train()
        assert bool(model.module.grad_checkpointing) is again
        model(official.normal(1, (2, 3, 32, 32))).square().sum().backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    for one, other in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(one, other)


def test_a_network_that_cannot_compute_its_activations_again_says_so():
    with pytest.raises(DinotoolsError, match="--checkpoint-activations: timm:inception_v3 cannot"):
        build_timm("timm:inception_v3", checkpoint_activations=True)
