"""TOML files of options."""

import dataclasses
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinotools.configs import files
from dinotools.configs.classification import KnnConfig
from dinotools.configs.finetuning import FinetuneConfig
from dinotools.configs.option import fields
from dinotools.configs.pretraining import PretrainConfig
from dinotools.runtime.errors import DinotoolsError


def write(folder: Path, text: str) -> Path:
    path = folder / "options.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_config_survives_the_way_through_toml(tmp_path):
    config = PretrainConfig(
        data="digits", out=Path("runs/a"), local_crops_scale=(0.1, 0.3), norm_last_layer=False, knn_data=None, lr=1e-4
    )
    assert files.load(PretrainConfig, write(tmp_path, files.dump(config))) == config


@given(
    lr=st.floats(1e-8, 10), epochs=st.integers(1, 10**6), scale=st.tuples(st.floats(0.01, 0.5), st.floats(0.5, 1)),
    data=st.text(min_size=1),
)  # fmt: skip
def test_any_values_survive(tmp_path_factory, lr, epochs, scale, data):
    config = PretrainConfig(data=data, out=Path("a"), lr=lr, epochs=epochs, global_crops_scale=scale)
    path = tmp_path_factory.mktemp("toml") / "config.toml"
    path.write_bytes(files.dump(config).encode("utf-8", "surrogatepass"))
    assert files.load(PretrainConfig, path) == config


def test_overwriting_and_resuming_are_not_repeated_from_a_file(tmp_path):
    config = PretrainConfig(data="digits", out=Path("a"), overwrite=True, resume=True)
    again = files.load(PretrainConfig, write(tmp_path, files.dump(config)))
    assert (again.overwrite, again.resume) == (False, False)


def test_keyword_arguments_win_over_the_file(tmp_path):
    path = write(tmp_path, 'ckpt = "random"\nk = [5, 7]\nbatch-size = 3\n')
    assert files.load(KnnConfig, path, k=(1,)) == KnnConfig(ckpt="random", k=(1,), batch_size=3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epoch = 3", ["unknown key 'epoch'", "'epochs'"]),
        ("epochs = 'three'", ["epochs = 'three'"]),
        ("epochs = 3.5", ["epochs = 3.5", "must be int"]),
        ("epochs = true", ["epochs = True", "must be int"]),
        ("norm_last_layer = 1", ["norm_last_layer = 1", "must be true or false"]),
        ("overwrite = 'no'", ["overwrite = 'no'", "must be true or false"]),
        ("optimizer = 'adam'", ["adamw, sgd, lars"]),
        ("global_crops_scale = [0.4]", ["must be 2 values"]),
        ("epochs = ", ["not valid TOML"]),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, words):
    path = write(tmp_path, text)
    with pytest.raises(DinotoolsError) as error:
        files.read_values(PretrainConfig, path)
    assert str(path) in str(error.value)
    assert all(word in str(error.value) for word in words)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DinotoolsError, match=r"none\.toml.*cannot be read"):
        files.read_values(PretrainConfig, tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (tuple[int, ...], "10,20, 30", (10, 20, 30)),
        (tuple[int, ...], 7, (7,)),
        (tuple[float, float], "0.4 1", (0.4, 1.0)),
        (float, 3, 3.0),
        (Path | None, "a/b", Path("a/b")),
        (Literal["a", "b"], "b", "b"),
        (str, "12", "12"),
    ],
)
def test_coerce(kind, value, expected):
    assert files.coerce(kind, value) == expected


PRESETS = {"pretrain": PretrainConfig, "finetune": FinetuneConfig}


@pytest.mark.parametrize(
    ("command", "name"), [(command, name) for command in PRESETS for name in files.preset_names(command)]
)
def test_every_preset_is_a_valid_config(command, name):
    config = files.load(PRESETS[command], files.preset_file(command, name), out=Path("a"), data="digits")
    assert config.epochs > 0


def test_every_folder_of_presets_belongs_to_a_command():
    assert {folder.name for folder in files.PRESETS.iterdir()} == set(PRESETS)


def test_presets_are_found_and_a_wrong_name_lists_those_of_the_command():
    assert "digits" in files.preset_names("pretrain")
    assert "digits" not in files.preset_names("finetune")
    with pytest.raises(DinotoolsError, match=r"no preset of pretrain .* digits, .* small-images, .*vitb16"):
        files.preset_file("pretrain", "digit")


@pytest.mark.parametrize("config_class", [PretrainConfig, KnnConfig, FinetuneConfig])
def test_every_option_has_help_and_a_default_of_its_type(config_class):
    for field in fields(config_class):
        assert field.opt.help and not field.opt.help.endswith("."), field.name
        if not field.required and field.default is not None:
            assert files.coerce(field.type, files._plain(field.default)) == field.default, field.name


def test_configs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        KnnConfig(ckpt="random").seed = 3


def test_differences_between_runs_are_told_in_words():
    saved = files.as_document(PretrainConfig(data="digits", out=Path("a"), lr=0.1, knn_data="more", workers=3))
    now = PretrainConfig(data="digits", out=Path("b"), lr=0.2, workers=1)
    told = files.differences(saved, now, may_differ={"out", "workers"})
    assert told == ["knn_data was more, now None", "lr was 0.1, now 0.2"]


def test_an_option_that_an_older_version_lacked_counts_as_its_default():
    config = PretrainConfig(data="digits", out=Path("a"), head_layers=4)
    saved = files.as_document(config)
    del saved["head_layers"], saved["epochs"]
    assert files.differences(saved, config, may_differ=set()) == ["head_layers was 3, now 4"]
