"""How a config dataclass becomes a Typer command: the only place that knows Typer's options."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from rich.markup import escape

from dinotools.configs import files
from dinotools.configs.option import Field, fields
from dinotools.reporting import paper
from dinotools.reporting.tables import print_result
from dinotools.runtime import console, distributed, launcher, slurm
from dinotools.runtime.errors import DinotoolsError, Interrupted, RunFailed
from dinotools.runtime.results import Result, document
from dinotools.runtime.run_directory import claim, write_json

SIMPLE_TYPES = (int, float, bool)
COMMON = "Command"


def command(app: typer.Typer, name: str, config_class: type, target: str, *, presets: bool = False) -> None:
    """Adds a command to the app: its help, options and defaults come from the dataclass.

    The module is imported when the command runs, and its function called: ``(config) -> Result``.

    Args:
        app: the app or group that the command belongs to.
        name: its name.
        config_class: its options; the command line wins over --config, that over --preset, that over the defaults.
        target: ``package.module:function``.
        presets: whether the command takes --preset; its files stand in a folder of its name.
    """
    options = fields(config_class)

    def invoke(ctx: typer.Context, **values: Any) -> None:
        given = {f.name: values[f.name] for f in options if ctx.get_parameter_source(f.name).name != "DEFAULT"}  # type: ignore[union-attr]
        layers: dict[str, Any] = {}
        if values.get("preset"):
            layers |= files.read_values(config_class, files.preset_file(name, values["preset"]))
        if values["config"]:
            layers |= files.read_values(config_class, values["config"])
        given = {key: _as_in_a_file(value) for key, value in given.items()}
        config = _build(config_class, layers | given)
        if (named := getattr(config, "paper_row", None)) is not None:
            paper.row(named)  # now, not when hours of work are reported
        if getattr(config, "slurm", False) and not config.dry_run:
            _submit(ctx.command_path, target, config, as_json=values["json"])
        elif getattr(config, "gpus", 1) > 1 and distributed.world_size() == 1:
            raise typer.Exit(launcher.launch(config.gpus, ("-m", "dinotools", *sys.argv[1:]), config.device))
        else:
            perform(ctx.command_path, target, config, as_json=values["json"])

    invoke.__name__ = name.replace("-", "_")
    invoke.__doc__ = config_class.__doc__
    parameters = [inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)]
    parameters += [_parameter(field) for field in options]
    parameters += _common_parameters(files.preset_names(name) if presets else [])
    invoke.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    app.command(name)(invoke)


def _as_in_a_file(value: Any) -> Any:
    """A value of the command line as --config would have it; the shell leaves the ~ of --out=~/run to us."""
    if isinstance(value, Path):
        return value.expanduser()
    return tuple(value) if isinstance(value, list) else value


def _build(config_class: type, values: dict[str, Any]) -> Any:
    missing = [field for field in fields(config_class) if field.required and field.name not in values]
    if missing:
        names = ", ".join(field.name.upper() if field.opt.positional else field.flag for field in missing)
        raise DinotoolsError(f"missing {names}", remedy="Add it, or see --help.")
    return config_class(**values)


def perform(command_path: str, target: str, config: Any, *, as_json: bool = False) -> None:
    """Runs the function of a command and shows what it returns.

    Args:
        command_path: such as ``dinotools knn``.
        target: ``package.module:function``.
        config: its options.
        as_json: print JSON in place of a table.

    Raises:
        RunFailed: the result, which has been shown, says that it is one.
    """
    started = time.monotonic()
    module, function = target.split(":")
    result = getattr(importlib.import_module(module), function)(config)
    _present(command_path, result, config, time.monotonic() - started, as_json=as_json)
    if result.failure is not None:
        raise RunFailed(result.failure)


def _submit(command_path: str, target: str, config: Any, *, as_json: bool) -> None:
    """Has Slurm perform the command; queued again, it finds its --out claimed, and goes on with what is in it."""
    here = {"slurm": False, "nodes": 1, "partition": None, "slurm_options": ()}
    job = dataclasses.replace(config, resume=True, **here)
    submission = slurm.Submission.of(config)
    if not config.resume:
        claim(config.out, files.dump(job), remedy="Choose another --out, or add --resume to go on with the run in it.")
    result = slurm.submit(submission, perform, command_path, target, job)
    made = document(command_path, result, files.as_document(config), 0.0)
    if as_json:
        typer.echo(json.dumps(made))
    else:
        print_result(result, console.results)


def _present(command_path: str, result: Result, config: Any, wall_time_s: float, *, as_json: bool) -> None:
    """Prints the table or the JSON document, then leaves results.json in --out: a full disk costs no number."""
    if not distributed.is_main():
        return
    made = document(command_path, result, files.as_document(config), wall_time_s)
    if as_json:
        typer.echo(json.dumps(made))
    else:
        print_result(result, console.results)
    out = getattr(config, "out", None)
    if out is not None and not getattr(config, "dry_run", False):
        write_json(out / "results.json", made)


def _parameter(field: Field) -> inspect.Parameter:
    """The Typer parameter of an option; tuples are one word such as 10,20."""
    if field.opt.positional:
        argument = typer.Argument(help=field.opt.help, show_default=False)
        # the last one may be a tuple, which takes all the words that are left
        kind = list[get_args(field.type)[0]] if get_origin(field.type) is tuple else field.type  # type: ignore[misc]
        return _keyword(field.name, None, kind, argument)
    default = None if field.required else field.default
    # every switch has both forms: what a file or preset turns on, the command line can turn off
    flag = f"{field.flag}/--no-{field.flag[2:]}" if field.type in (bool, bool | None) else field.flag
    extra: dict[str, Any] = {"help": field.opt.help, "rich_help_panel": field.opt.panel, "show_default": _shown(field)}
    if get_origin(field.type) is tuple:
        extra |= {"parser": lambda text: files.coerce(field.type, text), "metavar": "LIST"}
        return _keyword(field.name, default, object, typer.Option(flag, **extra))
    return _keyword(field.name, default, field.type, typer.Option(flag, **extra))


def _shown(field: Field) -> str | bool:
    """The default as --help shows it; True leaves that to Typer, and nothing is shown where there is none."""
    if field.required:
        return "required"
    if field.default in (None, ()):
        return False
    return ",".join(map(str, field.default)) if isinstance(field.default, tuple) else True


def _common_parameters(presets: list[str]) -> list[inspect.Parameter]:
    def option(flag: str, help_text: str) -> Any:
        return typer.Option(flag, help=help_text, rich_help_panel=COMMON)

    parameters = [
        _keyword("config", None, Path | None, option("--config", "TOML file of options; flags win over it")),
        _keyword("json", False, bool, option("--json", "print the result as one line of JSON, without a table")),
    ]
    if presets:
        names = Literal[tuple(presets)]  # type: ignore[valid-type]
        parameters.insert(
            0, _keyword("preset", None, names, option("--preset", "a set of options that ships with dinotools"))
        )
    return parameters


def _keyword(name: str, default: Any, kind: Any, typer_info: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, typer_info]
    )


def run_app(app: Callable[[], None], *, debug: bool) -> int:
    """Runs the app and turns what went wrong into one line and an exit code.

    Returns:
        0; 2 for bad input; 1 for a failed run; 75 for one that saved and asks to be started again; 130 after Ctrl-C.
    """
    try:
        app()
    except DinotoolsError as error:
        if distributed.speaks(error):
            console.messages.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        if debug:
            raise
        # of interrupted ranks one gives the code: launchers kill the others as soon as one has failed
        return 0 if isinstance(error, Interrupted) and not distributed.is_main() else error.exit_code
    except KeyboardInterrupt:
        if distributed.is_main():
            console.messages.print("interrupted")
        return 130
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Exception as error:
        if debug:
            raise
        if not distributed.speaks(error):
            return 1
        console.messages.print(
            f"[bold red]error:[/] {type(error).__name__}: {escape(str(error))}. Add --debug to see the traceback.",
            highlight=False,
            soft_wrap=True,
        )
        return 1
    return 0
