"""The command line as a user meets it: ``dinotools`` in a process of its own, ``forked`` in a copy of this one."""

import importlib
import os
import signal
import subprocess
import sys
import tempfile
import traceback

from dinotools.cli import main

VARIABLES = {"OMP_NUM_THREADS": "1", "COLUMNS": "140", "TERM": "dumb"}
PATIENCE_S = 120
HEAVY = ("evaluation.knn", "evaluation.linear.probe", "evaluation.lowshot", "evaluation.embedding.command")
HEAVY += ("pretraining.trainer", "photos.duplicates", "photos.searching")


def dinotools(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dinotools", *(str(word) for word in words)]
    variables = os.environ | VARIABLES | environment
    return subprocess.run(command, capture_output=True, text=True, check=False, env=variables)


def forked(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """As ``dinotools``, without the four seconds in which a new process imports what commands need."""
    for name in HEAVY:
        importlib.import_module(f"dinotools.{name}")
    command = ["dinotools", *(str(word) for word in words)]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if child == 0:
            _run(command, {**VARIABLES, **environment}, out.fileno(), err.fileno())
        _, status = os.waitpid(child, 0)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(command, os.waitstatus_to_exitcode(status), out.read(), err.read())


def _run(command: list[str], variables: dict[str, str], out: int, err: int) -> None:
    """Never returns: pytest must not go on in two processes."""
    code = 1
    try:
        signal.alarm(PATIENCE_S)  # a fork that waits for a thread which it does not have dies of it
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
        os.environ.update(variables)
        sys.argv = command
        main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
