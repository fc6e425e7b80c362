import argparse
import hashlib
import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from dinotools.models.checkpoint_files import (
    CHUNK,
    backbone_state,
    few,
    network_state,
    read_checkpoint,
    said_arch,
    said_model,
    sha256_of,
    sha256_of_tensors,
)
from dinotools.runtime.errors import DinotoolsError

STATE = {"cls_token": torch.arange(3.0), "norm.weight": torch.ones(2, 2)}


class Intruder:
    """What a hostile checkpoint may hold: to unpickle it is to create a file."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


def save(tmp_path, content, name="checkpoint.pth", **options):
    torch.save(content, tmp_path / name, **options)
    return tmp_path / name


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_an_official_training_checkpoint_is_read(tmp_path, zipped):
    content = {
        "teacher": STATE,
        "epoch": 3,
        "optimizer": {"param_groups": [{"lr": np.float64(0.1)}]},  # main_dino.py takes rates from NumPy schedules
        "args": argparse.Namespace(arch="vit_small", lr=0.1, use_fp16=True),
    }
    path = save(tmp_path, content, _use_new_zipfile_serialization=zipped)
    if not zipped:  # the file of that time: NumPy 1 called its module otherwise
        path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    read = read_checkpoint(path)
    assert read["args"] == content["args"]
    assert read["optimizer"] == content["optimizer"]
    assert read["epoch"] == 3
    assert all(torch.equal(read["teacher"][name], tensor) for name, tensor in STATE.items())


def test_writing_to_a_mapped_tensor_leaves_the_file_alone(tmp_path):
    path = save(tmp_path, STATE)
    before = path.read_bytes()
    read_checkpoint(path)["cls_token"].fill_(9.0)
    assert path.read_bytes() == before


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("place", ["weights", "args", "attribute", "legacy", "bare", "bare-protocol-0", "safetensors"])
def test_code_in_a_file_is_refused_and_does_not_run(tmp_path, place):
    canary = tmp_path / "canary"
    intruder, path = Intruder(canary), tmp_path / "hostile.pth"
    if place.startswith("bare"):
        path.write_bytes(pickle.dumps(intruder, protocol=0 if place.endswith("0") else None))
    elif place == "safetensors":
        path = tmp_path / "hostile.safetensors"
        path.write_bytes(pickle.dumps(intruder))
    else:
        inside = {"attribute": argparse.Namespace(lr=intruder)}.get(place, intruder)
        torch.save({"a": STATE, place: inside}, path, _use_new_zipfile_serialization=place != "legacy")
    with pytest.raises(DinotoolsError) as error:
        read_checkpoint(path)
    assert not canary.exists()
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    if place in ("weights", "args", "attribute", "legacy"):
        assert f"{os.mkdir.__module__}.mkdir" in str(error.value)
        torch.load(path, weights_only=False)
    else:
        pickle.loads(path.read_bytes())
    assert canary.exists()  # so the file was dangerous indeed


@pytest.mark.parametrize(
    "content", [b"", b"hello world, this is text", b"<html>404</html>", b"PK\x03\x04", bytes(1000), b"\x80\x02}q\x00."]
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_that_is_no_checkpoint(tmp_path, content, suffix):
    path = tmp_path / f"odd{suffix}"
    path.write_bytes(content)
    with pytest.raises(DinotoolsError, match=r"is no (checkpoint|safetensors file), or a damaged one") as error:
        read_checkpoint(path)
    assert str(path) in str(error.value)


@settings(max_examples=60)
@given(form=st.sampled_from(["zip", "legacy", "safetensors"]), share=st.floats(0, 1, exclude_max=True))
def test_no_truncated_file_is_read(tmp_path_factory, form, share):
    path = tmp_path_factory.mktemp("cut") / ("a.safetensors" if form == "safetensors" else "a.pth")
    if form == "safetensors":
        save_file(STATE, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=form == "zip")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DinotoolsError):
        read_checkpoint(path)


def test_a_torchscript_program_is_named_as_such(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(torch.nn.ReLU(), torch.zeros(1)), tmp_path / "program.pt")
        with pytest.raises(DinotoolsError, match="TorchScript program"):
            read_checkpoint(tmp_path / "program.pt")


def test_a_lone_tensor_is_no_checkpoint(tmp_path):
    with pytest.raises(DinotoolsError, match="holds a Tensor, not a checkpoint"):
        read_checkpoint(save(tmp_path, torch.zeros(2)))


@pytest.mark.parametrize("name", ["absent.pth", "absent.safetensors"])
def test_an_absent_file(tmp_path, name):
    with pytest.raises(DinotoolsError, match=rf"{name}: cannot be read \(.*[Nn]o such file"):
        read_checkpoint(tmp_path / name)


def test_safetensors_have_the_form_of_a_checkpoint(tmp_path):
    save_file(STATE, tmp_path / "a.safetensors", metadata={"arch": "vit_micro"})
    read = read_checkpoint(tmp_path / "a.safetensors")
    assert read["model"] == {"arch": "vit_micro"}
    assert network_state(read, "teacher", "here")[0].keys() == STATE.keys()


@pytest.mark.parametrize("key", ["teacher", "student"])
def test_the_network_asked_for_is_taken_with_its_head(key):
    student = {f"module.{part}": torch.zeros(1) for part in ("backbone.norm.weight", "head.mlp.0.weight")}
    teacher = {f"_orig_mod.module.{part}": torch.ones(1) for part in ("backbone.norm.weight", "head.mlp.0.weight")}
    state, read = network_state({"student": student, "teacher": teacher, "epoch": 1}, key, "here")
    assert read == key
    assert list(state) == ["backbone.norm.weight", "head.mlp.0.weight"]
    assert state["backbone.norm.weight"].item() == (key == "teacher")


@pytest.mark.parametrize("form", ["plain", "state_dict", "model"])
def test_a_lone_network_has_no_key(form):
    state, read = network_state(STATE if form == "plain" else {form: STATE, "epoch": 1}, "student", "here")
    assert read == "state dict"
    assert state.keys() == STATE.keys()


def test_a_network_that_is_not_there():
    with pytest.raises(DinotoolsError, match="here: holds no teacher, only a student"):
        network_state({"student": STATE}, "teacher", "here")


@pytest.mark.parametrize("content", [{}, {"epoch": 1, "args": None}, {"teacher": {}, "model": {"arch": "vit_micro"}}])
def test_a_dictionary_without_weights(content):
    with pytest.raises(DinotoolsError, match="holds no weights: its keys are"):
        network_state(content, "teacher", "here")


def test_backbone_and_heads_part():
    names = ["backbone.blocks.0.mlp.fc1.weight", "module.backbone.norm.bias", "head.mlp.0.weight", "backbone.fc.bias"]
    tensors, head = backbone_state({name: torch.full((1,), float(i)) for i, name in enumerate(names)}, "here")
    assert {name: tensor.item() for name, tensor in tensors.items()} == {"blocks.0.mlp.fc1.weight": 0, "norm.bias": 1}
    assert {name: tensor.item() for name, tensor in head.items()} == {"head.mlp.0.weight": 2, "fc.bias": 3}


def test_a_linear_classifier_is_no_backbone():
    with pytest.raises(DinotoolsError, match=r"holds no backbone, only linear.weight, linear.bias"):
        backbone_state({"module.linear.weight": torch.zeros(1), "module.linear.bias": torch.zeros(1)}, "here")


def test_one_name_twice_is_not_settled_by_chance():
    with pytest.raises(DinotoolsError, match="twice"):
        backbone_state({"norm.bias": torch.zeros(1), "backbone.norm.bias": torch.ones(1)}, "here")


@pytest.mark.parametrize(
    ("checkpoint", "arch"),
    [
        ({"model": {"arch": "vit_micro", "patch_size": 4}}, "vit_micro"),
        ({"args": argparse.Namespace(arch="resnet50")}, "resnet50"),
        ({"args": argparse.Namespace()}, None),
        ({"model": STATE}, None),
        ({"model": {"arch": 5}}, None),
        (STATE, None),
    ],
)
def test_what_a_file_says_of_its_architecture(checkpoint, arch):
    assert said_arch(checkpoint) == arch


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1])
def test_sha256(tmp_path, size):
    content = bytes(i % 251 for i in range(size))
    Path(tmp_path / "a").write_bytes(content)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_sha256_of_tensors_is_that_of_their_content(dtype):
    state = {"a": torch.arange(6).reshape(2, 3).to(dtype), "b": torch.tensor(1, dtype=dtype)}
    digest = sha256_of_tensors(state)
    transposed = {"a": state["a"].T.contiguous().T, "b": state["b"]}
    assert sha256_of_tensors(dict(reversed(transposed.items()))) == digest
    others = [
        {"a": state["a"].reshape(3, 2), "b": state["b"]},
        {"a": state["a"], "c": state["b"]},
        {"a": state["a"], "b": 1 - state["b"].int()},
        {"a": state["a"].flip(0), "b": state["b"]},
    ]
    assert digest not in {sha256_of_tensors(other) for other in others[: 3 if dtype == torch.bool else 4]}


@pytest.mark.parametrize(("names", "told"), [(["a", "b", "c"], "a, b, c"), (list("abcde"), "a, b, c and 2 more")])
def test_few(names, told):
    assert few(names) == told
    assert few([]) == "none"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            {"num_heads": 8, "in_chans": 1, "mean": [0.5], "std": [1]},
            {"num_heads": 8, "in_chans": 1, "mean": [0.5], "std": [1]},
        ),
        ({"num_heads": "many", "in_chans": None, "mean": [0.5], "std": [0.5, 0.5]}, {}),
        ({"mean": ["a"], "std": ["b"]}, {}),
        ({"mean": [], "std": []}, {}),
        (STATE, {}),
        (None, {}),
    ],
)
def test_what_a_file_says_of_its_backbone(model, said):
    assert said_model({"model": model}) == said
