"""Outputs are whole or absent, and nobody's work is overwritten."""

import pytest

from dinotools.runtime.errors import DinotoolsError
from dinotools.runtime.run_directory import claim, write_atomically, write_json


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
    assert claim(tmp_path).is_dir()
    assert claim(tmp_path / "new" / "deeper").is_dir()


def test_a_directory_that_holds_something_is_refused_or_replaced(tmp_path):
    (tmp_path / "work.txt").write_text("mine")
    with pytest.raises(DinotoolsError, match="not empty"):
        claim(tmp_path)
    assert (tmp_path / "work.txt").exists()
    assert list(claim(tmp_path, overwrite=True).iterdir()) == []


def test_what_a_kill_left_half_written_is_nobodys_work(tmp_path):
    (tmp_path / ".config.toml.tmp").write_text("half")
    assert claim(tmp_path) == tmp_path


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(DinotoolsError, match="is a file"):
        claim(tmp_path / "out")
    with pytest.raises(DinotoolsError, match="cannot be made"):
        claim(tmp_path / "out" / "below")
