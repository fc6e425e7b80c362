import argparse
import json

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from dinotools.configs.normalization import IMAGENET_MEAN, IMAGENET_STD
from dinotools.models.checkpoint_files import sha256_of
from dinotools.models.checkpoints import describe, load_backbone, locate
from dinotools.models.head import DINOHead
from dinotools.models.zoo import build_backbone
from dinotools.runtime.errors import DinotoolsError
from tests.golden.official import keys

HEAD = [f"head.{name}" for name in DINOHead(8, 8, hidden_dim=8, bottleneck_dim=8).state_dict()]
LAYOUTS = ("plain", "module", "compiled", "state_dict", "classifier", "official", "official_bn", "ours", "safetensors")
TRAINING = ("official", "official_bn", "ours")


def random_state(arch="vit_micro", patch_size=4, img_size=32, seed=0, dtype=torch.float32):
    """A state dict of the named backbone in which no two values agree but by chance."""
    with torch.device("meta"):
        shapes = build_backbone(arch, patch_size, img_size)[0].state_dict()
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(t.shape, generator=generator).to(dtype)
        if t.is_floating_point()
        else torch.tensor(seed, dtype=t.dtype)
        for name, t in shapes.items()
    }


def official(listed):
    """A state dict with the official names and shapes that takes no room on the disk."""
    return {
        name: torch.zeros((), dtype=torch.int64 if name.endswith("tracked") else torch.float32).expand(shape)
        for name, shape in listed
    }


def prefixed(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def with_head(state, prefix=""):
    return prefixed(f"{prefix}backbone.", state) | {prefix + name: torch.ones(2) for name in HEAD}


def negated(state):
    return {name: -tensor for name, tensor in state.items()}


def save(layout, state, folder, arch="vit_micro"):
    """Writes a state dict in one of the LAYOUTS; where there is a student too, it is the teacher's negative."""
    path = folder / ("weights.safetensors" if layout == "safetensors" else "checkpoint.pth")
    if layout == "safetensors":
        save_file(prefixed("backbone.", state), path, metadata={"arch": arch, "patch_size": "4", "img_size": "32"})
        return path
    training = {"student": with_head(negated(state), "module."), "epoch": 7}
    as_official = training | {
        "optimizer": {"state": {0: {"step": torch.tensor(5.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "args": argparse.Namespace(arch=arch, patch_size=4, momentum_teacher=0.996),
        "dino_loss": {"center": torch.zeros(1, 2)},
    }
    contents = {
        "plain": state,
        "module": prefixed("module.", state),
        "compiled": prefixed("_orig_mod.", state),
        "state_dict": {"state_dict": prefixed("module.backbone.", state), "epoch": 7},
        "classifier": state | {"head.weight": torch.zeros(10, 2), "fc.bias": torch.zeros(10)},
        "official": as_official | {"teacher": with_head(state)},
        "official_bn": as_official | {"teacher": with_head(state, "module.")},
        "ours": training | {"teacher": with_head(state), "model": {"arch": arch, "patch_size": 4, "img_size": 32}},
    }
    torch.save(contents[layout], path)
    return path


def assert_holds(model, state):
    loaded = model.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], tensor.to(loaded[name].dtype)) for name, tensor in state.items())


@settings(max_examples=20, phases=[Phase.generate])  # a failing layout is small enough, and shrinking slow
@given(
    layout=st.sampled_from(LAYOUTS),
    shape=st.sampled_from([(4, 32), (8, 32), (4, 4), (16, 224)]),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    seed=st.integers(0, 2**32),
)
def test_every_layout_gives_back_the_same_tensors(tmp_path_factory, layout, shape, dtype, seed):
    state = random_state("vit_micro", *shape, seed=seed, dtype=dtype)
    path = save(layout, state, tmp_path_factory.mktemp(layout))
    loaded = load_backbone(str(path))
    assert_holds(loaded.model, state)
    assert (loaded.arch, loaded.patch_size, loaded.embed_dim) == ("vit_micro", shape[0], 128)
    assert loaded.key == ("teacher" if layout in TRAINING else "state dict")
    assert loaded.source == str(path)
    assert loaded.sha256 == sha256_of(path)
    assert not loaded.model.training
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_resnet_in_every_layout(tmp_path, layout):
    state = random_state("resnet18", None, seed=3)
    loaded = load_backbone(str(save(layout, state, tmp_path, "resnet18")))
    assert_holds(loaded.model, state)
    assert (loaded.arch, loaded.patch_size, loaded.embed_dim) == ("resnet18", None, 512)


@pytest.mark.parametrize("layout", TRAINING)
def test_the_student_is_another_network(tmp_path, layout):
    state = random_state()
    loaded = load_backbone(str(save(layout, state, tmp_path)), key="student")
    assert loaded.key == "student"
    assert_holds(loaded.model, negated(state))


def test_dropped_heads_are_named(tmp_path):
    assert load_backbone(str(save("official", random_state(), tmp_path))).dropped == tuple(HEAD)
    assert load_backbone(str(save("classifier", random_state(), tmp_path))).dropped == ("head.weight", "fc.bias")
    assert load_backbone(str(save("plain", random_state(), tmp_path))).dropped == ()


def test_a_run_directory_stands_for_its_checkpoint(tmp_path):
    state = random_state()
    path = save("ours", state, tmp_path)
    loaded = load_backbone(str(tmp_path))
    assert loaded.source == str(path)
    assert_holds(loaded.model, state)


@pytest.mark.parametrize("name", keys()["vit"])
def test_the_official_vits_load(tmp_path, name):
    arch, patch_size = name.split("/")
    torch.save(official(keys()["vit"][name]["state_dict"]), tmp_path / "a.pth")
    described = describe(str(tmp_path / "a.pth"))
    assert described["problem"] is None
    assert (described["arch"], described["patch_size"], described["img_size"]) == (arch, int(patch_size), 224)
    assert described["embed_dim"] == keys()["vit"][name]["embed_dim"]
    assert described["parameters"] == keys()["vit"][name]["n_parameters"]


def test_the_official_resnet50_loads(tmp_path):
    torch.save(official(keys()["resnet50"]["state_dict"]), tmp_path / "a.pth")
    described = describe(str(tmp_path / "a.pth"))
    assert (described["arch"], described["embed_dim"], described["problem"]) == ("resnet50", 2048, None)
    assert described["parameters"] == keys()["resnet50"]["n_parameters_without_fc"]


def test_a_released_network_comes_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DINOTOOLS_CACHE", str(tmp_path))
    with pytest.raises(DinotoolsError, match="downloads are off"):
        load_backbone("dino_vits16", download=False)
    path = tmp_path / "checkpoints" / "dino_deitsmall16_pretrain.pth"
    torch.save(official(keys()["vit"]["vit_small/16"]["state_dict"]), path)
    loaded = load_backbone("dino_vits16", download=False)
    assert (loaded.source, loaded.arch, loaded.sha256) == ("dino_vits16", "vit_small", sha256_of(path))


def test_random_weights_are_seeded_and_said_aloud(capfd):
    loaded, again, other = (
        load_backbone("random", arch="vit_micro", patch_size=4, img_size=32, seed=seed) for seed in (1, 1, 2)
    )
    assert_holds(again.model, loaded.model.state_dict())
    assert not torch.equal(other.model.cls_token, loaded.model.cls_token)
    assert (loaded.source, loaded.sha256, loaded.key, loaded.patch_size) == ("random", None, None, 4)
    assert not loaded.model.training
    assert loaded.model.pos_embed.shape == (1, 65, 128)
    assert "vit_micro with random weights (seed 1)" in " ".join(capfd.readouterr().err.split())


def test_random_weights_of_a_convnet():
    loaded = load_backbone("random", arch="resnet18", patch_size=16)
    assert (loaded.patch_size, loaded.embed_dim) == (None, 512)


@pytest.mark.parametrize("said", [{}, {"arch": "vit_micro"}, {"patch_size": 4}])
def test_random_weights_need_a_shape(said):
    with pytest.raises(DinotoolsError, match="Give --arch and --patch-size"):
        load_backbone("random", **said)


def test_loading_draws_no_random_numbers(tmp_path):
    path = save("plain", random_state(), tmp_path)
    torch.manual_seed(0)
    expected = torch.rand(3)
    for ckpt, said in ((str(path), {}), ("random", {"arch": "vit_micro", "patch_size": 4})):
        torch.manual_seed(0)
        load_backbone(ckpt, **said)
        assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"arch": "vit_small"}, "--arch says vit_small, but its tensors say vit_micro"),
        ({"arch": "resnet50"}, "--arch says resnet50, but its tensors say vit_micro"),
        ({"patch_size": 8}, "--patch-size says 8, but its tensors say 4"),
        ({"img_size": 224}, "--img-size says 224, but its tensors say 32"),
    ],
)
def test_an_option_must_not_contradict_the_tensors(tmp_path, said, message):
    path = save("plain", random_state(), tmp_path)
    with pytest.raises(DinotoolsError, match=message):
        load_backbone(str(path), **said)
    assert load_backbone(str(path), arch="vit_micro", patch_size=4, img_size=32).arch == "vit_micro"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm.bias": None, "cls_token": None}, r"do not fit vit_micro with patches of 4 pixels: missing .*norm.bias"),
        ({"register_tokens": torch.zeros(1)}, "unexpected register_tokens"),
        ({"norm.bias": torch.zeros(5)}, r"wrong norm.bias is \[5\], not \[128\]"),
        ({"norm.bias": torch.zeros(128, dtype=torch.int8)}, r"wrong norm.bias is \[128\] int8, not \[128\]"),
    ],
)
def test_weights_that_do_not_fit(tmp_path, change, message):
    state = {name: tensor for name, tensor in (random_state() | change).items() if tensor is not None}
    path = save("plain", state, tmp_path)
    with pytest.raises(DinotoolsError, match=message) as error:
        load_backbone(str(path))
    assert "dinotools models info" in str(error.value)
    assert describe(str(path))["problem"] == error.value.what


def test_an_image_is_normalised_as_in_training(tmp_path):
    loaded = load_backbone(str(save("plain", random_state(), tmp_path)))
    assert (loaded.mean, loaded.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert loaded.describe()["std"] == list(loaded.std)
    assert loaded.img_size == 32


def test_batch_counters_may_be_missing(tmp_path):
    state = {name: t for name, t in random_state("resnet18", None).items() if "num_batches_tracked" not in name}
    loaded = load_backbone(str(save("plain", state, tmp_path)))
    assert torch.equal(loaded.model.bn1.running_var, state["bn1.running_var"])


def test_a_convnet_that_we_do_not_know_by_heart(tmp_path):
    state = random_state("mobilenet_v3_small", None)
    path = str(save("plain", state, tmp_path))
    with pytest.raises(DinotoolsError, match="name it with --arch"):
        load_backbone(path)
    assert_holds(load_backbone(path, arch="mobilenet_v3_small").model, state)
    with pytest.raises(DinotoolsError, match="do not fit mobilenet_v2"):
        load_backbone(path, arch="mobilenet_v2")
    named = str(save("ours", state, tmp_path, "mobilenet_v3_small"))
    assert load_backbone(named).arch == "mobilenet_v3_small"


@pytest.mark.parametrize(("wrong", "near"), [("dino_vits61", "dino_vits16"), ("randon", "random")])
def test_a_name_that_is_nothing(tmp_path, monkeypatch, wrong, near):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DinotoolsError, match=f"{wrong}: there is no such file.*Did you mean {near}"):
        locate(wrong)


def test_a_directory_without_a_checkpoint(tmp_path):
    with pytest.raises(DinotoolsError, match=r"holds neither checkpoint\.pth nor backbone\.safetensors"):
        locate(str(tmp_path))


def test_a_description_is_plain_json(tmp_path):
    path = save("official", random_state(dtype=torch.float16), tmp_path)
    described = describe(str(path), key="student")
    assert json.loads(json.dumps(described)) == described
    assert described == {
        "source": str(path),
        "path": str(path),
        "sha256": sha256_of(path),
        "kind": "training checkpoint",
        "keys": ["student", "epoch", "optimizer", "args", "dino_loss", "teacher"],
        "epoch": 7,
        "key": "student",
        "tensors": 54,
        "parameters": sum(tensor.numel() for tensor in random_state().values()),
        "dtype": "float16",
        "dropped": HEAD,
        "arch": "vit_micro",
        "patch_size": 4,
        "img_size": 32,
        "embed_dim": 128,
        "problem": None,
    }


def test_a_description_of_what_does_not_load(tmp_path):
    torch.save({"features.weight": torch.zeros(2, dtype=torch.float64), "n": torch.tensor(1)}, tmp_path / "a.pth")
    described = describe(str(tmp_path / "a.pth"))
    assert "fit no architecture" in described["problem"]
    assert (described["kind"], described["arch"], described["dtype"]) == ("state dict", None, "float64")
    json.dumps(described)


def test_pixels_are_the_humblest_baseline():
    backbone = load_backbone("pixels", img_size=4)
    images = torch.randn(2, 3, 4, 4)
    assert torch.equal(backbone.model(images), images.reshape(2, 48))
    assert (backbone.embed_dim, backbone.arch, backbone.sha256) == (48, "pixels", None)
