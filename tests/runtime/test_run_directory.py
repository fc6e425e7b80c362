"""Outputs are whole or absent, and nobody's work is overwritten."""

import pytest

from dinotools.runtime.errors import DinotoolsError
from dinotools.runtime.run_directory import check_writable, claim, write_atomically, write_json


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a" / "weights.pth"
    write_atomically(path, lambda p: p.write_text("old"))

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["weights.pth"]


def test_json_is_replaced(tmp_path):
    for value in (1, 2):
        write_json(tmp_path / "results.json", {"value": value})
    assert (tmp_path / "results.json").read_text() == '{\n  "value": 2\n}\n'


def test_an_empty_or_new_directory_is_taken(tmp_path):
    for directory in (tmp_path, tmp_path / "new" / "deeper"):
        claim(directory, "a = 1")
        assert (directory / "config.toml").read_text() == "a = 1"


def test_a_directory_that_holds_something_is_refused_or_replaced(tmp_path):
    (tmp_path / "work.txt").write_text("mine")
    with pytest.raises(DinotoolsError, match="not empty"):
        claim(tmp_path, "")
    with pytest.raises(DinotoolsError, match="no run of dinotools"):
        claim(tmp_path, "", overwrite=True)
    assert (tmp_path / "work.txt").read_text() == "mine"


def test_an_earlier_run_is_replaced_unless_it_is_read(tmp_path):
    run = tmp_path / "run"
    claim(run, "a = 1")
    (run / "checkpoint.pth").write_text("weights")
    for read in (run, run / "checkpoint.pth", str(run / ".." / "run" / "checkpoint.pth")):
        with pytest.raises(DinotoolsError, match="would delete what this command reads"):
            claim(run, "a = 2", overwrite=True, inputs=(None, "digits", read))
    assert (run / "checkpoint.pth").read_text() == "weights"
    claim(run, "a = 2", overwrite=True, inputs=(tmp_path, "digits"))
    assert {path.name: path.read_text() for path in run.iterdir()} == {"config.toml": "a = 2"}


def test_what_a_kill_left_half_written_is_nobodys_work(tmp_path):
    (tmp_path / ".config.toml.tmp").write_text("half")
    claim(tmp_path, "a = 1")
    assert (tmp_path / "config.toml").read_text() == "a = 1"


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(DinotoolsError, match="is a file"):
        claim(tmp_path / "out", "")
    with pytest.raises(DinotoolsError, match="cannot be written"):
        claim(tmp_path / "out" / "below", "")


def test_options_without_results_are_replaced(tmp_path):
    claim(tmp_path / "run", "a = 1")  # and then the command stopped: a checkpoint was damaged, say
    claim(tmp_path / "run", "a = 2")
    assert (tmp_path / "run" / "config.toml").read_text() == "a = 2"


def test_an_output_file_that_cannot_be_written_is_told_in_advance(tmp_path):
    check_writable(tmp_path / "new/page.html", "--html")
    check_writable(tmp_path / "new/page.html", "--html")
    assert list(tmp_path.iterdir()) == [tmp_path / "new"]
    with pytest.raises(DinotoolsError, match=r"is a folder.*--html"):
        check_writable(tmp_path / "new", "--html")
    (tmp_path / "file").write_text("")
    with pytest.raises(DinotoolsError, match=r"cannot be written.*--html"):
        check_writable(tmp_path / "file/page.html", "--html")
