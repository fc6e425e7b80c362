import io
import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from dinotools.cli import app
from dinotools.configs.report import ReportConfig
from dinotools.reporting.tables import print_result
from dinotools.reproduction.command import run
from dinotools.runtime.errors import DinotoolsError
from tests.reproduction.results import knn, trained
from tests.reproduction.test_collecting import make_run


def place(root, found, name):
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(found.document), encoding="utf-8")
    return folder


@pytest.fixture
def results(tmp_path):
    place(tmp_path / "results", knn(74.5, paper_row="table2/dino_vits16"), "good")
    other = knn(50.0, paper_row="table2/dino_vitb16", checkpoint={"source": "x.pth"})
    place(tmp_path / "results", other, "other")
    place(tmp_path / "results", knn(31.25, classes=10), "cifar")
    return tmp_path / "results"


def test_numbers_stand_beside_the_papers_and_files_are_written(results, tmp_path):
    found = run(ReportConfig(sources=(results,), out=tmp_path / "report"))
    rows = {row["number"]: row for row in found.rows}
    assert rows.keys() == {"table2 dino_vits16 k-NN", "table2 dino_vitb16 k-NN"}
    assert rows["table2 dino_vits16 k-NN"]["verdict"] == "reproduced"
    assert rows["table2 dino_vits16 k-NN"]["paper"] == "74.5 ± 0.1"
    assert rows["table2 dino_vitb16 k-NN"]["verdict"] == "other conditions"
    assert any("table2/dino_vitb16 k-NN: arch is vit_small, not vit_base" in note for note in found.notes)
    assert any("31.25" in note for note in found.notes)
    assert {path.name for path in (tmp_path / "report").iterdir()} >= {"index.html", "report.md", "report.csv"}
    assert "74.5" in (tmp_path / "report/report.md").read_text(encoding="utf-8")


def test_the_terminal_needs_80_columns(tmp_path):
    names = ("table7/no-multicrop", "frameworks/moco-v2-multicrop", "head/k262144")
    for i, name in enumerate(names):
        place(tmp_path, trained(67.9 + i, name, n_images=500, local_crops_number=2), str(i))
    found = run(ReportConfig(sources=(tmp_path,)))
    console = Console(width=80, record=True, file=io.StringIO())
    print_result(found, console)
    lines = console.export_text().splitlines()
    assert max(map(len, lines[:-1])) <= 80  # but for the path of the page
    table = [line for line in lines if line.startswith("│")]
    assert all(line.endswith("│") for line in table)
    assert sum("other conditions" in line for line in table) == len(found.rows)


def test_conditions_that_differ_everywhere_are_told_once(tmp_path):
    for name in ("1024", "512"):
        row = f"table9/{name}"
        place(tmp_path, trained(59.0, row, n_images=500, epochs=100, epoch=100, local_crops_number=0), name)
    notes = run(ReportConfig(sources=(tmp_path,))).notes
    assert "  all: n images is 500, not 1,281,167" in notes
    assert "  table9/512 k-NN: batch size is 1,024, not 512" in notes
    assert not any(note.startswith("  table9/1024") for note in notes)


def test_json_has_every_cell_with_its_provenance(results, tmp_path):
    words = ["report", str(results), "--out", str(tmp_path / "report"), "--json"]
    shown = CliRunner().invoke(app, words, catch_exceptions=False).stdout
    cells = json.loads(shown)["metrics"]["tables"]["table2"]
    (ours,) = [cell for cell in cells if cell["verdict"] == "reproduced"]
    assert ours["provenance"]["checkpoint sha256"] == "ab" * 32
    assert sum(cell["verdict"] == "not measured" for cell in cells) == len(cells) - 2


def test_the_report_is_not_among_the_results_of_the_next_one(results):
    first = run(ReportConfig(sources=(results,)))
    assert (results / "report/index.html").is_file()
    document = {"command": "dinotools report", "metrics": {}, "details": {}, "config": {}}
    (results / "report/results.json").write_text(json.dumps(document), encoding="utf-8")
    assert run(ReportConfig(sources=(results,))).rows == first.rows


def test_runs_alone_are_a_report_as_well(tmp_path):
    folder = make_run(tmp_path / "run")
    found = run(ReportConfig(sources=(folder,), out=tmp_path / "report"))
    assert [row["run"] for row in found.rows] == ["run"]
    assert (tmp_path / "report/index.html").is_file()
    assert {path.stem for path in (tmp_path / "report").glob("*.png")} >= {"loss"}


def test_nothing_at_all_is_an_error_and_so_is_a_run_as_out(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DinotoolsError, match=r"no results\.json and no run"):
        run(ReportConfig(sources=(tmp_path / "empty",)))
    folder = make_run(tmp_path / "run")
    with pytest.raises(DinotoolsError, match="is a run directory"):
        run(ReportConfig(sources=(folder,), out=folder))


def test_a_report_overwrites_no_other_results(results):
    before = (results / "cifar/results.json").read_bytes()
    with pytest.raises(DinotoolsError, match="results of another command"):
        run(ReportConfig(sources=(results,), out=results / "cifar"))
    assert (results / "cifar/results.json").read_bytes() == before


def test_what_is_no_finite_number_was_not_measured(tmp_path):
    place(tmp_path, knn(float("nan")), "nan")
    place(tmp_path, knn(float("inf")), "infinite")
    found = run(ReportConfig(sources=(tmp_path,)))
    assert found.metrics["tables"] == {}
    assert json.dumps(found.metrics, allow_nan=False)
    assert found.title == "report · 2 results"
