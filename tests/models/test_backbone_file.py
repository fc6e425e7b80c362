import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import dinotools
from dinotools.configs.models import ListConfig
from dinotools.models import catalogue, zoo
from dinotools.models.checkpoints import describe, load_backbone, locate
from dinotools.models.export import safetensors_file
from dinotools.models.export.safetensors_file import write_backbone
from dinotools.models.vit import build_vit
from dinotools.runtime.errors import DinotoolsError
from tests.golden import official

DESCRIPTION = {"arch": "vit_micro", "patch_size": 8, "img_size": 32, "key": "teacher"}
MICRO = "dino_micro_cifar10"


@pytest.fixture(scope="module")
def network():
    return official.fill(build_vit("vit_micro", 8, 32)).eval()


@pytest.mark.parametrize(
    "wrap", [lambda n: n, torch.compile, torch.nn.DataParallel], ids=["bare", "compiled", "module"]
)
@torch.no_grad()
def test_a_file_needs_no_further_option(network, tmp_path, wrap):
    path = tmp_path / "backbone.safetensors"
    write_backbone(path, wrap(network), DESCRIPTION)
    assert set(load_file(path)) == set(network.state_dict())
    loaded = load_backbone(str(path))
    assert (loaded.arch, loaded.patch_size, loaded.img_size, loaded.dropped) == ("vit_micro", 8, 32, ())
    assert loaded.key == describe(str(path))["key"] == "teacher"
    images = official.normal(1, (2, 3, 40, 32))
    assert torch.equal(loaded.model(images), network(images))


def test_metadata_are_json(network, tmp_path):
    write_backbone(tmp_path / "a.safetensors", network, DESCRIPTION | {"mean": [0.5], "num_heads": None})
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        said = {name: json.loads(text) for name, text in file.metadata().items()}
    versions = {"format_version": 1, "dinotools": dinotools.__version__}
    assert said == DESCRIPTION | {"mean": [0.5], "num_heads": None} | versions


def test_half_precision_is_widened_when_loaded(network, tmp_path):
    path = tmp_path / "backbone.safetensors"
    write_backbone(path, network, DESCRIPTION, half=True)
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}
    loaded = load_backbone(str(path)).model
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    assert torch.equal(loaded.pos_embed, network.pos_embed.half().float())
    assert next(network.parameters()).dtype == torch.float32  # what was written is left as it was


def test_others_may_read_it_as_any_new_file(network, tmp_path):
    (tmp_path / "any").touch()
    write_backbone(tmp_path / "a.safetensors", network, DESCRIPTION)
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_a_teacher_is_not_taken_for_a_student(network, tmp_path):
    for role in ("teacher", "student"):
        write_backbone(tmp_path / f"{role}.safetensors", network, DESCRIPTION | {"key": role})
    with pytest.raises(DinotoolsError, match="holds no student, only a teacher"):
        load_backbone(str(tmp_path / "teacher.safetensors"), key="student")
    for asked in ("teacher", "student"):  # nobody asks for a teacher: it is the default
        assert load_backbone(str(tmp_path / "student.safetensors"), key=asked).key == "student"


def test_a_save_that_fails_keeps_the_file_before(network, tmp_path, monkeypatch):
    path = tmp_path / "backbone.safetensors"
    write_backbone(path, network, DESCRIPTION)
    before = path.read_bytes()

    def full_disk(temporary, tensors, texts):
        temporary.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors_file, "write_tensors", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_backbone(path, network, DESCRIPTION)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_s_checkpoint_comes_before_its_backbone(network, tmp_path):
    write_backbone(tmp_path / "backbone.safetensors", network, DESCRIPTION)
    assert locate(str(tmp_path)).name == "backbone.safetensors"
    torch.save({"teacher": network.state_dict()}, tmp_path / "checkpoint.pth")
    assert locate(str(tmp_path)).name == "checkpoint.pth"


@pytest.fixture
def shipped(network, tmp_path, monkeypatch):
    """A stand-in for the networks in the package, and its log."""
    for module in (zoo, catalogue):
        monkeypatch.setattr(module, "WEIGHTS", tmp_path)
    write_backbone(tmp_path / f"{MICRO}.safetensors", network, DESCRIPTION, half=True)
    log = [{"epoch": 1, "step": 5, "knn_teacher": 30.0}, {"epoch": 2, "step": 10, "knn_teacher": 54.321}]
    (tmp_path / f"{MICRO}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log), encoding="utf-8")
    return tmp_path


@torch.no_grad()
def test_a_shipped_network_needs_no_download(network, shipped):
    loaded = load_backbone(MICRO, download=False)
    assert (loaded.source, loaded.arch, loaded.patch_size, loaded.img_size) == (MICRO, "vit_micro", 8, 32)
    assert torch.equal(loaded.model.cls_token, network.cls_token.half().float())
    told = describe(MICRO, download=False)
    assert (told["source"], told["dtype"], told["problem"]) == (MICRO, "float16", None)


def test_models_list_says_what_ships_and_how_good_it_is(shipped):
    rows = {row["name"]: row for row in catalogue.list_models(ListConfig()).rows}
    assert rows[MICRO]["note"] == "ships with dinotools, trained on CIFAR-10; k-NN 54.3 % there"
    assert rows[MICRO]["k-NN %"] is None  # that column is ImageNet's
    assert rows["dino_vits16"]["note"] == ""


def test_a_shipped_network_that_was_lost(shipped):
    (shipped / f"{MICRO}.safetensors").unlink()
    with pytest.raises(DinotoolsError, match=r"is missing, though it ships.*Install dinotools again"):
        load_backbone(MICRO)


def test_the_shipped_network_is_what_it_says():
    path = zoo.WEIGHTS / f"{MICRO}.safetensors"
    assert path.stat().st_size <= 8e6
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}
    assert all(path.with_suffix(suffix).is_file() for suffix in (".toml", ".jsonl"))
    loaded, network = load_backbone(MICRO, download=False), zoo.ZOO[MICRO]
    assert (loaded.arch, loaded.patch_size) == (network.arch, network.patch_size)
    note = next(row["note"] for row in catalogue.list_models(ListConfig()).rows if row["name"] == MICRO)
    assert "k-NN" in note
