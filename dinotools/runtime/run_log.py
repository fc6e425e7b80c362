"""``log.jsonl``: what a training run measured, one line per epoch."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from dinotools.runtime.run_directory import write_atomically

LOG = "log.jsonl"


class Log:
    """One JSON object per line, for every epoch and, where it is measured, for the state before the first step.

    Args:
        path: the file.
        last_step: lines of later steps are dropped: they belong to work that a killed run has lost.
    """

    def __init__(self, path: Path, last_step: int) -> None:
        self.records = [record for record in read_log(path) if record["step"] <= last_step]
        kept = "".join(json.dumps(record) + "\n" for record in self.records)
        write_atomically(path, lambda temporary: temporary.write_text(kept, encoding="utf-8"))
        self._file = path.open("a", encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        """Appends one record, at once out of this process's hands."""
        self.records.append(record)
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a log that may not exist yet, or whose last line a kill has cut in two."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        with contextlib.suppress(json.JSONDecodeError):
            records.append(json.loads(line))
    return records
