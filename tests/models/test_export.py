import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors import safe_open

import dinotools
from dinotools.configs.export import ExportConfig
from dinotools.models.checkpoints import load_backbone
from dinotools.models.export import official_file
from dinotools.models.export.command import FORMATS, run
from dinotools.models.vit import VisionTransformer, build_vit
from dinotools.models.zoo import build_backbone
from dinotools.runtime.errors import DinotoolsError, RunFailed
from tests.golden import official

# As the README has them: how somebody else loads what was exported.
SNIPPETS = {
    "safetensors": """
from dinotools.models.checkpoints import load_backbone
network = load_backbone("exported/backbone.safetensors").model
features = network(images)
""",
    "official": """
network = build_vit("vit_micro", patch_size=8, img_size=32).eval()
network.load_state_dict(torch.load("exported/backbone.pth", weights_only=True))
features = network(images)
""",
    "timm": """
network = timm.models.VisionTransformer(img_size=32, patch_size=8, embed_dim=128, depth=4, num_heads=4, num_classes=0)
network.load_state_dict(load_file("exported/timm.safetensors"))
features = network.eval()(images)
""",
    "hf": """
network = transformers.ViTModel.from_pretrained("exported", add_pooling_layer=False)
features = network(images).last_hidden_state[:, 0]
""",
    "onnx": """
session = onnxruntime.InferenceSession("exported/backbone.onnx")
features = session.run(["features"], {"images": images.numpy()})[0]
""",
}
LIBRARIES = {"timm": ("timm",), "hf": ("transformers",), "onnx": ("onnx", "onnxscript", "onnxruntime")}
IMAGES = official.normal(3, (3, 3, 32, 32))


def names_for(to):
    """What a snippet may use without importing it."""
    from safetensors.torch import load_file

    libraries = {name: pytest.importorskip(name) for name in LIBRARIES.get(to, ())}
    return {"torch": torch, "build_vit": build_vit, "load_file": load_file, **libraries}


def vit(img_size=32, **options):
    return official.fill(build_vit("vit_micro", 8, img_size, **options)).eval()


def resnet18():
    """With running statistics that no fresh network has."""
    network, _ = build_backbone("resnet18", None)
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            module.num_batches_tracked.fill_(7)
    return network.eval()


@pytest.fixture
def saved(tmp_path):
    """Writes a network as a training checkpoint whose student is the teacher's negative; returns the run."""

    def save(network):
        teacher = {f"backbone.{name}": tensor for name, tensor in network.state_dict().items()}
        student = {name: -tensor for name, tensor in teacher.items()}
        (tmp_path / "run").mkdir()
        torch.save({"teacher": teacher, "student": student, "epoch": 1}, tmp_path / "run" / "checkpoint.pth")
        return str(tmp_path / "run")

    return save


def export(ckpt, to, tmp_path, **options):
    return run(ExportConfig(ckpt=ckpt, to=to, out=tmp_path / "exported", **options))


def left_in(folder):
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


@pytest.mark.parametrize("half", [False, True], ids=["float32", "half"])
@pytest.mark.parametrize("to", SNIPPETS)
@torch.no_grad()
def test_others_load_what_was_exported(saved, tmp_path, monkeypatch, to, half):
    if half and to == "onnx":
        pytest.skip("ONNX is float32")
    names = names_for(to)
    network = vit(48)  # what it computes for 32 pixels, its positions interpolated, is what the file computes
    result = export(saved(network), to, tmp_path, img_size=32, half=half)
    assert result.metrics["max_difference"] <= 1e-4
    monkeypatch.chdir(tmp_path)
    for images in (IMAGES, IMAGES[:1]):
        names["images"] = images
        exec(SNIPPETS[to], names)
        features = torch.as_tensor(names["features"]).float()
        if not half:
            torch.testing.assert_close(features, network(images), rtol=0, atol=1e-4)
        else:
            # rounded, but not more than 11 bits of a weight can do
            off = (features - network(images)).abs().max() / network(images).abs().max()
            assert 0 < off < 0.01
    if to == "onnx":
        assert_it_says_how_images_look(tmp_path / "exported" / "backbone.onnx")
    assert {"bytes", "sha256"} == set(next(iter(result.metrics["files"].values())))
    assert (result.metrics.get("rounding", 0) > 0) == half


def test_half_precision_halves_the_file(saved, tmp_path):
    ckpt = saved(vit())
    sizes = [
        (run(ExportConfig(ckpt=ckpt, to="safetensors", half=half, out=tmp_path / str(half))).rows[0]["MB"])
        for half in (False, True)
    ]
    assert sizes[1] / sizes[0] == pytest.approx(0.5, abs=0.01)
    with safe_open(tmp_path / "True" / "backbone.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118


@torch.no_grad()
def test_the_student_too(saved, tmp_path):
    network = vit()
    export(saved(network), "safetensors", tmp_path, key="student")
    loaded = load_backbone(str(tmp_path / "exported"))  # a folder stands for the file in it
    assert torch.equal(loaded.model.cls_token, -network.cls_token)


def assert_it_says_how_images_look(path):
    """And nothing of this machine."""
    told = {prop.key: prop.value for prop in pytest.importorskip("onnx").load(path).metadata_props}
    assert (told["img_size"], told["mean"], told["std"]) == ("32", "[0.485, 0.456, 0.406]", "[0.229, 0.224, 0.225]")
    assert str(Path(dinotools.__file__).parent).encode() not in path.read_bytes()


def test_positions_are_laid_out_in_the_file(saved, tmp_path):
    network = vit(48)
    export(saved(network), "safetensors", tmp_path, img_size=32)
    loaded = load_backbone(str(tmp_path / "exported"))
    assert loaded.img_size == 32
    torch.testing.assert_close(loaded.model.pos_embed, network.interpolate_pos_encoding(32, 32))


@pytest.mark.parametrize("registers", [0, 2])
@torch.no_grad()
def test_a_vit_of_dinov2_goes_to_timm(saved, tmp_path, registers):
    pytest.importorskip("timm")
    network = vit(registers=registers, layer_scale=True)
    ckpt = saved(network)
    assert export(ckpt, "timm", tmp_path).metrics["max_difference"] <= 1e-4
    again = load_backbone(str(tmp_path / "exported" / "timm.safetensors")).model  # we read timm's names too
    torch.testing.assert_close(again(IMAGES), network(IMAGES), rtol=0, atol=1e-4)
    for to in ("official", "hf"):
        with pytest.raises(DinotoolsError, match=f"--to {to}: .* neither registers nor LayerScale"):
            run(ExportConfig(ckpt=ckpt, to=to, out=tmp_path / to))


def test_a_resnet_goes_to_timm(saved, tmp_path):
    pytest.importorskip("timm")
    result = export(saved(resnet18()), "timm", tmp_path, img_size=64)
    assert result.metrics["largest_feature"] > 0.1
    assert result.metrics["max_difference"] <= 1e-4
    assert 'create_model("resnet18"' in result.notes[1]


@torch.no_grad()
def test_a_resnet_is_written_with_torchvisions_names(saved, tmp_path):
    network = resnet18()
    export(saved(network), "official", tmp_path)
    theirs = torchvision.models.resnet18()
    faults = theirs.load_state_dict(torch.load(tmp_path / "exported" / "backbone.pth", weights_only=True), strict=False)
    assert (faults.missing_keys, faults.unexpected_keys) == (["fc.weight", "fc.bias"], [])
    theirs.fc = torch.nn.Identity()
    torch.testing.assert_close(theirs.eval()(IMAGES), network(IMAGES))


def test_a_vit_is_written_with_the_official_names(saved, tmp_path):
    export("random", "official", tmp_path, arch="vit_tiny", patch_size=16)
    written = torch.load(tmp_path / "exported" / "backbone.pth", weights_only=True)
    listed = official.keys()["vit"]["vit_tiny/16"]["state_dict"]
    assert {name: list(t.shape) for name, t in written.items()} == dict(listed)


def test_hugging_face_is_told_how_images_look(saved, tmp_path):
    transformers = pytest.importorskip("transformers")
    export(saved(vit()), "hf", tmp_path)
    processor = transformers.ViTImageProcessor.from_pretrained(tmp_path / "exported")
    picture = np.full((40, 48, 3), 255, dtype=np.uint8)
    pixels = processor(picture, return_tensors="np")["pixel_values"]
    assert pixels.shape == (1, 3, 32, 32)
    np.testing.assert_allclose(
        pixels[0, :, 5, 5], [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225], 1e-5
    )


class Forgetful:
    """A format whose reader gets it wrong."""

    how_to_load = check = staticmethod(lambda *_: "")

    def __init__(self, error):
        self.error = error

    def write(self, folder, backbone, half):
        (folder / "weights").write_bytes(b"0")

    def features(self, folder, backbone, images):
        return backbone.model(images) + self.error * (len(images) == 1)  # of a batch of one


@pytest.mark.parametrize("error", [0.1, float("nan"), float("inf")])
def test_nothing_is_left_of_what_computes_something_else(saved, tmp_path, monkeypatch, error):
    monkeypatch.setitem(FORMATS, "safetensors", Forgetful(error))
    with pytest.raises(RunFailed, match="re-loaded, its features are off"):
        export(saved(vit()), "safetensors", tmp_path)
    assert left_in(tmp_path / "exported") == {"config.toml"}
    monkeypatch.setitem(FORMATS, "safetensors", Forgetful(1e-6))
    export(f"{tmp_path}/run", "safetensors", tmp_path)  # the folder can be used again
    assert left_in(tmp_path / "exported") == {"config.toml", "weights"}


@pytest.mark.parametrize(
    ("to", "options", "message"),
    [
        ("onnx", {"half": True}, "--half: an ONNX graph is written in float32"),
        ("timm", {"img_size": 36}, r"--img-size: 36 pixels are no whole number of patches of 8. Use 32."),
        ("timm", {"img_size": 4}, "--img-size: is 4, smaller than one patch of 8"),
        ("timm", {"img_size": -8}, "--img-size: is -8, smaller"),
        ("official", {"ckpt": None}, "--ckpt: names no network to export"),
        ("official", {"ckpt": "pixels"}, "--ckpt: names no network to export"),
        ("official", {"ckpt": "nowhere.pth"}, "nowhere.pth: there is no such file"),
        ("hf", {"ckpt": "random", "arch": "resnet18"}, "--to hf: resnet18 is no ViTModel"),
        ("timm", {"ckpt": "random", "arch": "regnet_y_400mf"}, "--to timm: regnet_y_400mf has no counterpart in timm"),
    ],
)
def test_bad_input_writes_nothing(saved, tmp_path, to, options, message):
    ckpt = saved(vit())
    with pytest.raises(DinotoolsError, match=message) as error:
        export(**{"ckpt": ckpt, "to": to, "tmp_path": tmp_path} | options)
    assert error.value.exit_code == 2
    assert not (tmp_path / "exported").exists()


def test_timms_networks_keep_their_size(tmp_path):
    pytest.importorskip("timm")
    with pytest.raises(DinotoolsError, match="timm:vit_tiny_patch16_224 keeps its positions for 224 pixels"):
        export("random", "safetensors", tmp_path, arch="timm:vit_tiny_patch16_224", img_size=64)
    with pytest.raises(DinotoolsError, match="none of the official architectures"):
        export("random", "official", tmp_path, arch="timm:resnet10t")


def test_timms_networks_travel_in_our_file(tmp_path):
    pytest.importorskip("timm")
    export("random", "safetensors", tmp_path, arch="timm:test_vit")
    loaded = load_backbone(str(tmp_path / "exported"))
    assert loaded.arch == "timm:test_vit"


def test_heads_that_the_official_file_cannot_tell(saved):
    loaded = load_backbone(saved(vit()))
    official_file.check(loaded)
    other = VisionTransformer(img_size=32, patch_size=8, embed_dim=128, depth=4, num_heads=8)
    with pytest.raises(DinotoolsError, match="cannot say that this vit_micro has 8 heads"):
        official_file.check(replace(loaded, model=other))


def test_a_normalisation_that_the_official_file_cannot_tell(saved):
    loaded = load_backbone(saved(vit()))
    with pytest.raises(DinotoolsError, match="cannot say that images are not normalised as ImageNet's"):
        official_file.check(replace(loaded, mean=(0.5, 0.5, 0.5)))


@pytest.mark.parametrize("to", ["safetensors", "timm", "hf"])
@torch.no_grad()
def test_heads_channels_and_normalisation_travel(tmp_path, to):
    names_for(to)
    options = {"num_heads": 2, "in_chans": 5}
    network = official.fill(build_backbone("vit_micro", 8, 32, **options)[0])
    told = options | {"arch": "vit_micro", "mean": [0.1] * 5, "std": [0.2] * 5}
    torch.save({"teacher": network.state_dict(), "model": told}, tmp_path / "checkpoint.pth")
    assert export(str(tmp_path / "checkpoint.pth"), to, tmp_path).metrics["max_difference"] <= 1e-4
    if to == "hf":
        return
    again = load_backbone(str(next((tmp_path / "exported").glob("*.safetensors"))))
    assert (again.mean, again.std, again.model.num_heads) == ((0.1,) * 5, (0.2,) * 5, 2)
    images = official.normal(6, (2, 5, 32, 32))
    torch.testing.assert_close(again.model(images), network.eval()(images), rtol=0, atol=1e-4)


def test_a_head_alone_is_nothing_to_export(tmp_path):
    torch.save({"head.mlp.0.weight": torch.zeros(2, 2)}, tmp_path / "head.pth")
    with pytest.raises(DinotoolsError, match="holds no backbone"):
        export(str(tmp_path / "head.pth"), "safetensors", tmp_path)


def test_earlier_exports_are_not_replaced_unasked(saved, tmp_path):
    ckpt = saved(vit())
    export(ckpt, "safetensors", tmp_path)
    with pytest.raises(DinotoolsError, match=r"not empty.*--overwrite"):
        export(ckpt, "official", tmp_path)
    export(ckpt, "official", tmp_path, overwrite=True)
    assert left_in(tmp_path / "exported") == {"config.toml", "backbone.pth"}
    with pytest.raises(DinotoolsError, match="would delete what this command reads"):
        export(str(tmp_path / "exported" / "backbone.pth"), "official", tmp_path, overwrite=True)


@pytest.mark.parametrize(("to", "module"), [("timm", "timm"), ("hf", "transformers"), ("onnx", "onnxruntime")])
def test_a_missing_library_is_named(saved, tmp_path, monkeypatch, to, module):
    for library in LIBRARIES[to]:
        if library != module:
            pytest.importorskip(library)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DinotoolsError, match=rf"{module} is not installed.*pip install 'dinotools\[{to}\]'"):
        export(saved(vit()), to, tmp_path)
    assert not (tmp_path / "exported").exists()
