"""What a training run measured: ``log.jsonl``, a line per epoch, and ``steps.jsonl``, a line every few steps."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from dinotools.runtime.errors import RunFailed
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
        self._file = path.open("ab", buffering=0)

    @property
    def records(self) -> list[dict[str, Any]]:
        """All records, read from the file: a run of a million steps does not keep them in memory."""
        return read_log(self.path)

    def write(self, record: dict[str, Any]) -> None:
        """Appends one record, at once out of this process's hands.

        Raises:
            RunFailed: the disk is full.
        """
        try:
            self._file.write(_line(record).encode())
        except OSError as error:
            remedy = "What was saved is intact: free some space and repeat the command with --resume."
            raise RunFailed(f"cannot be written ({error.strerror})", self.path, remedy) from error

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


def renumber(path: Path, factor: float) -> None:
    """Multiplies the steps of a log, rounded: the run goes on with steps of another size."""
    lines = [_line(record | {"step": round(record["step"] * factor)}) for record in read_log(path)]
    write_atomically(path, lambda temporary: temporary.write_text("".join(lines), encoding="utf-8"))


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record) + "\n"
