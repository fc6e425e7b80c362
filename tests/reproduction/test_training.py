import json
import math
import re

import pytest

from dinotools.configs import files
from dinotools.configs.pretraining import PretrainConfig
from dinotools.reporting import figures
from dinotools.reproduction import curves, training
from dinotools.runtime.errors import DinotoolsError
from dinotools.runtime.run_directory import OPTIONS
from dinotools.runtime.run_log import LOG, STEPS

PER_EPOCH = 40
K = 64


def make_run(folder, *, epochs=3, steps=True, entropy=0.5, kl=0.2, **options):
    """A run directory; entropy and kl are shares of ln K."""
    folder.mkdir(parents=True)
    config = PretrainConfig(data="digits", out=folder, out_dim=K, epochs=10, warmup_epochs=2, **options)
    (folder / OPTIONS).write_text(files.dump(config), encoding="utf-8")
    lines = [{"epoch": 0, "step": 0, "knn_teacher": 20.0, "knn_student": 20.0}]
    for epoch in range(1, epochs + 1):
        record = {"epoch": epoch, "step": epoch * PER_EPOCH, "train_loss": 4.0 / epoch, "lr": 0.1, "teacher_temp": 0.04}
        lines.append(record | {"knn_teacher": 20.0 + 2 * epoch, "knn_student": 20.0 + epoch})
    (folder / LOG).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    if steps:
        whole = math.log(K)
        looks = [
            {"epoch": (step - 1) // PER_EPOCH + 1, "step": step, "loss": 4.0 / step, "grad_norm": 1.0}
            | {"teacher_entropy": entropy * whole, "kl": kl * whole, "mean_entropy": (entropy + 0.01) * whole}
            for step in range(10, epochs * PER_EPOCH + 1, 10)
        ]
        (folder / STEPS).write_text("".join(json.dumps(look) + "\n" for look in looks), encoding="utf-8")
    return folder


def test_a_run_in_a_row(tmp_path):
    row = training.summary(*training.read_runs([make_run(tmp_path / "mine")]))
    assert (row["run"], row["epochs"]) == ("mine", "3 of 10")
    assert (row["k-NN teacher %"], row["k-NN student %"]) == (26.0, 23.0)
    assert row["loss"] == pytest.approx(4 / 3)
    assert row["h / ln K %"] == pytest.approx(50)
    assert row["KL / ln K %"] == pytest.approx(20)
    assert row["collapse"] == "none"


def test_every_picture_is_a_file_and_charts_of_the_page(tmp_path):
    runs = training.read_runs([make_run(tmp_path / "mine")])
    paths = curves.save_pictures(runs, tmp_path / "pictures")
    assert [path.stem for path in paths] == ["loss", "collapse", "knn", "signs", "schedules"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    section = curves.section(runs)
    assert re.findall("<h3>(.*?)</h3>", section) == [picture.title for picture in curves.pictures(runs)]
    labels = re.findall('<svg[^>]*aria-label="([^"]*)"', section)
    assert len(labels) == sum(len(picture.panels) for picture in curves.pictures(runs))
    (knn,) = [label for label in labels if "k-NN" in label]
    assert "teacher: from 20 at epoch 0 to 26 at epoch 3; student: from 20 at epoch 0 to 23 at epoch 3" in knn
    assert section.count("var(--series-1)") >= len(labels)
    assert not set(re.findall("#[0-9a-f]{6}", section)) & {figures.INK, *figures.COLOURS}


def test_curves_are_by_epoch_and_as_shares_of_ln_k(tmp_path):
    runs = training.read_runs([make_run(tmp_path / "a"), make_run(tmp_path / "b", entropy=0.9)])
    entropy, kl = curves.collapse_panels(runs)
    assert entropy.lines["a"][0] == (10 / PER_EPOCH, pytest.approx(0.5))
    assert entropy.lines["b"][-1] == (3.0, pytest.approx(0.9))
    assert kl.lines.keys() == {"a", "b"}
    roles, teachers = curves.knn_panels(runs)
    assert roles.lines["student"] == [(0, 20.0), (1, 21.0), (2, 22.0), (3, 23.0)]
    assert teachers.lines["b"][-1] == (3, 26.0)
    (loss,) = curves.loss_panels(runs)
    assert loss.level == ("ln K", math.log(K))
    assert loss.knees == {"last layer is freed": 1.0, curves.LR_KNEE: 2.0}


def test_knees_and_ln_k_are_drawn_only_where_they_are_the_same(tmp_path):
    one, two = make_run(tmp_path / "a"), make_run(tmp_path / "b", freeze_last_layer=0)
    assert curves.loss_panels(training.read_runs([two]))[0].knees == {curves.LR_KNEE: 2.0}
    assert curves.loss_panels(training.read_runs([one, two]))[0].knees == {}


def test_a_collapse_is_told(tmp_path):
    folder = make_run(tmp_path / "run", entropy=0.98, kl=0.001, teacher_temp=0.1, warmup_teacher_temp=0.1)
    (run,) = training.read_runs([folder])
    assert training.summary(run)["collapse"] == "uniform"
    assert "no sharpening" in curves.section([run])
    assert "alarm" not in curves.section(training.read_runs([make_run(tmp_path / "healthy")]))


def test_runs_of_older_versions_and_in_their_first_epoch_are_drawn(tmp_path):
    older = make_run(tmp_path / "older", steps=False)
    young = make_run(tmp_path / "young", epochs=1)
    (young / LOG).unlink()
    with (young / STEPS).open("a") as file:
        file.write('{"step": 50, "epo')
    runs = training.read_runs([older, young])
    rows = [training.summary(run) for run in runs]
    assert [(row["epochs"], row["collapse"]) for row in rows] == [("3 of 10", None), ("below 1 of 10", "none")]
    lines = curves.loss_panels(runs)[0].lines
    assert lines["older"] == [(PER_EPOCH * epoch, 4.0 / epoch) for epoch in (1, 2, 3)]  # one run knows no epoch: steps
    assert lines["young"][0] == (10, 0.4)
    assert "at step" in curves.section(runs)


def test_the_gap_needs_both_measurements(tmp_path):
    folder = make_run(tmp_path / "run")
    records = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    del records[2]["knn_student"]
    (folder / LOG).write_text("".join(json.dumps(record) + "\n" for record in records))
    _, gap = curves.knn_panels(training.read_runs([folder]))
    assert gap.lines["gap"] == [(0, 0.0), (1, 1.0), (3, 3.0)]


def test_runs_of_one_name_are_told_apart(tmp_path):
    folders = [make_run(tmp_path / parent / "run") for parent in ("a", "b")]
    assert [run.name for run in training.read_runs(folders)] == [str(folder) for folder in folders]


def test_what_is_no_run_is_refused(tmp_path):
    run = make_run(tmp_path / "run")
    with pytest.raises(DinotoolsError, match=r"no config\.toml"):
        training.read_runs([run, tmp_path])
    other = tmp_path / "other"
    other.mkdir()
    (other / OPTIONS).write_text('ckpt = "dino_vits16"\n')
    with pytest.raises(DinotoolsError, match="does not come from `dinotools pretrain`"):
        training.read_runs([other])
    for name in (LOG, STEPS):
        (run / name).unlink()
    with pytest.raises(DinotoolsError, match="has measured nothing yet"):
        training.read_runs([run])


def test_lines_of_a_log_that_are_no_records_are_left_out(tmp_path):
    folder = make_run(tmp_path / "run")
    before = training.read_runs([folder])[0]
    with (folder / LOG).open("a") as file:
        file.write('[1]\nnull\n{"a": 1}\n{"step": null, "epoch": 3}\n')
    assert training.read_runs([folder])[0].epochs == before.epochs


def test_steps_without_all_that_tells_a_collapse_tell_none(tmp_path):
    folder = make_run(tmp_path / "run")
    (folder / STEPS).write_text("".join(f'{{"step": {step}, "kl": 0.0}}\n' for step in range(0, 200, 10)))
    assert training.read_runs([folder])[0].collapses == []
