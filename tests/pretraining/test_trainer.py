"""Whole runs of a tiny network: they resume exactly, stop cleanly and refuse what cannot work."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from dinotools.configs import files
from dinotools.configs.pretraining import PretrainConfig
from dinotools.data.epoch_order import EpochOrder
from dinotools.models.checkpoint_files import read_checkpoint
from dinotools.models.checkpoints import load_backbone
from dinotools.pretraining import checkpointing, trainer
from dinotools.pretraining.networks import build_state
from dinotools.runtime.device import prepare
from dinotools.runtime.errors import DinotoolsError, RunFailed
from dinotools.runtime.run_log import read_log

TINY = {
    "arch": "vit_micro", "patch_size": 16, "out_dim": 32, "head_hidden_dim": 32, "head_bottleneck_dim": 16,
    "global_crop_size": 32, "local_crop_size": 16, "local_crops_number": 2,
    "epochs": 4, "warmup_epochs": 1, "batch_size": 8, "workers": 0, "keep_every": 0,
}  # fmt: skip


@pytest.fixture
def config(image_folder, tmp_path) -> PretrainConfig:
    return PretrainConfig(data=str(image_folder), out=tmp_path / "run", **TINY)


def weights(out: Path) -> dict[str, torch.Tensor]:
    checkpoint = read_checkpoint(out / checkpointing.LATEST)
    state = {f"{key}.{name}": t for key in ("student", "teacher") for name, t in checkpoint[key].items()}
    optimizer = checkpoint["optimizer"]["state"]
    state |= {f"optimizer.{i}.{name}": t for i, entry in optimizer.items() for name, t in entry.items()}
    return state | {"center": checkpoint["dino_loss"]["center"]}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def run_until(config: PretrainConfig, step: int, monkeypatch) -> None:
    """Runs and dies, as a killed process would, right after a step."""

    class Killed(Exception):
        pass

    after_step = checkpointing.Saver.after_step

    def die(saver, state):
        after_step(saver, state)
        if state.step == step:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpointing.Saver, "after_step", die)
        with pytest.raises(Killed):
            trainer.run(config)


@pytest.mark.parametrize("stop", [1, 3, 7, 11])
def test_resuming_equals_never_stopping(config, stop, monkeypatch, tmp_path):
    """Within an epoch and between two; with drop path, fused AdamW, a moving centre and its own learning rates."""
    whole = dataclasses.replace(config, out=tmp_path / "whole", knn_every=2, knn_k=3)
    trainer.run(whole)
    broken = dataclasses.replace(config, save_minutes=0, knn_every=2, knn_k=3)
    run_until(broken, stop, monkeypatch)
    trainer.run(dataclasses.replace(broken, resume=True))
    assert_same(weights(whole.out), weights(broken.out))
    assert read_log(whole.out / "log.jsonl") == read_log(broken.out / "log.jsonl")


def test_resuming_before_the_first_checkpoint_starts_anew(config, monkeypatch):
    config = dataclasses.replace(config, knn_every=4, knn_k=3, save_every=9)
    run_until(config, 2, monkeypatch)
    assert not (config.out / checkpointing.LATEST).exists()
    trainer.run(dataclasses.replace(config, resume=True))
    assert [record["epoch"] for record in read_log(config.out / "log.jsonl")] == [0, 1, 2, 3, 4]


def test_resuming_from_an_older_checkpoint_repeats_what_was_lost(config, monkeypatch, tmp_path):
    whole = dataclasses.replace(config, out=tmp_path / "whole")
    trainer.run(whole)
    broken = dataclasses.replace(config, save_every=2)
    run_until(broken, 10, monkeypatch)  # the last checkpoint is of step 6, the log knows epoch 3
    assert read_checkpoint(broken.out / checkpointing.LATEST)["step"] == 6
    trainer.run(dataclasses.replace(broken, resume=True))
    assert_same(weights(whole.out), weights(broken.out))
    assert [record["epoch"] for record in read_log(broken.out / "log.jsonl")] == [1, 2, 3, 4]


def test_reader_processes_change_nothing(config, tmp_path):
    trainer.run(config)
    other = dataclasses.replace(config, out=tmp_path / "other", workers=2)
    trainer.run(other)
    assert_same(weights(config.out), weights(other.out))


def test_sigkill_at_any_moment_loses_nothing(config, tmp_path):
    """A real process, killed without warning wherever it happens to be, twice."""
    config = dataclasses.replace(config, epochs=20, save_minutes=0)
    whole = dataclasses.replace(config, out=tmp_path / "whole")
    trainer.run(whole)
    options = tmp_path / "options.toml"
    options.write_text(files.dump(config))
    command = [sys.executable, "-m", "dinotools", "pretrain", "--config", str(options), "--resume"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    latest = config.out / checkpointing.LATEST
    for delay in (0.0, 0.021):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = latest.stat().st_mtime_ns if latest.exists() else None
        deadline = time.monotonic() + 60
        while not latest.exists() or latest.stat().st_mtime_ns == before:  # until it has saved once more
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(delay)
        process.kill()
        process.wait()
        read_checkpoint(latest)  # whole, whatever was being written
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert_same(weights(whole.out), weights(config.out))


def test_the_run_directory_tells_everything(config):
    result = trainer.run(dataclasses.replace(config, keep_every=2, knn_every=3, knn_k=5))
    names = {path.name for path in config.out.iterdir()}
    kept = {"checkpoint.pth", "checkpoint0002.pth", "checkpoint0004.pth", "backbone.safetensors"}
    assert names == kept | {"config.toml", "log.jsonl", "steps.jsonl"}
    records = read_log(config.out / "log.jsonl")
    assert [record["epoch"] for record in records] == [0, 1, 2, 3, 4]
    assert [record["step"] for record in records] == [0, 3, 6, 9, 12]
    assert [("knn_teacher" in r, "knn_student" in r) for r in records] == [(e, e) for e in (True, 0, 0, True, True)]
    assert records[0]["knn_teacher"] == records[0]["knn_student"]
    assert result.metrics["knn_teacher"] == records[-1]["knn_teacher"]
    loaded = load_backbone(str(config.out))
    assert (loaded.arch, loaded.patch_size, loaded.key) == ("vit_micro", 16, "teacher")
    assert files.load(PretrainConfig, config.out / "config.toml").data == config.data


@pytest.mark.parametrize(
    ("changes", "flags"),
    [
        ({}, " --resize-size 37 --crop-size 32"),
        ({"knn_resize_size": 32}, " --resize-size 32 --crop-size 32"),
        ({"global_crop_size": 224}, ""),
    ],
)
def test_the_command_that_measures_is_told(config, changes, flags):
    told = trainer.knn_command(dataclasses.replace(config, **changes))
    assert told == f"dinotools knn --ckpt {config.out} --data {config.data}{flags}"


def test_data_without_test_images_are_not_measured_on(config):
    told = trainer.knn_command(dataclasses.replace(config, data="x/{000..001}.tar", out=Path("my run")))
    assert told.startswith("dinotools knn --ckpt 'my run' --train DIR --val DIR")


def test_initialising_takes_the_weights_and_nothing_else(config, tmp_path):
    trainer.run(config)
    second = dataclasses.replace(
        config, out=tmp_path / "second", init_from=str(config.out), epochs=1, lr=0.0, min_lr=0.0
    )
    trainer.run(second)
    first = read_checkpoint(config.out / checkpointing.LATEST)
    moved = read_checkpoint(second.out / checkpointing.LATEST)
    assert moved["step"] == 3
    for name, tensor in first["student"].items():
        assert torch.equal(tensor, moved["student"][name]), name


def test_resuming_with_other_options_lists_them(config):
    trainer.run(config)
    with pytest.raises(DinotoolsError, match=r"epochs was 4, now 5; lr was 0\.0005, now 0\.1"):
        trainer.run(dataclasses.replace(config, resume=True, epochs=5, lr=0.1))


@pytest.mark.parametrize("changes", [{"out_dim": 16}, {"optimizer": "sgd"}, {"num_heads": 2, "patch_size": 8}])
def test_what_does_not_fit_is_not_overridden(config, changes):
    trainer.run(dataclasses.replace(config, epochs=1))
    with pytest.raises(DinotoolsError, match=f"does not fit these options .*{next(iter(changes))} was"):
        trainer.run(dataclasses.replace(config, resume=True, override=True, **changes))


def test_resuming_with_other_images_is_refused(config, image_folder, tmp_path):
    import shutil

    data = tmp_path / "data"
    shutil.copytree(image_folder / "train", data)
    config = dataclasses.replace(config, data=str(data))
    trainer.run(config)
    (data / "red" / "0.png").unlink()
    with pytest.raises(DinotoolsError, match="the images were 24, now 23"):
        trainer.run(dataclasses.replace(config, resume=True))


def test_resuming_needs_neither_the_log_nor_the_first_weights(config, tmp_path, monkeypatch):
    trainer.run(config)
    second = dataclasses.replace(config, out=tmp_path / "second", init_from=str(config.out), knn_every=4, knn_k=3)
    run_until(second, 6, monkeypatch)
    third = dataclasses.replace(config, out=tmp_path / "third", init_from=str(config.out / "backbone.safetensors"))
    with pytest.raises(DinotoolsError, match=r"has no student. --init-from wants"):
        trainer.run(third)
    (config.out / checkpointing.LATEST).unlink()
    (second.out / "log.jsonl").unlink()
    trainer.run(dataclasses.replace(second, resume=True))
    assert [record["epoch"] for record in read_log(second.out / "log.jsonl")] == [3, 4]


def test_weights_that_are_not_finite_are_never_saved(config, monkeypatch):
    trainer.run(dataclasses.replace(config, epochs=1))
    sound = weights(config.out)
    state = build_state(config, prepare("cpu", "fp32", 0, 0))
    with torch.no_grad():
        next(state.student.parameters()).fill_(float("nan"))
    with pytest.raises(RunFailed, match=r"not finite.*--init-from"):
        checkpointing.save(config.out / checkpointing.LATEST, state, config, n_images=24)
    assert_same(sound, weights(config.out))


def test_a_full_disk_keeps_the_last_checkpoint(config, monkeypatch):
    trainer.run(dataclasses.replace(config, epochs=1))
    sound = weights(config.out)

    def full(content, path):
        path.write_bytes(b"half")
        raise RuntimeError(
            "[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"
        )  # torch, on such a disk

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RunFailed, match=r"checkpoint.pth: cannot be written \(.* MiB are free there\).*--resume"):
        trainer.run(dataclasses.replace(config, resume=True, override=True))
    assert_same(sound, weights(config.out))
    assert not list(config.out.glob(".*"))


def test_what_a_compiler_says_is_kept_short(config, monkeypatch):
    from torch._dynamo.exc import BackendCompilerFailed

    def steps(*_):
        raise BackendCompilerFailed(trainer.run, RuntimeError("a thousand lines of C++"), [])

    monkeypatch.setattr(trainer, "take_step", steps)
    with pytest.raises(
        RunFailed, match=r"^--compile: torch could not compile the networks \(Backend\w+\). Leave it out"
    ):
        trainer.run(config)


def test_a_dry_run_counts_the_moments_of_all_that_is_ever_trained(config):
    result = trainer.run(dataclasses.replace(config, dry_run=True, norm_last_layer=False, freeze_last_layer=2))
    assert not config.out.exists()
    student = build_state(dataclasses.replace(config, norm_last_layer=False), prepare("cpu", "fp32", 0, 0)).student
    n = sum(p.numel() for p in student.parameters())
    # two networks, gradients, two moments; and a counter for each tensor
    assert result.metrics["state_mb"] == pytest.approx((5 * n + len(list(student.parameters()))) * 4 / 2**20)
    assert result.metrics["steps"] == 12


def test_too_little_memory_is_said_with_what_helps(config, monkeypatch):
    def steps(*_):
        raise torch.OutOfMemoryError("Tried to allocate 2.00 GiB")

    monkeypatch.setattr(trainer, "take_step", steps)
    with pytest.raises(RunFailed, match=r"cpu: has not enough memory.*--accumulate 2"):
        trainer.run(config)


def test_a_finished_run_resumes_to_itself(config):
    trainer.run(config)
    before = weights(config.out)
    trainer.run(dataclasses.replace(config, resume=True))
    assert_same(before, weights(config.out))


def test_steps_of_another_size_go_on_from_the_same_epoch(config, capsys):
    trainer.run(dataclasses.replace(config, epochs=2))
    trainer.run(dataclasses.replace(config, resume=True, override=True, batch_size=4))
    assert "epochs was 2, now 4" in capsys.readouterr().err
    assert [(r["epoch"], r["step"]) for r in read_log(config.out / "log.jsonl")] == [(1, 6), (2, 12), (3, 18), (4, 24)]
    steps = [(r["epoch"], r["step"]) for r in read_log(config.out / "steps.jsonl")]
    assert steps == [(1, 6), (2, 12), (3, 18), (4, 20), (4, 24)]
    assert read_checkpoint(config.out / checkpointing.LATEST)["step"] == 24
    assert "batch_size = 4" in (config.out / "config.toml").read_text()


def test_a_finished_run_that_lost_its_log_says_so_little(config):
    trainer.run(config)
    (config.out / "log.jsonl").unlink()
    assert trainer.run(dataclasses.replace(config, resume=True)).rows == [{"epochs": 4, "steps": 12, "loss": None}]


def test_a_checkpoint_that_some_ranks_do_not_see_is_refused(config, monkeypatch):
    trainer.run(dataclasses.replace(config, epochs=1))
    latest = config.out / checkpointing.LATEST
    assert checkpointing.found_by_all(latest) and not checkpointing.found_by_all(config.out / "nothing.pth")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("torch.distributed.all_reduce", lambda tensor: None)  # the other one adds nothing
    assert not checkpointing.found_by_all(config.out / "nothing.pth")
    with pytest.raises(DinotoolsError, match=r"1 of the 2 processes.*share"):
        checkpointing.found_by_all(latest)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(config):
    trainer.run(dataclasses.replace(config, epochs=1))
    sound = weights(config.out)
    broken = dataclasses.replace(config, lr=1e30, force=True, out=config.out.with_name("broken"), clip_grad=0)
    with pytest.raises(RunFailed, match=r"not finite.*--init-from"):
        trainer.run(broken)
    assert_same(sound, weights(config.out))
    left = read_checkpoint(broken.out / checkpointing.LATEST) if (broken.out / checkpointing.LATEST).exists() else None
    assert left is None or all(torch.isfinite(t).all() for t in left["teacher"].values())
    lists = sorted((broken.out / "skipped").iterdir())
    named = json.loads(lists[0].read_text())["images"]
    assert len(named) == 8 and all(Path(name).is_file() for name in named)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"local_crop_size": 8}, "--local-crop-size: a crop of 8 pixels is smaller than a patch of 16"),
        ({"global_crop_size": 15}, "--global-crop-size: a crop of 15 pixels"),
        ({"batch_size": 25}, "--batch-size: a step takes 25 images, and an epoch has only 24"),
        ({"epochs": 0}, "--epochs: is 0"),
        ({"warmup_epochs": 9}, "a warm-up of 9 epochs does not fit into 4"),
        ({"global_crops_scale": (0.5, 0.4)}, "--global-crops-scale: is 0.5,0.4"),
        ({"momentum_teacher": 1.1}, "--momentum-teacher: is 1.1"),
        ({"arch": "vit_smal"}, "vit_small"),
        ({"data": "nowhere"}, "nowhere"),
        ({"device": "cuda:7"}, "this machine has no cuda:7"),
        ({"precision": "fp16", "device": "cpu"}, "--precision"),
        ({"init_from": "nowhere.pth"}, "nowhere.pth"),
        ({"seed": -1}, "--seed: is -1"),
        ({"drop_path_rate": 1.0}, "--drop-path-rate: is 1.0"),
        ({"blur_radius": (2.0, 1.0)}, "--blur-radius: is 2.0,1.0"),
        ({"knn_every": 1, "knn_k": 25}, "--knn-k: 25 neighbours of only 24"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(config, changes, words):
    with pytest.raises(DinotoolsError) as error:
        trainer.run(dataclasses.replace(config, **changes))
    assert words in str(error.value)
    assert error.value.exit_code == 2
    assert not config.out.exists()


def test_somebody_elses_directory_is_left_alone(config):
    config.out.mkdir()
    (config.out / "thesis.tex").write_text("years of work")
    for changes in ({}, {"resume": True}):
        with pytest.raises(DinotoolsError, match="not empty"):
            trainer.run(dataclasses.replace(config, **changes))
    assert (config.out / "thesis.tex").read_text() == "years of work"


def test_unreadable_images_are_skipped_up_to_the_limit(config, image_folder, tmp_path, capsys):
    import shutil

    data = tmp_path / "data"
    shutil.copytree(image_folder / "train", data)
    (data / "red" / "0.png").write_bytes(b"no picture")
    flawed = dataclasses.replace(config, data=str(data), max_bad=0.05, epochs=1)
    trainer.run(flawed)
    assert "0.png" in capsys.readouterr().err
    with pytest.raises(DinotoolsError, match=r"0\.png.*--max-bad"):
        trainer.run(dataclasses.replace(flawed, out=tmp_path / "strict", max_bad=0.01))


def test_bfloat16_runs_and_stays_finite(config):
    result = trainer.run(dataclasses.replace(config, precision="bf16", epochs=1))
    assert 0 < result.metrics["train_loss"] < 10
    assert all(t.dtype == torch.float32 for t in read_checkpoint(config.out / "checkpoint.pth")["teacher"].values())


def test_epoch_order_goes_on_from_any_step():
    whole = list(EpochOrder(23, 4, 3, seed=5))
    assert len(whole) == 15
    for start in range(16):
        order = EpochOrder(23, 4, 3, seed=5, start=start)
        assert list(order) == whole[start:]
        assert len(order) == 15 - start
    for epoch in range(3):
        keys = [key for batch in whole[epoch * 5 : epoch * 5 + 5] for key in batch]
        assert {e for e, _ in keys} == {epoch}
        assert len({index for _, index in keys}) == 20
    assert whole[0] != [(0, index) for _, index in whole[5]]


def test_the_log_survives_a_line_cut_in_two(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({"epoch": 1, "step": 3}) + '\n{"epoch": 2, "st')
    assert read_log(path) == [{"epoch": 1, "step": 3}]
