"""Configs as TOML files: presets that ship with dinotools, a user's own, and the one written beside each result."""

from __future__ import annotations

import dataclasses
import difflib
import sys
import types
from collections.abc import Set
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import tomli_w

from dinotools.configs.option import fields
from dinotools.runtime.errors import DinotoolsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGE = Path(__file__).parents[1]


def shipped(folder: str) -> Path:
    """A folder of the repository that comes with the package: ``recipes`` or ``data_manifests``.

    In a checkout it stands beside the package, in an installed package in ``shipped/``.
    """
    installed = PACKAGE / "shipped" / folder
    return installed if installed.is_dir() else PACKAGE.parent / folder


PRESETS = shipped("recipes") / "presets"

SAID_ONCE = {
    "overwrite",
    "resume",
    "override",
    "dry_run",
}  # repeating a run from its file must not delete or continue anything

C = TypeVar("C")


def preset_names(command: str) -> list[str]:
    """Names of the presets of a command, which stand in a folder of its name."""
    return sorted(path.stem for path in (PRESETS / command).glob("*.toml"))


def preset_file(command: str, name: str) -> Path:
    """The TOML file of a command's preset.

    Raises:
        DinotoolsError: there is no such preset.
    """
    path = PRESETS / command / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(preset_names(command))
        raise DinotoolsError(f"no preset of {command} is called {name!r}", "--preset", f"There are: {known}.")
    return path


def read_values(config_class: type, path: Path) -> dict[str, Any]:
    """Reads and checks the options set in a TOML file.

    Raises:
        DinotoolsError: the file is missing or no TOML, a key is unknown, or a value has the wrong type.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DinotoolsError(f"cannot be read ({error.strerror})", path, "Check --config.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DinotoolsError(f"is not valid TOML ({error})", path, "Mend the file.") from error
    known = {field.name: field for field in fields(config_class)}
    values = {}
    for key, value in document.items():
        name = key.replace("-", "_")
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            remedy = f"Did you mean {close[0]!r}?" if close else "See --help for the options."
            raise DinotoolsError(f"unknown key {key!r}", path, remedy)
        try:
            values[name] = coerce(known[name].type, value)
        except (TypeError, ValueError) as error:
            raise DinotoolsError(f"{key} = {value!r}: {error}", path, "See --help for the option.") from error
    return values


def load(config_class: type[C], path: Path, **overrides: Any) -> C:
    """A config from a TOML file; keyword arguments win over the file, the file over the defaults."""
    return config_class(**{**read_values(config_class, path), **overrides})


def as_document(config: Any) -> dict[str, Any]:
    """The config as plain TOML/JSON values; options that are None are left out."""
    plain = {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}
    return {name: value for name, value in plain.items() if value is not None}


def dump(config: Any) -> str:
    """The config as TOML text that ``load`` reads back to an equal config, but for what is said once only."""
    return tomli_w.dumps({name: value for name, value in as_document(config).items() if name not in SAID_ONCE})


def differences(saved: dict[str, Any], config: Any, *, may_differ: Set[str]) -> list[str]:
    """How the options of a saved run differ from those of the run that goes on with it, in words.

    Args:
        saved: ``as_document`` of the earlier config; an option that its version did not have counts as its default.
        config: the options now.
        may_differ: options that are not compared.
    """
    now = as_document(config)
    defaults = {f.name: _plain(f.default) for f in fields(type(config)) if not f.required and f.default is not None}
    saved = {name: value for name, value in defaults.items() if name in now} | saved
    names = sorted((saved.keys() | now.keys()) - may_differ)
    return [f"{name} was {saved.get(name)}, now {now.get(name)}" for name in names if saved.get(name) != now.get(name)]


def coerce(wanted: Any, value: Any) -> Any:
    """Turns a TOML value, or a word of the command line, into the type of an option.

    Args:
        wanted: int, float, str, bool, Path, a Literal, ``tuple[X, ...]``, ``tuple[X, Y]`` or one of these or None.
        value: what was written. Tuples may be one string, such as ``10,20`` or ``0.4 1``.

    Raises:
        ValueError or TypeError: the value does not fit.
    """
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        return None if value is None else coerce(next(a for a in arguments if a is not type(None)), value)
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"must be one of {', '.join(map(str, arguments))}")
        return value
    if origin is tuple:
        return _coerce_tuple(arguments, value)
    if wanted is bool and not isinstance(value, bool):
        raise TypeError("must be true or false")
    if wanted is Path and isinstance(value, str):
        return Path(value).expanduser()
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and wanted is not str:
        return wanted(value)
    if isinstance(value, bool) != (wanted is bool) or not isinstance(value, wanted):
        raise TypeError(f"must be {wanted.__name__}")
    return value


def _coerce_tuple(arguments: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    parts = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)):
        parts = (parts,)
    if arguments[-1] is Ellipsis:
        return tuple(coerce(arguments[0], part) for part in parts)
    if len(parts) != len(arguments):
        raise ValueError(f"must be {len(arguments)} values")
    return tuple(coerce(kind, part) for kind, part in zip(arguments, parts, strict=True))


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return [_plain(v) for v in value] if isinstance(value, tuple) else value
