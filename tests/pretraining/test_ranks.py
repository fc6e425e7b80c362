"""Pre-training on two gloo ranks, each with half of every batch, is the run of one process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from dinotools.configs import files
from dinotools.configs.pretraining import PretrainConfig
from dinotools.models.checkpoint_files import read_checkpoint
from dinotools.pretraining import trainer
from dinotools.runtime.run_log import read_log
from tests.command_line import forked

SMALL = """
    --data digits --arch vit_micro --patch-size 16 --drop-path-rate 0 --out-dim 64 --head-hidden-dim 64
    --head-bottleneck-dim 16 --crops 2x32+2x16 --batch-size 16 --epoch-images 160 --epochs 2 --warmup-epochs 1
    --lr 0.01 --momentum-teacher 0.9 --freeze-last-layer 0 --workers 0 --device cpu --keep-every 0
""".split()  # noqa: SIM905


def command(out: Path, *words: object) -> list[str]:
    return [sys.executable, "-m", "dinotools", "pretrain", *SMALL, "--out", str(out), *map(str, words)]


def pretrain(out: Path, *words: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command(out, *words), env=environment, capture_output=True, text=True, timeout=240)


def assert_equal_runs(one: Path, two: Path, tolerance: float) -> None:
    first, second = (read_checkpoint(out / "checkpoint.pth") for out in (one, two))
    assert first["step"] == second["step"] == 20
    for key in ("student", "teacher", "dino_loss"):
        for name, tensor in first[key].items():
            torch.testing.assert_close(second[key][name], tensor, rtol=0, atol=tolerance, msg=lambda m, n=name: n + m)
    for file in ("log.jsonl", "steps.jsonl"):
        lines = [read_log(out / file) for out in (one, two)]
        assert len(lines[0]) == len(lines[1]) > 0
        for line, other in zip(*lines, strict=True):
            assert line.keys() == other.keys()
            # the entropy of a rank's own mean, and the spread within its own batch, are means of halves
            compared = line.keys() - {"mean_entropy", "feature_std"}
            assert {n: line[n] for n in compared} == pytest.approx({n: other[n] for n in compared}, abs=1e-5, rel=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        "--optimizer sgd --use-bn-in-head --clip-grad 0.01 --knn-every 2 --knn-k 5",
        "--optimizer sgd --centering sinkhorn",
    ],
)
def test_two_ranks_are_one_process(tmp_path, options):
    words = options.split()
    one = forked(*command(tmp_path / "one", *words)[3:])
    two = pretrain(tmp_path / "two", "--gpus", 2, *words)
    assert (one.returncode, two.returncode) == (0, 0), one.stderr + two.stderr
    assert_equal_runs(tmp_path / "one", tmp_path / "two", 1e-5)


def test_an_error_that_the_ranks_meet_together_is_said_once(tmp_path):
    assert forked(*command(tmp_path / "run", "--epochs", 1)[3:]).returncode == 0
    other = pretrain(tmp_path / "run", "--epochs", 1, "--gpus", 2, "--resume", "--lr", 0.001)
    assert other.returncode == 2
    assert other.stderr.count("error:") == 1 and "lr was" in other.stderr and "Warning" not in other.stderr


def test_accumulating_is_the_whole_batch(tmp_path):
    for out, parts in (("one", 1), ("two", 4)):
        config = tmp_path / f"{out}.toml"
        values = {name[2:].replace("-", "_"): value for name, value in zip(SMALL[::2], SMALL[1::2], strict=True)}
        config.write_text("".join(f'{name} = "{value}"\n' for name, value in values.items()))
        trainer.run(files.load(PretrainConfig, config, out=tmp_path / out, optimizer="sgd", accumulate=parts))
    assert_equal_runs(tmp_path / "one", tmp_path / "two", 1e-5)


def test_a_rank_that_dies_stops_all_and_the_run_goes_on_later(tmp_path):
    out = tmp_path / "run"
    words = ("--gpus", 2, "--save-minutes", 0, "--epochs", 4)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.Popen(command(out, *words), env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (out / "checkpoint.pth").exists():
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children")
    if not children.exists():
        run.kill()
        pytest.skip("this system does not list the children of a process")
    ranks = [
        int(pid) for pid in children.read_text().split() if b"pretrain" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    os.kill(ranks[-1], signal.SIGKILL)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 1, said
    assert "signal 9" in said and "--resume" in said and "Traceback" not in said
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)
    saved = read_checkpoint(out / "checkpoint.pth")["step"]
    assert saved > 0
    resumed = pretrain(out, "--save-minutes", 0, "--epochs", 4, "--resume", "--gpus", 2)
    assert resumed.returncode == 0, resumed.stderr
    assert read_checkpoint(out / "checkpoint.pth")["step"] == 40


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_the_step_and_asks_to_be_started_again(tmp_path, number):
    out = tmp_path / "run"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.Popen(command(out, "--epochs", 4000), env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not read_log(out / "steps.jsonl"):
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    run.send_signal(number)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 75, said
    saved = read_checkpoint(out / "checkpoint.pth")["step"]
    assert f"{number.name} after step {saved:,}" in said
    assert saved >= read_log(out / "steps.jsonl")[-1]["step"]
