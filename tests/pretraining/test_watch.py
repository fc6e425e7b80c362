"""The watch over a run: what it writes, and when it warns or stops."""

import json
import math
from types import SimpleNamespace

import pytest
import torch

from dinotools.configs.pretraining import PretrainConfig
from dinotools.pretraining.diagnostics import Diagnostics
from dinotools.pretraining.watch import Watch
from dinotools.runtime.errors import RunFailed
from dinotools.runtime.run_log import STEPS, read_log

IMAGES = SimpleNamespace(name=lambda index: f"image-{index}.png")


class Heard:
    """A tracker that remembers."""

    def __init__(self):
        self.records, self.closed = [], False

    def write(self, record, step):
        self.records.append((step, dict(record)))

    def close(self):
        self.closed = True


def watch_over(tmp_path, precision="fp32", trackers=(), **options) -> Watch:
    config = PretrainConfig(data="digits", out=tmp_path, out_dim=64, **options)
    state = SimpleNamespace(step=0, diagnostics=Diagnostics(), criterion=SimpleNamespace(center=torch.ones(1, 4)))
    return Watch(config, precision, state, IMAGES, trackers)


def steps(watch: Watch, n: int, loss: float = 2.0, skipped: float = 0.0, per_epoch: int = 1000, **values) -> None:
    for _ in range(n):
        watch.state.step += 1
        step = watch.state.step
        outcome = {"loss": loss, "skipped": skipped, **values}
        outcome = {name: torch.tensor(value) for name, value in outcome.items()}
        epoch, ended = (step - 1) // per_epoch + 1, step % per_epoch == 0
        watch.after_step(outcome, torch.tensor([step, step + 1]), epoch, end_of_epoch=ended)


def test_a_line_every_ten_steps_and_at_the_end_of_an_epoch(tmp_path):
    tracker = Heard()
    watch = watch_over(tmp_path, trackers=[tracker])
    steps(watch, 3, loss=1.0, per_epoch=14)
    steps(watch, 21, loss=2.0, per_epoch=14)
    watch.close()
    lines = read_log(tmp_path / STEPS)
    assert [(line["step"], line["epoch"]) for line in lines] == [(10, 1), (14, 1), (20, 2)]
    assert lines[0]["loss"] == pytest.approx(1.7)
    assert lines[0]["center_norm"] == 2.0
    assert "skipped" not in lines[0]
    assert [step for step, _ in tracker.records] == [10, 14, 20] and tracker.closed


def test_a_skipped_step_leaves_the_list_of_its_images(tmp_path, capsys):
    watch = watch_over(tmp_path)
    steps(watch, 4)
    steps(watch, 2, loss=math.nan, skipped=1.0)
    steps(watch, 4)
    watch.close()
    lists = sorted((tmp_path / "skipped").iterdir())
    assert [path.name for path in lists] == ["step-0000005-rank-0.json", "step-0000006-rank-0.json"]
    assert json.loads(lists[0].read_text()) == {"step": 5, "images": ["image-5.png", "image-6.png"]}
    assert "step 5 was skipped" in capsys.readouterr().err
    assert read_log(tmp_path / STEPS)[0]["loss"] == 2.0  # the mean over those that were taken


def test_three_skipped_steps_in_a_row_stop_the_run(tmp_path):
    watch = watch_over(tmp_path)
    steps(watch, 9)
    with pytest.raises(RunFailed, match=r"3 steps in a row.*--init-from") as stopped:
        steps(watch, 11, loss=math.inf, skipped=1.0)
    assert stopped.value.exit_code == 1
    assert len(list((tmp_path / "skipped").iterdir())) == 3


def test_skipped_steps_apart_from_one_another_do_not_stop_it(tmp_path):
    watch = watch_over(tmp_path)
    for _ in range(5):
        steps(watch, 2, loss=math.nan, skipped=1.0)
        steps(watch, 1)
    steps(watch, 5)
    assert (watch.state.step, watch.in_a_row) == (20, 0)
    assert len(list((tmp_path / "skipped").iterdir())) == 10


def test_half_precision_may_skip_more_while_it_finds_its_scale(tmp_path, capsys):
    watch = watch_over(tmp_path, precision="fp16")
    steps(watch, 15, skipped=1.0)
    steps(watch, 5)
    assert not (tmp_path / "skipped").exists() and "skipped" not in capsys.readouterr().err
    with pytest.raises(RunFailed, match="20 steps in a row"):
        steps(watch, 30, skipped=1.0)


UNIFORM = {"teacher_entropy": math.log(64), "mean_entropy": math.log(64), "kl": 0.0}


def test_a_collapse_is_warned_of_once_within_200_steps(tmp_path, capsys):
    watch = watch_over(tmp_path)
    steps(watch, 400, **UNIFORM)
    said = capsys.readouterr().err
    assert said.count("collapse at step") == 1
    assert int(said.split("collapse at step ")[1].split(":")[0]) <= 200


def test_a_collapse_stops_the_run_that_wants_it(tmp_path):
    watch = watch_over(tmp_path, on_collapse="stop")
    with pytest.raises(RunFailed, match="uniform"):
        steps(watch, 200, **UNIFORM)


def test_resuming_continues_the_lines(tmp_path):
    watch = watch_over(tmp_path)
    steps(watch, 30)
    watch.close()
    state = SimpleNamespace(step=20, diagnostics=Diagnostics(), criterion=SimpleNamespace())
    resumed = Watch(watch.config, "fp32", state, IMAGES)  # the checkpoint was older than the last line
    steps(resumed, 20, loss=5.0)
    resumed.close()
    assert [(line["step"], line["loss"]) for line in read_log(tmp_path / STEPS)] == [(10, 2), (20, 2), (30, 5), (40, 5)]
