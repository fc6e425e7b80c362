import json
from pathlib import Path

import pytest

from dinotools.runtime.errors import RunFailed
from dinotools.runtime.run_log import Log, read_log, renumber


def test_later_and_cut_lines_go_and_new_ones_follow(tmp_path):
    path = tmp_path / "steps.jsonl"
    lines = [json.dumps({"step": step, "loss": step / 2}) for step in (10, 20, 30)]
    path.write_text("\n".join(lines) + '\n{"step": 40, "lo')
    log = Log(path, last_step=20)
    log.write({"step": 30, "loss": 1.0})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [10, 20, 30]
    assert log.records == read_log(path)
    assert log.records[-1] == {"step": 30, "loss": 1.0}
    log.close()


def test_what_is_no_record_is_passed_over(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n\n3\n[]\n{"epoch": 2}\nnonsense\n')
    assert read_log(path) == [{"step": 1}]
    assert read_log(tmp_path / "absent.jsonl") == []


def test_a_full_disk_is_said(tmp_path):
    log = Log(tmp_path / "log.jsonl", last_step=0)
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no file that is always full")
    log._file.close()
    log._file = full.open("ab", buffering=0)
    with pytest.raises(RunFailed, match=r"log.jsonl: cannot be written \(No space left on device\).*--resume"):
        log.write({"step": 1})
    log.close()


def test_steps_of_another_size(tmp_path):
    path = tmp_path / "steps.jsonl"
    path.write_text('{"step": 3, "epoch": 1}\n{"step": 10, "epoch": 2}\n')
    renumber(path, 0.5)
    assert read_log(path) == [{"step": 2, "epoch": 1}, {"step": 5, "epoch": 2}]
