import json
import math

import pytest

from dinotools.configs import files
from dinotools.configs.pretraining import PretrainConfig
from dinotools.configs.report import ReportConfig
from dinotools.pretraining import report
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


def test_a_run_becomes_a_page(tmp_path):
    folder = make_run(tmp_path / "mine")
    result = report.run(ReportConfig(runs=(folder,)))
    (row,) = result.rows
    assert (row["run"], row["epochs"]) == ("mine", "3 of 10")
    assert (row["k-NN teacher %"], row["k-NN student %"]) == (26.0, 23.0)
    assert row["loss"] == pytest.approx(4 / 3)
    assert row["h / ln K %"] == pytest.approx(50)
    assert row["KL / ln K %"] == pytest.approx(20)
    assert row["collapse"] == "none"
    page = (folder / "report" / report.PAGE).read_text(encoding="utf-8")
    names = {path.stem for path in (folder / "report").glob("*.png")}
    assert names == {"loss", "collapse", "knn", "signs", "schedules"}
    assert page.count("data:image/png;base64,") == len(names)
    assert "http" not in page


def test_curves_are_by_epoch_and_as_shares_of_ln_k(tmp_path):
    runs = report.read_runs([make_run(tmp_path / "a"), make_run(tmp_path / "b", entropy=0.9)])
    entropy, kl = report.collapse_panels(runs)
    assert entropy.lines["a"][0] == (10 / PER_EPOCH, pytest.approx(0.5))
    assert entropy.lines["b"][-1] == (3.0, pytest.approx(0.9))
    assert kl.lines.keys() == {"a", "b"}
    roles, teachers = report.knn_panels(runs)
    assert roles.lines["student"] == [(0, 20.0), (1, 21.0), (2, 22.0), (3, 23.0)]
    assert teachers.lines["b"][-1] == (3, 26.0)
    (loss,) = report.loss_panels(runs)
    assert loss.level == ("ln K", math.log(K))
    assert loss.knees == {"last layer is freed": 1.0, report.LR_KNEE: 2.0}


def test_knees_and_ln_k_are_drawn_only_where_they_are_the_same(tmp_path):
    one, two = make_run(tmp_path / "a"), make_run(tmp_path / "b", freeze_last_layer=0)
    assert report.loss_panels(report.read_runs([two]))[0].knees == {report.LR_KNEE: 2.0}
    assert report.loss_panels(report.read_runs([one, two]))[0].knees == {}


def test_a_collapse_is_told(tmp_path):
    folder = make_run(tmp_path / "run", entropy=0.98, kl=0.001, teacher_temp=0.1, warmup_teacher_temp=0.1)
    result = report.run(ReportConfig(runs=(folder,), out=tmp_path / "page"))
    assert result.rows[0]["collapse"] == "uniform"
    assert any("no sharpening" in note for note in result.notes)
    assert "no sharpening" in (tmp_path / "page" / report.PAGE).read_text(encoding="utf-8")


def test_runs_of_older_versions_and_in_their_first_epoch_are_drawn(tmp_path):
    older = make_run(tmp_path / "older", steps=False)
    young = make_run(tmp_path / "young", epochs=1)
    (young / LOG).unlink()
    with (young / STEPS).open("a") as file:
        file.write('{"step": 50, "epo')
    result = report.run(ReportConfig(runs=(older, young), out=tmp_path / "page"))
    assert [(row["epochs"], row["collapse"]) for row in result.rows] == [("3 of 10", None), ("below 1 of 10", "none")]
    lines = report.loss_panels(report.read_runs([older, young]))[0].lines
    assert lines["older"] == [(PER_EPOCH * epoch, 4.0 / epoch) for epoch in (1, 2, 3)]  # one run knows no epoch: steps
    assert lines["young"][0] == (10, 0.4)


def test_the_gap_needs_both_measurements(tmp_path):
    folder = make_run(tmp_path / "run")
    records = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    del records[2]["knn_student"]
    (folder / LOG).write_text("".join(json.dumps(record) + "\n" for record in records))
    _, gap = report.knn_panels(report.read_runs([folder]))
    assert gap.lines["gap"] == [(0, 0.0), (1, 1.0), (3, 3.0)]


def test_runs_of_one_name_are_told_apart(tmp_path):
    folders = [make_run(tmp_path / parent / "run") for parent in ("a", "b")]
    assert [run.name for run in report.read_runs(folders)] == [str(folder) for folder in folders]
    result = report.run(ReportConfig(runs=(folders[0], folders[0]), out=tmp_path / "page"))
    assert [row["run"] for row in result.rows] == ["run"]


def test_what_is_no_run_is_refused(tmp_path):
    run = make_run(tmp_path / "run")
    with pytest.raises(DinotoolsError, match=r"no config\.toml"):
        report.run(ReportConfig(runs=(run, tmp_path), out=tmp_path / "page"))
    assert not (tmp_path / "page").exists()
    with pytest.raises(DinotoolsError, match="is a run directory"):
        report.run(ReportConfig(runs=(run,), out=run))
    with pytest.raises(DinotoolsError, match="cannot be written"):
        report.run(ReportConfig(runs=(run,), out=run / OPTIONS))
    other = tmp_path / "other"
    other.mkdir()
    (other / OPTIONS).write_text('ckpt = "dino_vits16"\n')
    with pytest.raises(DinotoolsError, match="does not come from `dinotools pretrain`"):
        report.read_runs([other])
    for name in (LOG, STEPS):
        (run / name).unlink()
    with pytest.raises(DinotoolsError, match="has measured nothing yet"):
        report.read_runs([run])
