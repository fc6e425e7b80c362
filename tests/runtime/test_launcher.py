"""Ranks that are started, killed, and asked to stop."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from dinotools.options import run_app
from dinotools.runtime import launcher
from dinotools.runtime.errors import DinotoolsError, Interrupted, PeerStopped, RunFailed

ROOT = Path(__file__).parents[2]
LAUNCH = """
import sys
from dinotools.options import run_app
from dinotools.runtime import launcher
sys.exit(run_app(lambda: sys.exit(launcher.launch(2, sys.argv[1:], "cpu")), debug=False))
"""


def launched(out: Path, saving_seconds: float = 0.0) -> subprocess.Popen:
    """Two ranks of the trainee, once both are in their training."""
    words = [sys.executable, "-c", LAUNCH, "-m", "tests.runtime.trainee", str(out), "0", str(saving_seconds)]
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    wait_for(out / "started0", process)
    wait_for(out / "started1", process)
    return process


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while not (path.is_file() and path.read_text()):
        assert process.poll() is None and time.monotonic() < deadline, f"{path.name} never came"
        time.sleep(0.02)


def pid(out: Path, rank: int) -> int:
    return int((out / f"started{rank}").read_text().split()[0])


def test_a_rank_that_is_killed_stops_all(tmp_path):
    process = launched(tmp_path)
    os.kill(pid(tmp_path, 0), signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.count("error:") == 1 and "rank 0 was killed by signal 9 (out of memory?)" in errors
    assert not (tmp_path / "saved").exists()
    for rank in range(2):
        with pytest.raises(ProcessLookupError):
            os.kill(pid(tmp_path, rank), 0)


def test_ranks_that_are_asked_to_stop_save_and_ask_to_be_started_again(tmp_path):
    process = launched(tmp_path, saving_seconds=0.5)
    process.send_signal(signal.SIGINT)
    wait_for(tmp_path / "stopped0", process)
    process.send_signal(signal.SIGTERM)  # in the middle of saving
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75
    step = (tmp_path / "saved").read_text()
    assert (tmp_path / "stopped0").read_text() == (tmp_path / "stopped1").read_text() == step
    assert errors.count("error:") == 1 and f"stopped by SIGINT after step {step}" in errors


def test_under_torchrun_one_rank_that_is_asked_stops_all_at_the_same_step(tmp_path):
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words += ["-m", "tests.runtime.trainee", str(tmp_path), "5", "0"]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1 and "exitcode  : 75" in done.stderr, done.stderr
    stopped = [(tmp_path / f"stopped{rank}").read_text() for rank in range(2)]
    assert stopped == ["6", "6"]  # the question of step 5 is answered at step 6
    assert done.stderr.count("stopped by SIGUSR1 after step 6") == 1


def test_processes_need_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    launcher.check_devices(64, "cpu")
    with pytest.raises(DinotoolsError, match=r"--gpus 2: asks for 2 GPUs, and there is none. --device cpu runs 2"):
        launcher.check_devices(2, "auto")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    launcher.check_devices(4, "auto")
    launcher.check_devices(4, "cuda")
    with pytest.raises(DinotoolsError, match="there are 4"):
        launcher.check_devices(8, "cuda")
    for one in ("cuda:1", "mps"):
        with pytest.raises(DinotoolsError, match=f"{one} is one device"):
            launcher.check_devices(2, one)


@pytest.mark.parametrize(
    ("codes", "received", "code"),
    [
        ({}, [], 0),
        ({1: 2, 0: -signal.SIGTERM}, [], 2),  # rank 0 was stopped because rank 1 had failed
        ({0: PeerStopped.exit_code, 1: 1}, [], 1),
        ({0: PeerStopped.exit_code}, [], 1),
        ({0: 75, 1: -signal.SIGTERM}, [signal.SIGTERM], 75),
        ({1: -signal.SIGTERM, 0: 76}, [signal.SIGTERM], 143),  # before it could listen
    ],
)
def test_the_code_is_that_of_the_first_rank_to_fail(codes, received, code):
    assert launcher._exit_code(codes, received) == code


def test_a_killed_rank_is_named_though_another_was_seen_first():
    with pytest.raises(RunFailed, match=r"rank 3 was killed by signal 11. What"):
        launcher._exit_code({0: PeerStopped.exit_code, 3: -signal.SIGSEGV, 1: -signal.SIGTERM}, [])


def test_of_interrupted_ranks_one_speaks_and_gives_the_code(monkeypatch, capsys):
    def interrupted() -> None:
        raise Interrupted("SIGTERM", 1200)

    assert run_app(interrupted, debug=False) == 75
    assert "stopped by SIGTERM after step 1,200" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run_app(interrupted, debug=False) == 0
    assert capsys.readouterr().err == ""
