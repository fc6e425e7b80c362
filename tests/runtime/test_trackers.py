import json

import pytest

from dinotools.runtime import trackers
from dinotools.runtime.errors import DinotoolsError
from dinotools.runtime.trackers import TENSORBOARD, WANDB_ID, open_trackers


def scalars(out, name):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulators.EventAccumulator(str(out / TENSORBOARD))
    read.Reload()
    return [(event.step, event.value) for event in read.Scalars(name)]


def test_tensorboard_shows_what_was_written_and_hides_what_a_killed_run_lost(tmp_path):
    pytest.importorskip("tensorboard")
    (tracker,) = open_trackers(["tensorboard"], tmp_path, {"lr": 0.5})
    for step in (10, 20, 30):
        tracker.write({"loss": step / 4, "epoch/knn_teacher": 50.0}, step)
    tracker.close()
    assert scalars(tmp_path, "loss") == [(10, 2.5), (20, 5.0), (30, 7.5)]
    assert scalars(tmp_path, "epoch/knn_teacher") == [(step, 50.0) for step in (10, 20, 30)]

    (tracker,) = open_trackers(["tensorboard"], tmp_path, {"lr": 0.5}, last_step=20)
    tracker.write({"loss": 1.0}, 30)
    tracker.close()
    assert scalars(tmp_path, "loss") == [(10, 2.5), (20, 5.0), (30, 1.0)]


def test_wandb_goes_on_with_its_page(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    ids = []
    for last_step in (0, 20, 0):
        (tracker,) = open_trackers(["wandb"], tmp_path, {"lr": 0.5}, last_step)
        tracker.write({"loss": 1.0}, last_step + 10)
        tracker.close()
        ids.append(json.loads((tmp_path / WANDB_ID).read_text())["id"])
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize("name", sorted(trackers.TRACKERS))
def test_a_missing_package_is_named(name, tmp_path, monkeypatch):
    def missing(module):
        raise ModuleNotFoundError(module)

    monkeypatch.setattr(trackers.importlib, "import_module", missing)
    with pytest.raises(DinotoolsError, match=rf"pip install 'dinotools\[{name}\]'"):
        open_trackers([name], tmp_path, {})


def test_only_the_first_rank_has_trackers(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setitem(trackers.TRACKERS, "tensorboard", lambda *arguments: opened.append(arguments))
    monkeypatch.setenv("RANK", "1")
    assert open_trackers(["tensorboard"], tmp_path, {}) == [] == opened
    monkeypatch.setenv("RANK", "0")
    open_trackers(["tensorboard"], tmp_path, {"lr": 1}, 5)
    assert opened == [(tmp_path, {"lr": 1}, 5)]
