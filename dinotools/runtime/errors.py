"""The one kind of error that a user is meant to read."""

from __future__ import annotations


class DinotoolsError(Exception):
    """Bad input: what is wrong, where, and what to do about it. The command line prints it and exits with 2.

    Args:
        what: the fault, in one clause.
        where: the file, folder or option it was found in.
        remedy: what the user can do.
    """

    exit_code = 2

    def __init__(self, what: str, where: object = None, remedy: str | None = None) -> None:
        self.what, self.where, self.remedy = what, where, remedy
        message = what if where is None else f"{where}: {what}"
        super().__init__(message if remedy is None else f"{message}. {remedy}")


class RunFailed(DinotoolsError):
    """A run that began with good input and could not go on. Exit code 1."""

    exit_code = 1


class PeerStopped(RunFailed):
    """Another process of the same command has ended, and this one cannot go on without it.

    Its exit code is its own, so that the launcher tells those who were left alone from the one who left.
    """

    exit_code = 76  # EX_PROTOCOL of sysexits.h


class Interrupted(RunFailed):
    """A run that was asked to stop, and has saved its state before it did. Exit code 75: start it again.

    Args:
        signal_name: what asked, such as SIGTERM.
        step: the last step that is saved.
    """

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: batch systems take it for a wish to be queued again

    def __init__(self, signal_name: str, step: int) -> None:
        self.signal_name, self.step = signal_name, step
        super().__init__(
            f"stopped by {signal_name} after step {step:,}, which is saved",
            remedy="The same command with --resume goes on",
        )


def require(condition: bool, what: str, option: str, remedy: str) -> None:
    """Refuses the value of an option, named as the field of its config, unless the condition holds.

    Raises:
        DinotoolsError: it does not hold.
    """
    if not condition:
        raise DinotoolsError(what, "--" + option.replace("_", "-"), remedy)
