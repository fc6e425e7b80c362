import json
import os
from pathlib import Path

import pytest

from dinotools.configs.files import dump
from dinotools.configs.pretraining import PretrainConfig
from dinotools.reproduction.collecting import collect
from dinotools.runtime.errors import DinotoolsError

DOCUMENT = {"command": "dinotools knn", "metrics": {"k20": {"top1": 50.0}}, "details": {}, "config": {}}


def write(folder: Path, document=DOCUMENT, *, at: float = 1000.0, name: str = "results.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = document if isinstance(document, str) else json.dumps(document)
    (folder / name).write_text(text, encoding="utf-8")
    os.utime(folder / name, (at, at))
    return folder / name


def make_run(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(dump(PretrainConfig(data="digits", out=folder)), encoding="utf-8")
    (folder / "log.jsonl").write_text('{"epoch": 1, "step": 3, "train_loss": 1.0}\n', encoding="utf-8")
    return folder


def test_results_are_found_however_deep_oldest_first(tmp_path):
    newer = write(tmp_path / "a/b/c", at=2000)
    older = write(tmp_path / "z", at=1000)
    alone = write(tmp_path / "files", at=3000, name="mine.json")
    found = collect([tmp_path, alone])
    assert [each.path for each in found.results] == [older, newer, alone]
    assert [each.written for each in found.results] == [1000, 2000, 3000]
    assert found.runs == ()


def test_a_result_counts_once_by_whatever_path_it_is_reached(tmp_path):
    path = write(tmp_path / "a/knn")
    (tmp_path / "a/up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "again").symlink_to(tmp_path / "a", target_is_directory=True)
    found = collect([tmp_path, tmp_path / "a", path, tmp_path / "a/../a"])
    assert len(found.results) == 1


def test_hidden_folders_and_reports_are_no_results(tmp_path):
    write(tmp_path / ".git/x")
    write(tmp_path / "report", DOCUMENT | {"command": "dinotools report"})
    assert collect([tmp_path]).results == ()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"command": "dinotools knn", "metr', "cannot be read as JSON"),
        ("[1, 2]", "names no command"),
        ({"command": "dinotools knn", "metrics": [], "details": {}, "config": {}}, "lacks one of metrics"),
        ({"command": 3, "metrics": {}, "details": {}, "config": {}}, "names no command"),
        ("[" * 100_000, "cannot be read as JSON"),
    ],
    ids=["half", "list", "metrics", "command", "deep"],
)
def test_what_is_broken_is_named_and_left_out(tmp_path, capfd, content, words):
    broken, sound = write(tmp_path / "broken", content), write(tmp_path / "sound")
    assert [each.path for each in collect([tmp_path]).results] == [sound]
    told = capfd.readouterr().err
    assert str(broken) in told
    assert words in told


def test_runs_are_those_of_pretrain_that_have_logged(tmp_path):
    run = make_run(tmp_path / "runs/a")
    unfinished = make_run(tmp_path / "runs/b")
    (unfinished / "log.jsonl").unlink()
    other = make_run(tmp_path / "finetuned")
    (other / "config.toml").write_text('ckpt = "dino_vits16"\nout = "x"\nmixup = 0.8\n', encoding="utf-8")
    (tmp_path / "runs/link").symlink_to(run, target_is_directory=True)
    assert [path.resolve() for path in collect([tmp_path]).runs] == [run]
    assert collect([run]).runs == (run,)


def test_sources_that_are_missing_or_give_nothing_are_told(tmp_path, capfd):
    with pytest.raises(DinotoolsError, match="nowhere: does not exist"):
        collect([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    assert collect([tmp_path / "empty"]).results == ()
    assert "nothing new to report" in capfd.readouterr().err
