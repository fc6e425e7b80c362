"""The recipes: a shell script for every table and figure, listed by its header, shown, and run by this installation.

    dinotools recipes list
    dinotools recipes show table3
    dinotools recipes run table3 --smoke --out results

The scripts run without these commands too: ``recipes/table3.sh DATA OUT``. ``recipes/recipe.sh`` says what their header
and their environment are.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from dinotools.configs.files import shipped
from dinotools.configs.recipes import RecipesListConfig, RecipesRunConfig, RecipesShowConfig
from dinotools.runtime.errors import DinotoolsError, RunFailed
from dinotools.runtime.results import Result

SHARED = "recipe.sh"  # what all recipes source
KINDS = ("table", "fig")  # that the paper numbers
REQUIRED = ("Expected", "Tolerance", "Data", "Hardware", "Time")
OPTIONAL = ("Source", "Notes")
ENTRY = re.compile(r"# ([A-Z][a-z]+)(?: {2,}(.*))?")  # "# Key   text"; a further line of the text is indented
INDENT = 2  # spaces after the # of such a line, at least
KEPT_CODES = (2, 75)  # bad input, and a training that saved and asks to be started again, mean the same of a recipe
INTERRUPTED = (130, -signal.SIGINT)
HANDED_ON = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@dataclass(frozen=True)
class Recipe:
    """A script and its header.

    Args:
        name: of the script, without .sh.
        script: the file.
        title: what it reproduces.
        header: key -> text, of which lines end where those of the header do.
    """

    name: str
    script: Path
    title: str
    header: Mapping[str, str]

    def in_a_line(self, key: str) -> str:
        """A text of the header without its line ends."""
        return " ".join(self.header[key].split())

    def in_short(self, key: str) -> str:
        """The first clause of a text of the header; an estimate is still called one."""
        first = re.split(r"[;.] (?![^(]*\))", self.in_a_line(key))[0]  # not within brackets
        return re.sub(r"\(estimates?\b[^)]*\)", "(estimate)", first)


def list_recipes(config: RecipesListConfig) -> Result:
    """All recipes by name.

    Raises:
        DinotoolsError: a header is incomplete.
    """
    found = [read_recipe(script) for script in scripts().values()]
    rows = [
        {"name": recipe.name, "what": recipe.title} | {key.lower(): recipe.in_short(key) for key in ("Data", "Time")}
        for recipe in found
    ]
    note = "See one with `dinotools recipes show NAME`; try it in minutes with `recipes run NAME --smoke --out DIR`."
    metrics = {recipe.name: {"title": recipe.title, **lower(recipe.header)} for recipe in found}
    return Result(f"Recipes in {shipped('recipes')}", rows, metrics, notes=(note,))


def show(config: RecipesShowConfig) -> Result:
    """The header of a recipe, and the commands that it runs in a folder DATA, with results in a folder OUT.

    Raises:
        DinotoolsError: there is no such recipe, its header is incomplete, or there is no bash.
    """
    recipe = find_recipe(config.name)
    commands = dry_run(recipe, {"SMOKE": "", "ROWS": ""})
    return Result(
        title=f"{recipe.name} · {recipe.title}",
        rows=[
            {"": key, recipe.name: text if key == "Expected" else recipe.in_a_line(key)}  # which has columns
            for key, text in recipe.header.items()
        ],
        metrics={"name": recipe.name, "title": recipe.title, **lower(recipe.header), "commands": commands},
        details={"script": str(recipe.script)},
        notes=(f"{recipe.script} DATA OUT runs:", *commands),
    )


def run(config: RecipesRunConfig) -> Result:
    """Runs a recipe; what its commands print comes as they print it. Repeated, it does what is left to do.

    Raises:
        DinotoolsError: there is no such recipe or row, no data, or no bash.
        RunFailed: a command of it failed.
        KeyboardInterrupt: it was interrupted.
    """
    recipe = find_recipe(config.name)
    chosen = {"SMOKE": "1" if config.smoke else "", "ROWS": " ".join(config.rows)}
    data = choose_data(config, recipe)
    commands = dry_run(recipe, chosen, data, config.out)  # refuses unknown rows before the work
    if config.dry_run:
        return Result(f"{recipe.name} · not run", [], {"commands": commands}, notes=tuple(commands))
    environment = os.environ | chosen | {"DRY_RUN": "", "DINOTOOLS_PYTHON": sys.executable}
    code = wait_for([find_bash(), str(recipe.script), str(data), str(config.out)], environment)
    if code in INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        raise RecipeFailed(recipe.name, code)
    note = f"Results and report are in {config.out}; `dinotools report {config.out}` makes the report anew."
    return Result(f"{recipe.name} · done", [], {"recipe": recipe.name, "commands": commands}, notes=(note,))


class RecipeFailed(RunFailed):
    """A command of a recipe failed, and has said why.

    Args:
        name: of the recipe.
        code: its exit code; 2 and 75 are this error's as well.
    """

    def __init__(self, name: str, code: int) -> None:
        self.exit_code = code if code in KEPT_CODES else RunFailed.exit_code
        super().__init__(
            f"ended with exit code {code}", f"recipe {name}", "The last messages say why; repeated, it goes on."
        )


def scripts() -> dict[str, Path]:
    """The recipes by name: tables and figures by number, then the others."""
    found = {path.stem: path for path in shipped("recipes").glob("*.sh") if path.name != SHARED}

    def place(name: str) -> tuple[int, int, str]:
        numbered = re.fullmatch(r"(table|fig)(\d+)", name)
        return (KINDS.index(numbered[1]), int(numbered[2]), name) if numbered else (len(KINDS), 0, name)

    return {name: found[name] for name in sorted(found, key=place)}


def find_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        DinotoolsError: there is none, or its header is incomplete.
    """
    known = scripts()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=2)
        remedy = f"Did you mean {' or '.join(close)}?" if close else f"There are: {', '.join(known)}."
        raise DinotoolsError("there is no such recipe", name, remedy)
    return read_recipe(known[name])


def read_recipe(script: Path) -> Recipe:
    """A recipe by its header: after the first line, comments up to the first that is no comment or is for shellcheck.

    Raises:
        DinotoolsError: it has no title, or a key is missing, empty or unknown.
    """
    lines = script.read_text(encoding="utf-8").splitlines()[1:]
    title = lines[0].removeprefix("# ") if lines and lines[0].startswith("# ") else ""
    header: dict[str, str] = {}
    key = ""
    for line in lines[1:]:
        if not line.startswith("#") or line.startswith("# shellcheck"):
            break
        if entry := ENTRY.fullmatch(line):
            key = entry[1]
            header[key] = entry[2] or ""
        elif key and line.startswith("#" + " " * INDENT):
            header[key] += "\n" + line[1:]
        elif line != "#":
            raise DinotoolsError(f"its header has a line that is no key and not indented: {line}", script)
    header = {key: _dedented(text) for key, text in header.items()}
    missing = [key for key in REQUIRED if not header.get(key)]
    unknown = [key for key in header if key not in (*REQUIRED, *OPTIONAL)]
    if not title or missing or unknown:
        wrong = [] if title else ["lacks a title"]
        wrong += [f"lacks {key}" for key in missing] + [f"has {key}" for key in unknown]
        keys = f"{', '.join(REQUIRED)}, and perhaps {' and '.join(OPTIONAL)}"
        raise DinotoolsError(f"its header {', '.join(wrong)}", script, f"After the title come {keys}.")
    return Recipe(script.stem, script, title, header)


def _dedented(text: str) -> str:
    """The text with its further lines moved to the left, as far as all of them can be."""
    first, *further = text.split("\n")
    spaces = min((len(line) - len(line.lstrip()) for line in further if line.strip()), default=0)
    return "\n".join([first, *(line[spaces:] for line in further)]).rstrip()


def lower(header: Mapping[str, str]) -> dict[str, str]:
    """The header with the keys of JSON."""
    return {key.lower(): text for key, text in header.items()}


def choose_data(config: RecipesRunConfig, recipe: Recipe) -> Path:
    """The folder of the data sets.

    Raises:
        DinotoolsError: it is needed, and not named.
    """
    if config.data is not None:
        return config.data
    if config.smoke or recipe.header["Data"].startswith("none"):
        return config.out / "data"
    if config.dry_run:
        return Path("DATA")
    remedy = f"`dinotools data info` says where they come from: {recipe.in_a_line('Data')}. Or add --smoke."
    raise DinotoolsError("the data sets must be in a folder", "--data", remedy)


def find_bash() -> str:
    """The shell of the recipes.

    Raises:
        DinotoolsError: there is none.
    """
    bash = shutil.which("bash")
    if bash is None:
        raise DinotoolsError("recipes are bash scripts, and there is no bash", "PATH", "On Windows, use WSL.")
    return bash


def dry_run(recipe: Recipe, chosen: Mapping[str, str], data: Path = Path("DATA"), out: Path = Path("OUT")) -> list[str]:
    """The commands of a recipe, without running them.

    Args:
        recipe: which.
        chosen: SMOKE and ROWS.
        data: folder of the data sets, which need not be there.
        out: folder of the results.

    Raises:
        DinotoolsError: the script refuses, such as a row that it has not.
    """
    command = [find_bash(), str(recipe.script), str(data), str(out)]
    environment = os.environ | chosen | {"DRY_RUN": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise DinotoolsError(said.rstrip("."), f"recipe {recipe.name}", "`dinotools recipes show` has its commands.")
    return done.stdout.splitlines()


def wait_for(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Runs a program and all that it starts in a session of their own, and hands signals on to them.

    Returns:
        Its exit code, as of ``Popen``.
    """
    with subprocess.Popen(command, env=environment, start_new_session=True) as process, _handing_on(process.pid):
        return process.wait()


@contextmanager
def _handing_on(group: int) -> Iterator[None]:
    """Within, signals go to a group of processes, which end by themselves: a training saves first."""

    def hand_on(number: int, frame: FrameType | None) -> None:
        os.killpg(group, number)

    before = {number: signal.signal(number, hand_on) for number in HANDED_ON}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
