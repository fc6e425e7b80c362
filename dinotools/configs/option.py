"""What an option is: a field of a frozen dataclass, annotated with its help."""

from __future__ import annotations

import dataclasses
import inspect
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
    """The options of a config class in the order of --help: its own, then those of its bases from left to right."""
    hints = get_type_hints(config_class, include_extras=True)
    defaults = {field.name: field.default for field in dataclasses.fields(config_class)}
    names = [name for cls in config_class.__mro__ for name in inspect.get_annotations(cls)]
    found = []
    for name in dict.fromkeys(names):
        if get_origin(hints[name]) is not Annotated:
            raise TypeError(f"{config_class.__name__}.{name} has no Opt")
        plain, opt = get_args(hints[name])[:2]
        found.append(Field(name, plain, defaults[name], opt))
    return found
