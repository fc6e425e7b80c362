import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

from dinotools.configs import files
from dinotools.configs.finetuning import FinetuneConfig
from dinotools.evaluation.finetuning import measuring, trainer
from dinotools.evaluation.finetuning.checkpointing import TrainingState
from dinotools.evaluation.finetuning.checks import check_config
from dinotools.evaluation.finetuning.recipe import Mixing
from dinotools.models.checkpoint_files import read_checkpoint
from dinotools.models.checkpoints import load_backbone
from dinotools.runtime.device import prepare
from dinotools.runtime.errors import DinotoolsError, RunFailed
from dinotools.runtime.run_log import read_log

SMALL = {"ckpt": "random", "arch": "vit_micro", "patch_size": 16, "resize_size": 32, "crop_size": 32, "workers": 0}
SMALL |= {"epochs": 4, "warmup_epochs": 1, "batch_size": 12, "lr": 0.05, "device": "cpu"}
PLAIN = {"randaugment_ops": 0, "erasing": 0.0, "mixup": 0.0, "cutmix": 0.0, "repeats": 1, "drop_path_rate": 0.0}


def config(out: Path, data: Path, **options) -> FinetuneConfig:
    return FinetuneConfig(out=out, data=str(data), **SMALL | options)


@pytest.fixture(scope="module")
def learned(image_folder, tmp_path_factory):
    options = config(tmp_path_factory.mktemp("finetune") / "run", image_folder, epochs=12, crop_scale=(0.5, 1), **PLAIN)
    return options, trainer.run(options)


def test_colours_are_learned(learned):
    _, result = learned
    assert result.metrics["top1"] > 80  # chance is 33
    assert result.metrics["top5"] == 100.0
    assert result.rows[0]["top-1 %"] == result.metrics["top1"]
    assert result.metrics["epoch"] == 12


def test_the_log_has_a_line_per_epoch(learned):
    options, result = learned
    records = read_log(options.out / "log.jsonl")
    assert [record["epoch"] for record in records] == list(range(1, 13))
    assert [record["step"] for record in records] == list(range(2, 25, 2))
    assert records[-1]["top1"] == result.metrics["top1"]
    assert records[-1]["train_loss"] < records[0]["train_loss"]
    assert {record["test_images"] for record in records} == {12}


def test_what_is_trained_serves_as_a_backbone(learned):
    options, result = learned
    backbone = load_backbone(str(options.out))
    assert (backbone.arch, backbone.patch_size) == ("vit_micro", 16)
    assert set(backbone.dropped) == {"head.weight", "head.bias"}
    saved = read_checkpoint(options.out / "checkpoint.pth")["state_dict"]
    assert all(torch.equal(value, saved[f"backbone.{name}"]) for name, value in backbone.model.state_dict().items())
    assert not torch.equal(saved["backbone.cls_token"], load_backbone("random", arch="vit_micro", patch_size=16,
                                                                      img_size=32).model.cls_token)  # fmt: skip
    assert result.details["checkpoint"]["source"] == "random"


def test_a_finished_run_is_not_repeated(learned, monkeypatch):
    options, result = learned
    monkeypatch.setattr(trainer, "train_step", None)
    again = trainer.run(dataclasses.replace(options, resume=True))
    assert again.metrics == result.metrics
    assert again.details["checkpoint"]["source"] == "random"


FULL = {
    "ema_decay": 0.9,
    "accumulate": 2,
    "layer_decay": 0.8,
    "drop_path_rate": 0.3,
    "erasing": 0.5,
    "repeats": 2,
}  # all that draws


def test_a_resumed_run_equals_an_uninterrupted_one(image_folder, tmp_path, monkeypatch):
    whole = config(tmp_path / "whole", image_folder, **FULL)
    trainer.run(whole)
    cut = config(tmp_path / "cut", image_folder, resume=True, **FULL)
    calls = []

    def killed_in_the_third_epoch(*arguments):
        calls.append(arguments)
        if len(calls) > 5:
            raise KeyboardInterrupt
        return real(*arguments)

    real = trainer.train_step
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer, "train_step", killed_in_the_third_epoch)
        trainer.run(cut)
    assert read_checkpoint(cut.out / "checkpoint.pth")["epoch"] == 2
    trainer.run(dataclasses.replace(cut, workers=1))
    expected, found = (read_checkpoint(c.out / "checkpoint.pth") for c in (whole, cut))
    for name in ("state_dict", "trained"):
        assert all(torch.equal(value, found[name][key]) for key, value in expected[name].items())
    assert not torch.equal(found["trained"]["head.weight"], found["state_dict"]["head.weight"])
    for key, values in expected["optimizer"]["state"].items():
        assert all(torch.equal(torch.as_tensor(v), torch.as_tensor(found["optimizer"]["state"][key][n]))
                   for n, v in values.items())  # fmt: skip
    assert read_log(whole.out / "log.jsonl") == read_log(cut.out / "log.jsonl")


def test_a_resumed_run_must_have_the_same_options_and_classes(learned, image_folder, tmp_path):
    options, _ = learned
    with pytest.raises(DinotoolsError, match=r"lr was 0\.05, now 0\.1; mixup was 0\.0, now 0\.8\)"):
        trainer.run(dataclasses.replace(options, lr=0.1, mixup=0.8, resume=True))
    other = tmp_path / "other"
    shutil.copytree(image_folder, other)
    for split in ("train", "val"):
        (other / split / "red").rename(other / split / "yellow")
    with pytest.raises(DinotoolsError, match="the classes were others"):
        trainer.run(dataclasses.replace(options, data=str(other), resume=True))


def test_a_full_directory_is_not_touched(learned):
    options, _ = learned
    with pytest.raises(DinotoolsError, match="not empty"):
        trainer.run(options)


def built(image_folder, out, **options) -> tuple[FinetuneConfig, TrainingState]:
    options = config(out, image_folder, **PLAIN | options)
    runtime = prepare("cpu", "fp32", 0, seed=0)
    return options, trainer.build_state(options, runtime, ["blue", "green", "red"])


@pytest.mark.parametrize("parts", [2, 5])
def test_accumulated_gradients_are_those_of_the_whole_batch(image_folder, tmp_path, parts):
    images = torch.randint(0, 256, (12, 3, 32, 32), dtype=torch.uint8)
    labels = torch.arange(12) % 3
    runtime = prepare("cpu", "fp32", 0, seed=0)
    found = []
    for accumulate in (1, parts):
        options, state = built(image_folder, tmp_path, accumulate=accumulate, optimizer="sgd")
        loss = trainer.train_step(options, runtime, state, Mixing(options, 3), images, labels)
        found.append((loss, state.model.head.weight.grad, state.model.backbone.cls_token.grad))
    torch.testing.assert_close(*found)


def test_the_network_is_in_training_mode_from_the_first_step(image_folder, tmp_path):
    _, state = built(image_folder, tmp_path)
    assert all(module.training for module in state.model.modules())


def test_the_peak_is_the_learning_rate_for_512_images(tmp_path):
    options = FinetuneConfig(out=tmp_path, epochs=10, lr=5e-4, batch_size=1024)
    rates = trainer.learning_rates(options, steps_per_epoch=7)
    assert rates.max() == pytest.approx(1e-3)  # the authors' effective rate on ImageNet
    assert (rates[0], len(rates)) == (1e-6, 70)
    assert 1e-5 < rates[-1] < rates[-2] < 2e-5


def test_the_learning_rate_never_climbs_to_an_end_above_its_peak(tmp_path, capsys):
    options = FinetuneConfig(out=tmp_path, epochs=4, lr=5e-5, batch_size=8, warmup_epochs=1)  # peak 7.8e-7
    rates = trainer.learning_rates(options, steps_per_epoch=3)
    assert rates == pytest.approx([5e-5 * 8 / 512] * 12)
    said = " ".join(capsys.readouterr().err.split())
    assert "--warmup-lr is 1e-06, above the peak" in said and "--min-lr is 1e-05, above the peak" in said


def test_a_loss_that_is_not_finite_ends_the_run(image_folder, tmp_path):
    with pytest.raises(RunFailed, match=r"the loss is (nan|inf)"):
        trainer.run(config(tmp_path / "run", image_folder, lr=1e30, optimizer="sgd", warmup_epochs=0, **PLAIN))
    assert not (tmp_path / "run" / "checkpoint.pth").exists()


def test_unreadable_images_are_counted(image_folder, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(image_folder, folder)
    for name in ("train/red/0.png", "val/blue/1.png"):
        (folder / name).write_bytes(b"this is no image")
    result = trainer.run(config(tmp_path / "run", folder, epochs=2, max_bad=0.2, **PLAIN))
    assert result.details["data"]["train"]["skipped"] == [str(folder / "train/red/0.png")]
    assert result.details["data"]["val"]["skipped"] == [str(folder / "val/blue/1.png")]
    assert result.metrics["test_images"] == 11
    with pytest.raises(DinotoolsError, match="--max-bad"):
        trainer.run(config(tmp_path / "strict", folder, epochs=2, **PLAIN))


def test_a_convolutional_network_is_fine_tuned_and_loaded_again(image_folder, tmp_path):
    options = config(tmp_path / "run", image_folder, arch="resnet18", patch_size=None, epochs=1, eval_every=3)
    result = trainer.run(dataclasses.replace(options, drop_path_rate=0.0))
    assert result.metrics["epoch"] == 1
    backbone = load_backbone(str(tmp_path / "run"))
    assert (backbone.arch, set(backbone.dropped)) == ("resnet18", {"head.weight", "head.bias"})


def test_measuring_and_saving_every_few_epochs(image_folder, tmp_path):
    options = config(tmp_path / "run", image_folder, epochs=3, eval_every=2, **PLAIN)
    trainer.run(options)
    assert [("top1" in record) for record in read_log(options.out / "log.jsonl")] == [False, True, True]


RECORDS = [
    {"epoch": 1, "step": 2, "train_loss": 1.0, "lr": 0.1, "top1": 90.0, "top5": 99.0, "test_images": 10_000},
    {"epoch": 2, "step": 4, "train_loss": 0.5, "lr": 0.1, "top1": 80.0, "top5": 98.0, "test_images": 10_000},
]


@pytest.mark.parametrize(
    ("source", "n_classes", "n_images", "crop_size", "paper"),
    [
        ("dino_vits16", 10, 10_000, 224, 99.0),
        ("dino_vitb16", 1000, 50_000, 224, 82.8),
        ("dino_vitb16", 1000, 50_000, 384, None),
        ("dino_vits8", 10, 10_000, 224, None),
        ("dino_vits16", 10, 2000, 224, None),
    ],
)
def test_the_last_epoch_counts_and_the_paper_stands_beside_it(source, n_classes, n_images, crop_size, paper, tmp_path):
    state = TrainingState(*[None] * 5, start={"source": source}, classes=[str(i) for i in range(n_classes)])
    options = FinetuneConfig(out=tmp_path, data="somewhere", crop_size=crop_size)
    data = {"train": {"images": 5, "skipped": []}, "val": {"images": n_images, "skipped": []}}
    result = measuring.result_of(options, state, RECORDS, data, prepare("cpu", "fp32", 0, seed=0))
    assert result.metrics["top1"] == result.rows[0]["top-1 %"] == 80.0
    assert result.metrics["best_on_test_images"] == {"epoch": 1, "top1": 90.0}
    assert result.rows[0].get("paper top-1 %") == paper
    assert json.dumps(result.metrics)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "--epochs: is 0"),
        ({"lr": -1.0}, "--lr: is -1.0"),
        ({"warmup_epochs": 9}, "--warmup-epochs: a warm-up of 9 epochs does not fit into 4"),
        ({"drop_path_rate": 1.0}, "--drop-path-rate: is 1.0"),
        ({"layer_decay": 1.5}, "--layer-decay: is 1.5"),
        ({"mixup": -0.1}, "--mixup: is -0.1"),
        ({"erasing": 1.1}, "--erasing: is 1.1"),
        ({"crop_scale": (0.5, 0.1)}, "--crop-scale: is 0.5,0.1"),
        ({"randaugment_magnitude": 11}, "--randaugment-magnitude: is 11"),
        ({"repeats": 13}, "--repeats: 13 of the 12 images of a step"),
        ({"batch_size": 25}, "--batch-size: a step takes 25 images, and there are only 24"),
        ({"ckpt": None}, "--ckpt: no network"),
        ({"crop_size": 8}, "--patch-size: vit_micro needs a patch size between 1 and the image's 8 pixels"),
    ],
)
def test_options_that_cannot_work(options, message, image_folder, tmp_path):
    with pytest.raises(DinotoolsError) as error:
        trainer.run(config(tmp_path / "run", image_folder, **options))
    assert message in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "peak"),
    [("imagenet", 1e-3), ("cifar10", 7.5e-6), ("inat18", 7.5e-5), ("inat19", 7.5e-5), ("cars", 0.01)],
)
def test_presets_reach_the_learning_rates_that_the_authors_name(name, peak, tmp_path):
    options = files.load(FinetuneConfig, files.preset_file("finetune", name), out=tmp_path)
    assert trainer.learning_rates(options, steps_per_epoch=3).max() == pytest.approx(peak, rel=1e-3)


@pytest.mark.parametrize("name", files.preset_names("finetune"))
def test_presets_can_work(name, tmp_path):
    check_config(files.load(FinetuneConfig, files.preset_file("finetune", name), out=tmp_path))


def test_the_preset_for_imagenet_is_the_default(tmp_path):
    options = files.load(FinetuneConfig, files.preset_file("finetune", "imagenet"), out=tmp_path)
    assert options == FinetuneConfig(out=tmp_path)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_run_trains_and_resumes_on_a_gpu(image_folder, tmp_path, precision):
    options = config(tmp_path / "run", image_folder, **FULL | {"device": "cuda", "precision": precision, "epochs": 2})
    first = trainer.run(options)
    assert 0 < first.metrics["train_loss"] < 10
    assert trainer.run(dataclasses.replace(options, resume=True)).metrics == first.metrics
    weights = read_checkpoint(options.out / "checkpoint.pth")["trained"].values()
    assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in weights)
