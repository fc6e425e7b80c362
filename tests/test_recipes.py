"""Recipes run from beginning to end, in small; presets and the documented ablations are options that are accepted."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dinotools.configs import files
from dinotools.configs.option import fields
from dinotools.configs.pretraining import PretrainConfig
from dinotools.pretraining.checks import check_config
from dinotools.runtime.errors import DinotoolsError

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "recipes"
SHORT = "--epochs 1 --warmup-epochs 0 --batch-size 12 --knn-every 0 --workers 0 --out-dim 16"


def test_small_images_runs_and_runs_again(image_folder, tmp_path):
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    command = [RECIPES / "small_images.sh", image_folder, tmp_path / "run", *SHORT.split()]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run" / "knn" / "results.json").read_text())
    assert {"k10", "k20"} <= set(results["metrics"])
    assert results["details"]["checkpoint"]["arch"] == "vit_micro"


PRESETS = files.preset_names("pretrain")
ABLATIONS = re.findall(r"\| `(--[^`]+)` \|", (ROOT / "docs" / "ablations.md").read_text(encoding="utf-8"))


def config_of(words: str) -> PretrainConfig:
    """The config of options as they are written on a command line, after a preset."""
    known = {field.flag: field for field in fields(PretrainConfig)}
    switches = {f"--no-{flag[2:]}": flag for flag, field in known.items() if field.type is bool}
    values: dict[str, object] = {"data": "images", "out": Path("run")}
    rest = words.split()[::-1]
    while rest:
        flag = rest.pop()
        if flag == "--preset":
            values |= files.read_values(PretrainConfig, files.preset_file("pretrain", rest.pop()))
        elif known[switches.get(flag, flag)].type is bool:
            values[known[switches.get(flag, flag)].name] = flag not in switches
        else:
            values[known[flag].name] = files.coerce(known[flag].type, rest.pop())
    return PretrainConfig(**values)


@pytest.mark.parametrize("name", PRESETS)
def test_pretraining_presets_are_accepted_and_say_where_they_come_from(name):
    check_config(config_of(f"--preset {name}"))
    assert files.preset_file("pretrain", name).read_text(encoding="utf-8").startswith("# ")


def test_every_promised_preset_is_there():
    promised = {"vanilla", "boosted-300", "boosted-800", "vitb16", "vits8", "vitb8", "resnet50", "no-multicrop"}
    assert promised | {"single-gpu", "small-data", "byol", "moco-v2", "swav", "digits"} <= set(PRESETS)


def test_the_authors_settings_without_multi_crop():
    config = config_of("--preset no-multicrop")
    assert config.crop_sizes == (224, 224)
    assert (config.clip_grad, config.min_lr, config.global_crops_scale) == (0.0, 1e-5, (0.14, 1.0))


@pytest.mark.parametrize("words", sorted(set(ABLATIONS)))
def test_documented_ablations_are_accepted(words):
    check_config(config_of(words))


def test_ablations_change_what_they_name():
    assert len(ABLATIONS) >= 60
    found = {words: files.as_document(config_of(words)) for words in ABLATIONS}
    plain = found["--preset boosted-300"]
    changed = {words: {k for k in run if run[k] != plain.get(k)} for words, run in found.items()}
    assert changed["--preset boosted-300 --loss mse"] == {"loss"}
    assert changed["--preset boosted-300 --teacher student --force"] == {"teacher", "force"}


@pytest.mark.parametrize("words", [words for words in sorted(set(ABLATIONS)) if "--force" in words])
def test_force_is_written_only_where_it_is_needed(words):
    with pytest.raises(DinotoolsError):
        check_config(config_of(words.replace(" --force", "")))
