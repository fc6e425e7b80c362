"""What an option is: a field of a frozen dataclass, annotated with its help."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Opt:
    """Help of an option, and where it stands on the command line.

    Args:
        help: one line, without a full stop.
        panel: heading it is listed under.
        positional: an argument rather than an option.
    """

    help: str
    panel: str = "Options"
    positional: bool = False


@dataclass(frozen=True)
class Field:
    """One option of a config class: name, type, default (``dataclasses.MISSING`` if required) and help."""

    name: str
    type: Any
    default: Any
    opt: Opt

    @property
    def flag(self) -> str:
        """The option as typed: ``patch_size`` is ``--patch-size``."""
        return "--" + self.name.replace("_", "-")

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is dataclasses.MISSING


def fields(config_class: type) -> list[Field]:
    """The options of a config class, in order of definition (base classes first)."""
    hints = get_type_hints(config_class, include_extras=True)
    found = []
    for field in dataclasses.fields(config_class):
        hint = hints[field.name]
        if get_origin(hint) is not Annotated:
            raise TypeError(f"{config_class.__name__}.{field.name} has no Opt")
        plain, opt = get_args(hint)[:2]
        found.append(Field(field.name, plain, field.default, opt))
    return found
