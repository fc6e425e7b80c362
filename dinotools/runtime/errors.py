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


def require(condition: bool, what: str, option: str, remedy: str) -> None:
    """Refuses the value of an option, named as the field of its config, unless the condition holds.

    Raises:
        DinotoolsError: it does not hold.
    """
    if not condition:
        raise DinotoolsError(what, "--" + option.replace("_", "-"), remedy)
