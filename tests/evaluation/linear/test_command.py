"""The command as a user meets it: the cached grid, evaluation of files, and what it says to bad input."""

import dataclasses
import json

import pytest
import torch
import typer

from dinotools.configs.features import FeaturesConfig
from dinotools.configs.linear import LinearConfig
from dinotools.data.subsets import hold_out
from dinotools.evaluation.linear import cached, grid
from dinotools.evaluation.linear.cached import PICTURE
from dinotools.evaluation.linear.classifier import FILE
from dinotools.evaluation.linear.probe import run
from dinotools.features import command as features_command
from dinotools.features.files import read_labels
from dinotools.models.checkpoint_files import read_checkpoint
from dinotools.models.vit import build_vit
from dinotools.options import command, run_app
from dinotools.runtime.errors import DinotoolsError

SIZES = {"resize_size": 32, "crop_size": 32, "workers": 0}
GRID = {"protocol": "cached", "epochs": 20, "train_batch_size": 8, "lrs": (0.01, 0.1, 1.0)}


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("network") / "vit.pth"
    torch.save(build_vit("vit_micro", 16, 32).state_dict(), path)
    return str(path)


@pytest.fixture(scope="module")
def features(ckpt, image_folder, tmp_path_factory):
    """Stored features of the widest kind."""
    out = tmp_path_factory.mktemp("features") / "stored"
    features_command.run(FeaturesConfig(ckpt=ckpt, data=str(image_folder), out=out, pooling="cls4+avg", **SIZES))
    return out


@pytest.fixture
def dinotools(capfd):
    """Runs ``dinotools linear`` with some words; returns exit code, stdout and stderr."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    command(app, "linear", LinearConfig, "dinotools.evaluation.linear.probe:run")

    def invoke(*words):
        code = run_app(lambda: app(args=["linear", *map(str, words)]), debug=False)
        said = capfd.readouterr()
        return code, said.out, " ".join(said.err.split())

    return invoke


def grid_metrics(result):
    return {(cell["pooling"], cell["lr"]): cell["holdout_top1"] for cell in result.metrics["grid"]}


def test_grid_over_images_features_and_cache_is_the_same(ckpt, image_folder, features, tmp_path):
    of_images = run(LinearConfig(ckpt=ckpt, data=str(image_folder), cache=tmp_path / "cache", **SIZES, **GRID))
    of_features = run(LinearConfig(features=features, **GRID))
    assert of_images.metrics["grid"] == of_features.metrics["grid"]
    assert len(of_images.metrics["grid"]) == 3 * 4
    assert {pooling for pooling, _ in grid_metrics(of_images)} == {"cls", "cls+avg", "cls4", "cls4+avg"}
    assert of_images.metrics["top1"] > 60
    chosen = of_images.metrics["chosen"]
    assert chosen["holdout_top1"] == max(grid_metrics(of_images).values())
    assert chosen["test_top1"] == pytest.approx(of_images.metrics["top1"])
    assert of_images.details["held_out"] == 3  # one of the eight of every class
    assert sum("*" in str(value) for row in of_images.rows for value in row.values()) == 1


def test_nothing_is_trained_on_the_images_held_out(features, monkeypatch):
    trained_on = []

    def recording(settings, rows, labels, positions, **options):
        trained_on.append(positions)
        grid.train(settings, rows, labels, positions, **options)

    monkeypatch.setattr(cached, "train", recording)
    run(LinearConfig(features=features, holdout=0.25, **GRID))
    stays, held_out = hold_out(read_labels(features / "train"), 0.25, seed=0)
    assert (len(stays), len(held_out)) == (18, 6)
    assert torch.equal(trained_on[0], stays)


@pytest.mark.parametrize("setting", [{}, {"n_last_blocks": (1,), "avgpool_patchtokens": "true"}])
def test_the_chosen_classifier_is_a_file_that_evaluates_to_the_same(setting, ckpt, image_folder, features, tmp_path):
    result = run(LinearConfig(features=features, out=tmp_path / "out", **GRID, **setting))
    assert (tmp_path / "out" / PICTURE).read_bytes().startswith(b"\x89PNG")
    file = str(tmp_path / "out" / FILE)
    assert read_checkpoint(tmp_path / "out" / FILE)["pooling"] == result.metrics["chosen"]["pooling"]
    for where in ({"features": features}, {"ckpt": ckpt, "data": str(image_folder), **SIZES}):
        again = run(LinearConfig(evaluate=file, **where))
        assert again.metrics["loss"] == pytest.approx(result.metrics["loss"], rel=1e-5)
        assert again.metrics["top1"] == pytest.approx(result.metrics["top1"])


def test_a_grid_of_narrow_features_has_the_settings_that_they_allow(ckpt, image_folder, tmp_path):
    out = tmp_path / "narrow"
    features_command.run(FeaturesConfig(ckpt=ckpt, data=str(image_folder), out=out, pooling="cls", **SIZES))
    assert {cell["pooling"] for cell in run(LinearConfig(features=out, **GRID)).metrics["grid"]} == {"cls"}
    with pytest.raises(DinotoolsError, match=r"cls4 is needed, but only cls can be had.*--pooling cls4"):
        run(LinearConfig(features=out, n_last_blocks=(4,), avgpool_patchtokens="false", **GRID))


def test_a_network_without_tokens_has_one_setting(image_folder):
    network = {"ckpt": "random", "arch": "resnet18", "data": str(image_folder)}
    result = run(LinearConfig(**network, **SIZES, **GRID | {"epochs": 1}))
    assert {cell["pooling"] for cell in result.metrics["grid"]} == {"cls"}


def test_diverged_settings_are_shown_and_not_chosen(features, tmp_path):
    result = run(LinearConfig(features=features, out=tmp_path / "out", **GRID | {"lrs": (0.1, 1e39)}))
    assert [cell["diverged"] for cell in result.metrics["grid"]] == [False, True] * 4
    assert "NaN" not in json.dumps(result.metrics)
    assert all(value == "diverged" for name, value in result.rows[1].items() if name not in ("lr", "effective"))
    assert result.metrics["chosen"]["lr"] == 0.1


def test_files_that_do_not_belong_are_refused(features, ckpt, image_folder, tmp_path, capsys):
    good = run(LinearConfig(features=features, out=tmp_path / "out", **GRID, n_last_blocks=(1,)))
    assert good.metrics
    content = read_checkpoint(tmp_path / "out" / FILE)

    def evaluate(**changes):
        path = tmp_path / "changed.pth"
        torch.save({**content, **changes}, path)
        return run(LinearConfig(evaluate=str(path), features=features))

    def layer(n_classes, width):
        weight, bias = torch.zeros(n_classes, width), torch.zeros(n_classes)
        return {"module.linear.weight": weight, "module.linear.bias": bias}

    assert evaluate(state_dict=layer(3, 512), pooling="cls4").metrics["loss"] == pytest.approx(1.0986, abs=1e-4)
    for changes, words in (
        ({"state_dict": layer(4, 512), "pooling": "cls4"}, "tells 4 classes apart, but the images have 3"),
        ({"state_dict": layer(3, 384), "pooling": "cls4"}, "reads 384 values, but a feature has 512"),
        ({"state_dict": layer(3, 512), "pooling": "cls4", "classes": ["a", "b", "c"]}, "other classes"),
        ({"backbone": {**content["backbone"], "sha256": "0" * 64}}, "trained on another network"),
        ({"backbone": {**content["backbone"], "key": "student"}}, r"another network \(key student, not state dict\)"),
        ({"state_dict": {"module.linear.weight": torch.zeros(3, 128)}}, "is no linear classifier"),
        ({"state_dict": {**layer(3, 128), "backbone.x": torch.zeros(1)}}, "is no linear classifier"),
        ({"pooling": "cls9"}, "cls9 is needed"),
    ):
        with pytest.raises(DinotoolsError, match=words):
            evaluate(**changes)
    assert "other views" not in capsys.readouterr().err
    evaluate(backbone={**content["backbone"], "crop_size": 48})
    assert "crop_size 48, not 32" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(DinotoolsError, match="no images to evaluate on"):
        run(LinearConfig(evaluate=str(tmp_path / "out"), ckpt=ckpt))
    evil = tmp_path / "evil.pth"
    torch.save({"state_dict": layer(3, 512), "args": dataclasses.Field}, evil)
    with pytest.raises(DinotoolsError, match="refused"):
        run(LinearConfig(evaluate=str(evil), features=features))


def test_a_classifier_of_random_weights_is_that_of_no_others(image_folder, tmp_path):
    network = {"ckpt": "random", "arch": "vit_micro", "patch_size": 16, "data": str(image_folder), **SIZES}
    run(LinearConfig(**network, out=tmp_path / "out", epochs=1, train_batch_size=8))
    evaluated = {"evaluate": str(tmp_path / "out")}
    assert run(LinearConfig(**network, **evaluated)).metrics
    with pytest.raises(DinotoolsError, match=r"another network \(seed 0, not 1\)"):
        run(LinearConfig(**network, **evaluated, seed=1))


def test_prints_the_table_and_leaves_results(dinotools, features, tmp_path):
    words = ("--protocol", "cached", "--epochs", 5, "--train-batch-size", 8, "--lrs", "0.01,0.1")
    code, said, _ = dinotools("--features", features, "--out", tmp_path / "out", *words)
    assert code == 0
    assert "chosen:" in said and "cls4+avg" in said and "held out" in said
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["metrics"]["per_class"]
    assert results["config"]["lrs"] == [0.01, 0.1]
    assert [cell["effective_lr"] for cell in results["metrics"]["grid"]][:2] == [0.01 * 8 / 256, 0.1 * 8 / 256]


BAD = {
    "features with the paper's protocol": (["--features", "FEATURES"], "--features: the paper's protocol augments"),
    "evaluate what is not there": (["--evaluate", "dino_vits61", "--features", "FEATURES"], "Did you mean dino_vits16"),
    "one rate for a grid": (["--protocol", "cached", "--features", "FEATURES", "--lr", "1"], "Use --lrs"),
    "no rates": (["--protocol", "cached", "--features", "FEATURES", "--lrs", ""], "--lrs: is "),
    "negative rate": (["--lr", "-1"], "--lr: is -1.0"),
    "resuming a grid": (["--protocol", "cached", "--features", "FEATURES", "--resume"], "Use --cache"),
    "resuming nowhere": (["--resume"], "Add --out"),
    "a grid of blocks without a grid": (["--n-last-blocks", "1,4"], "Use --protocol cached"),
    "a hold-out of everything": (["--holdout", "1"], "--holdout: is 1.0"),
    "no blocks": (["--n-last-blocks", "0"], "--n-last-blocks"),
    "more blocks than there are": (["--ckpt", "CKPT", "--data", "DATA", "--n-last-blocks", "9"], "cls9 is needed"),
    "no epochs": (["--epochs", "0"], "--epochs: is 0"),
    "a cache for the paper's protocol": (["--cache", "OUT"], "--cache"),
    "no network": (["--data", "DATA"], "--ckpt"),
    "no data": (["--ckpt", "CKPT"], "--data"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_with_the_remedy_and_exit_code_2(case, dinotools, features, ckpt, image_folder, tmp_path):
    places = {"FEATURES": features, "CKPT": ckpt, "DATA": image_folder, "OUT": tmp_path / "out"}
    words, expected = BAD[case]
    code, said, error = (
        dinotools(*(places.get(word, word) for word in words), "--out", tmp_path / "run")
        if (case != "resuming nowhere")
        else dinotools(*words)
    )
    assert (code, said) == (2, "")
    assert error.startswith("error:") and expected in error and "Traceback" not in error
    assert not (tmp_path / "run").exists()
