"""Jobs that submitit runs on this machine as it would on a cluster, and what sbatch is given on one."""

import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from dinotools.runtime import slurm
from dinotools.runtime.errors import DinotoolsError, Interrupted
from tests.command_line import dinotools
from tests.runtime import trainee

submitit = pytest.importorskip("submitit")
FOREVER = 100_000


def submission(out: Path, **changes) -> slurm.Submission:
    config = {"out": out, "overwrite": False, "nodes": 1, "gpus": 1, "workers": -1, "device": "cpu", "hours": 1.0}
    config |= {"partition": None, "slurm_options": ()}
    return slurm.Submission.of(SimpleNamespace(**config | changes))


@pytest.fixture
def local_job(tmp_path):
    """Submits the trainee to this machine; ends what a failed test leaves."""
    controllers = []

    def submit(tasks: int, steps: int) -> dict:
        wanted = submission(tmp_path / "run", gpus=tasks)
        made = slurm.submit(wanted, trainee.train, tmp_path, steps, cluster="local").metrics
        controllers.append(int(made["job"]))
        return made

    yield submit
    for controller in controllers:
        children = Path(f"/proc/{controller}/task/{controller}/children")
        tasks = [int(pid) for pid in children.read_text().split()] if children.exists() else []
        for pid in (controller, *tasks):  # what was started in the background of a shell ignores SIGINT
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if tasks else signal.SIGINT)


def wait_for(path: Path, log: str) -> list[int]:
    deadline = time.monotonic() + 100
    while not (path.is_file() and path.read_text()):
        assert time.monotonic() < deadline, Path(log).read_text()
        time.sleep(0.02)
    return [int(word) for word in path.read_text().split()]


def test_a_job_of_one_task_is_a_run_of_one_process(tmp_path, local_job):
    made = local_job(tasks=1, steps=3)
    assert wait_for(tmp_path / "done", made["log"]) == [0, 3]
    assert made["log"] == str(tmp_path / f"run.slurm/{made['job']}_0_log.out") and made["ranks"] == 1
    assert not (tmp_path / "run").exists()


def test_a_preempted_job_is_queued_again_and_goes_on(tmp_path, local_job):
    made = local_job(tasks=2, steps=FOREVER)
    pids = [wait_for(tmp_path / f"started{rank}", made["log"])[0] for rank in range(2)]
    time.sleep(0.2)
    for rank in range(2):
        (tmp_path / f"started{rank}").unlink()
    for pid in pids:
        os.kill(pid, getattr(signal, f"SIG{submitit.JobEnvironment.USR_SIG}"))
    again = [wait_for(tmp_path / f"started{rank}", made["log"]) for rank in range(2)]
    [saved] = wait_for(tmp_path / "saved", made["log"])
    assert [start for _, start in again] == [saved, saved] and saved > 0
    assert not {pid for pid, _ in again} & set(pids)


def test_a_task_that_was_sent_sigterm_leaves_it_to_slurm_what_follows(monkeypatch):
    """Both scancel and a preemption say SIGTERM; a job that is cancelled must not come back."""
    waited = []
    monkeypatch.setattr(slurm.time, "sleep", waited.append)
    monkeypatch.setattr(submitit.helpers.TorchDistributedEnvironment, "__init__", lambda self: None)
    monkeypatch.setattr(submitit.helpers.TorchDistributedEnvironment, "export", lambda self, **flags: None)
    asked = []
    number = getattr(signal, f"SIG{submitit.JobEnvironment.USR_SIG}")
    before = signal.signal(number, lambda number, frame: asked.append(number))

    def stopped_by(name: str) -> None:
        raise Interrupted(name, 3)

    try:
        with pytest.raises(Interrupted):
            slurm.Task(stopped_by, "SIGTERM")()
        assert (waited, asked) == ([slurm.GRACE_SECONDS], [])
        slurm.Task(stopped_by, "SIGUSR1")()
        assert asked == [number]
    finally:
        signal.signal(number, before)


@pytest.fixture
def cluster(tmp_path, monkeypatch) -> Path:
    """A machine with Slurm's commands, which accept anything; gives the folder they stand in."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, says in (("sbatch", "Submitted batch job 1234"), ("srun", "")):
        (folder / name).write_text(f"#!/bin/sh\necho {says}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


WORDS = "--data digits --workers 5 --slurm --gpus 8 --nodes 2 --partition long --hours 1.5"


def test_what_sbatch_is_given(tmp_path, cluster):
    out = tmp_path / "run"
    done = dinotools("pretrain", *WORDS.split(), "--slurm-options", "account=vision,exclusive", "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    log = tmp_path / "run.slurm/1234_0_log.out"
    assert json.loads(done.stdout)["metrics"] == {"job": "1234", "ranks": 16, "hours": 1.5, "log": str(log)}
    script = tmp_path / "run.slurm/1234_submission.sh"
    lines = script.read_text().splitlines()
    for option in ("nodes=2", "ntasks-per-node=8", "gpus-per-node=8", "cpus-per-task=7", "time=90", "partition=long"):
        assert f"#SBATCH --{option}" in lines
    assert {"#SBATCH --account=vision", "#SBATCH --exclusive", "#SBATCH --job-name=run"} <= set(lines)
    assert f"#SBATCH --signal=USR2@{slurm.WARNING_SECONDS}" in lines
    assert "--kill-on-bad-exit=1" in script.read_text()
    task = submitit.core.utils.DelayedSubmission.load(next((tmp_path / "run.slurm").glob("*submitted.pkl"))).function
    _, target, job = task.arguments
    assert target == "dinotools.pretraining.trainer:run" and (job.slurm, job.resume, job.workers) == (False, True, 5)
    assert [path.name for path in out.iterdir()] == ["config.toml"]  # claimed, and nothing more


def test_a_submission_does_not_go_on_with_another_run_unasked(tmp_path, cluster):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/checkpoint.pth").write_text("of somebody")
    done = dinotools("pretrain", *WORDS.split(), "--out", tmp_path / "run")
    assert done.returncode == 2 and "add --resume" in done.stderr
    assert dinotools("pretrain", *WORDS.split(), "--out", tmp_path / "run", "--resume").returncode == 0


def test_bad_submissions(tmp_path, cluster):
    with pytest.raises(DinotoolsError, match="--overwrite: is not for --slurm"):
        submission(tmp_path, overwrite=True)
    for name in ("nodes", "gpus", "hours"):
        with pytest.raises(DinotoolsError, match=f"--{name}: asks for 0"):
            submission(tmp_path, **{name: 0})
    (cluster / "sbatch").write_text("#!/bin/sh\necho 'invalid partition specified: long' >&2\nexit 1\n")
    with pytest.raises(DinotoolsError, match="invalid partition"):
        slurm.submit(submission(tmp_path / "run"), print)
    (cluster / "srun").unlink()
    with pytest.raises(DinotoolsError, match="this machine has no Slurm"):
        slurm.submit(submission(tmp_path / "run"), print)


def test_submitit_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(DinotoolsError, match=r"pip install 'dinotools\[slurm\]'"):
        slurm.submit(submission(tmp_path / "run"), print)
