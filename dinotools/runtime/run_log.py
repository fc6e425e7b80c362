"""What a training run measured: ``log.jsonl``, a line per epoch, and ``steps.jsonl``, a line every few steps."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from dinotools.runtime.run_directory import write_atomically

LOG = "log.jsonl"
STEPS = "steps.jsonl"


class Log:
    """A file with one JSON object per line; each has a ``step``.

    Args:
        path: the file.
        last_step: lines of later steps are dropped: they belong to work that a killed run has lost.
    """

    def __init__(self, path: Path, last_step: int) -> None:
        kept = "".join(_line(record) for record in read_log(path) if record["step"] <= last_step)
        write_atomically(path, lambda temporary: temporary.write_text(kept, encoding="utf-8"))
        self.path = path
        self._file = path.open("a", encoding="utf-8")

    @property
    def records(self) -> list[dict[str, Any]]:
        """All records, read from the file: a run of a million steps does not keep them in memory."""
        return read_log(self.path)

    def write(self, record: dict[str, Any]) -> None:
        """Appends one record, at once out of this process's hands."""
        self._file.write(_line(record))
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a log that may not exist yet, or whose last line a kill has cut in two."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        with contextlib.suppress(json.JSONDecodeError):
            record = json.loads(line)
            if isinstance(record, dict) and "step" in record:
                records.append(record)
    return records


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record) + "\n"
