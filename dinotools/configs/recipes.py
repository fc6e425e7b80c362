"""Options of the commands about recipes: a shell script for every table and figure of the paper."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from dinotools.configs.option import Opt


@dataclass(frozen=True, kw_only=True)
class RecipesListConfig:
    """List the recipes: what each reproduces, the data it needs, hardware and time."""


@dataclass(frozen=True, kw_only=True)
class RecipesShowConfig:
    """Show a recipe: expected numbers, what it needs, and its commands."""

    name: Annotated[str, Opt("recipe, as `dinotools recipes list` calls it", positional=True)]


@dataclass(frozen=True, kw_only=True)
class RecipesRunConfig:
    """Run a recipe; repeated, it goes on where it stopped. The environment variable GPUS says how many it may use.

    For example: dinotools recipes run table3 --smoke --out results/table3
    """

    name: Annotated[str, Opt("recipe, as `dinotools recipes list` calls it", positional=True)]
    data: Annotated[
        Path | None, Opt("folder of the data sets, each under its name; with --smoke default: OUT/data", "Data")
    ] = None
    out: Annotated[Path, Opt("folder of the results", "Output")]
    smoke: Annotated[bool, Opt("the same steps on miniatures of the data and tiny networks, in minutes", "Run")] = False
    rows: Annotated[tuple[str, ...], Opt("only these rows of the table; default: all", "Run")] = ()
    dry_run: Annotated[bool, Opt("print the commands in place of running them", "Run")] = False
