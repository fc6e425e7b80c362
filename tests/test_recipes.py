"""Recipes: headers, commands that the CLI takes, runs in small; presets and ablations are options that it takes."""

import functools
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import typer.main

from dinotools import options, recipes
from dinotools.cli import app
from dinotools.configs import files
from dinotools.configs.data_sets import DataSampleConfig
from dinotools.configs.option import fields
from dinotools.configs.pretraining import PretrainConfig
from dinotools.configs.recipes import RecipesListConfig, RecipesRunConfig, RecipesShowConfig
from dinotools.data.miniatures.command import run as make_miniature
from dinotools.evaluation.finetuning import checks as finetuning
from dinotools.evaluation.linear import probe
from dinotools.pretraining.checks import check_config
from dinotools.reporting import paper as published
from dinotools.reproduction.documents import differences
from dinotools.runtime.errors import DinotoolsError, RunFailed
from tests.command_line import forked

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "recipes"
SHORT = "--epochs 1 --warmup-epochs 0 --batch-size 12 --knn-every 0 --workers 0 --out-dim 16"


NAMES = list(recipes.scripts())
CHECKS = {"pretrain": check_config, "finetune": finetuning.check_config, "linear": probe.check_config}
PROMISED = "table1 table2 table3 table4 table5 fig4 table6 table7 table8 table9 fig5 fig6 fig7 table10 table11 table12"


def bash(name: str, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    command = [RECIPES / f"{name}.sh", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=variables)


@functools.cache
def dry(name: str, **environment: str) -> list[list[str]]:
    """The commands of a recipe in words, without the first."""
    done = bash(name, "DATA", "OUT", DRY_RUN="1", **environment)
    assert done.returncode == 0, done.stderr
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    assert lines and all(line[0] == "dinotools" for line in lines)
    return [line[1:] for line in lines]


def paper_rows(commands: list[list[str]]) -> set[str]:
    return {words[words.index("--paper-row") + 1] for words in commands if "--paper-row" in words}


@pytest.fixture
def accepted(monkeypatch):
    """Parses words as the command line does, and gives the command and its options, which nobody carries out."""
    group, taken = typer.main.get_command(app), []
    monkeypatch.setattr(options, "perform", lambda path, target, config, **_: taken.append(config))
    monkeypatch.setattr(options.launcher, "launch", lambda *_: 0)

    def parse(words: list[str]) -> object:
        group.main(args=words, prog_name="dinotools", standalone_mode=False)
        return taken[-1]

    return parse


def test_there_is_a_recipe_for_every_table_and_figure():
    assert set(PROMISED.split()) <= set(NAMES)
    assert NAMES.index("table2") < NAMES.index("table10")


def test_scripts_pass_shellcheck():
    scripts = [str(path) for path in recipes.scripts().values()] + [str(RECIPES / recipes.SHARED)]
    command = [Path(sys.executable).parent / "shellcheck", "-x", "--extended-analysis=false", *scripts]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert all(os.access(path, os.X_OK) for path in recipes.scripts().values())


@pytest.mark.parametrize("name", NAMES)
def test_headers_are_complete_and_have_the_published_numbers(name):
    recipe = recipes.find_recipe(name)  # raises where something is missing
    table = files.PACKAGE / "reporting" / "paper" / f"{name}.toml"
    if not table.is_file():
        return
    paper, commands = files.tomllib.loads(table.read_text("utf-8")), dry(name)
    lines = [" ".join(words) for words in commands]
    columns = {  # that the recipe measures
        column["name"]
        for column in paper["columns"]
        if "command" in column and any(line.startswith(column["command"] + " ") for line in lines)
    }
    rows = {row["name"]: row.get("values", {}) for row in paper["rows"]}
    words = " ".join(recipe.header.values())
    said = {float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*(?:\.\d+)?", words)}
    measured = {row.partition("/")[2] for row in paper_rows(commands)}
    assert measured <= rows.keys()
    for row in measured:
        assert {float(value) for column, value in rows[row].items() if column in columns} <= said, row


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("smoke", ["", "1"])
def test_commands_are_accepted(name, smoke, accepted):
    commands = dry(name, SMOKE=smoke)
    assert commands[-1] == ["report", "OUT", "--out", "OUT/report"]
    for words in commands:
        config = accepted(words)
        CHECKS.get(words[0], lambda config: None)(config)


def without(words: list[str], option: str) -> list[str]:
    """The words of a command without an option and its value."""
    i = words.index(option) if option in words else len(words)
    return words[:i] + words[i + 2 :]


def test_only_the_same_command_goes_to_the_same_folder():
    """Of any recipes, since OUT may be the same: but for the row, for which any that is the same run will do."""
    going = {}
    for words in (words for name in NAMES for words in dry(name) if "--out" in words):
        command = without(words, "--paper-row")
        assert going.setdefault(words[words.index("--out") + 1], command) == command


def runs_of_rows() -> dict[str, str]:
    """The options of the pre-training of every row that has one, as a text."""
    found = {}
    for words in (words for name in NAMES for words in dry(name) if words[0] == "pretrain" and "--paper-row" in words):
        found[words[words.index("--paper-row") + 1]] = shlex.join(words[1 : words.index("--data")])
    return found


def test_rows_are_the_same_run_where_their_options_are_the_same():
    tied, equal = {}, {}
    for row, words in runs_of_rows().items():
        tied.setdefault(published.row(row).run, set()).add(row)
        equal.setdefault(str(config_of(words)), set()).add(row)
    assert sorted(map(sorted, tied.values())) == sorted(map(sorted, equal.values()))
    assert {row.path for row in published.rows().values() if row.same_as} <= runs_of_rows().keys()


def test_the_runs_meet_the_conditions_of_their_rows():
    for name, words in runs_of_rows().items():
        row = published.row(name)
        wanted = {**published.tables()[row.table].training, **row.training}
        wanted.pop("n_images", None)
        told = ["teacher temp is 0.001, not 0"] if name == "teacher-temp/0" else []  # by which nothing can be divided
        assert differences(files.as_document(config_of(words)), wanted) == told, name


def test_every_toml_beside_the_scripts_is_an_option_of_some_command():
    used = {
        Path(words[words.index("--config") + 1])
        for name in NAMES
        for words in dry(name, SMOKE="1")
        if "--config" in words
    }
    used |= {Path(words[words.index("--config") + 1]) for name in NAMES for words in dry(name) if "--config" in words}
    found = {path for path in RECIPES.rglob("*.toml") if "presets" not in path.parts}
    assert found == used  # and test_commands_are_accepted reads them


def test_gpus_and_rows_reach_the_commands(accepted):
    commands = dry("table2", GPUS="8", ROWS="dino_vits8 vanilla")
    assert paper_rows(commands) == {"table2/dino_vits8", "table2/vanilla"}
    assert {words[0]: words[words.index("--gpus") + 1] for words in commands if "--gpus" in words} == {
        "knn": "8",
        "pretrain": "8",
    }
    assert all("--cache" in words for words in commands if words[0] == "knn")  # several processes need it


def test_a_row_that_there_is_not_is_refused():
    done = bash("table5", "DATA", "OUT", DRY_RUN="1", ROWS="dino_vits61")
    assert done.returncode == 2
    assert "no row dino_vits61" in done.stderr
    assert "dino_vitb8" in done.stderr


def test_a_miniature_is_not_taken_for_the_data(tmp_path):
    make_miniature(DataSampleConfig(name="davis2017", to=tmp_path / "data" / "davis2017"))
    done = bash("table5", tmp_path / "data", tmp_path / "out")
    assert done.returncode == 2
    assert "is a miniature" in done.stderr


def test_data_that_are_not_there_are_named(tmp_path):
    done = bash("table5", tmp_path / "data", tmp_path / "out")
    assert done.returncode == 2
    assert "data info davis2017" in done.stderr
    assert not (tmp_path / "out").exists()


CLIENT = """#!{python} -SE
import json, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    with server.makefile("rw") as file:
        print(json.dumps(sys.argv[3:]), file=file, flush=True)
        code, out, err = json.loads(file.readline())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""


def bash_for_real(name: str, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """As ``bash``; every `dinotools` of the script is a copy of this process, which has imported things already."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        client = Path(folder) / "python"
        client.write_text(CLIENT.format(python=sys.executable, address=f"{folder}/socket"))
        client.chmod(0o755)
        server.bind(f"{folder}/socket")
        server.listen()
        server.settimeout(0.05)
        with ThreadPoolExecutor(1) as pool:
            script = pool.submit(bash, name, *words, DINOTOOLS_PYTHON=str(client), **environment)
            while not script.done():
                with suppress(TimeoutError):
                    connection, _ = server.accept()
                    with connection, connection.makefile("rw") as file:
                        done = forked(*json.loads(file.readline()))
                        print(json.dumps((done.returncode, done.stdout, done.stderr)), file=file, flush=True)
        return script.result()


def runs_twice(name: str, data: Path, out: Path, *words: str, **environment: str) -> Path:
    """Runs a recipe, and again, which does nothing; gives the folder of its results."""
    done = bash_for_real(name, data, out, *words, **environment)
    assert done.returncode == 0, done.stderr
    results = [path for path in out.rglob("results.json") if path.parent != out / "report"]
    found = {path: path.stat().st_mtime_ns for path in results}
    again = bash_for_real(name, data, out, *words, **environment)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("done before") >= len(found) > 0  # rows of the same options share a run
    assert {path: path.stat().st_mtime_ns for path in found} == found
    assert (out / "report" / "index.html").is_file()
    return out / name


def test_small_images_runs_and_runs_again(image_folder, tmp_path):
    results = runs_twice("small_images", image_folder, tmp_path / "run", *SHORT.split()) / "knn" / "results.json"
    results = json.loads(results.read_text())
    assert {"k10", "k20"} <= set(results["metrics"])
    assert results["details"]["checkpoint"]["arch"] == "vit_micro"


FAST = ("table1", "table5")  # and small_images, above


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in NAMES])
def test_recipes_run_in_small(name, tmp_path):
    runs_twice(name, tmp_path / "data", tmp_path / "out", SMOKE="1")


def test_they_are_listed():
    rows = {row["name"]: row for row in recipes.list_recipes(RecipesListConfig()).rows}
    assert list(rows) == NAMES
    assert rows["table5"]["data"] == "davis2017"
    assert "estimate" in rows["table5"]["time"]


def test_one_is_shown_with_its_commands(accepted):
    result = recipes.show(RecipesShowConfig(name="table4"))
    assert "81.7" in result.metrics["expected"]
    assert result.metrics["commands"] == [shlex.join(["dinotools", *words]) for words in dry("table4")]


def test_unknown_recipes_get_a_suggestion():
    with pytest.raises(DinotoolsError, match="Did you mean table4"):
        recipes.show(RecipesShowConfig(name="tabel4"))


HEADER = "# Title\n#\n# Expected   1\n# Tolerance  none\n# Data       none\n# Hardware   any\n# Time       1 s\n"


@pytest.mark.parametrize(
    ("header", "wrong"),
    [
        (HEADER.replace("# Data       none\n", ""), "lacks Data"),
        (HEADER.replace("# Tolerance  none", "# Tolerance"), "lacks Tolerance"),
        (HEADER.replace("# Title\n", ""), "lacks a title"),
        (HEADER + "# Colour     red\n", "has Colour"),
        (HEADER + "# forgotten to indent\n", "not indented"),
    ],
)
def test_incomplete_headers_are_refused(header, wrong, tmp_path):
    script = tmp_path / "x.sh"
    script.write_text("#!/usr/bin/env bash\n" + header + "true\n")
    with pytest.raises(DinotoolsError, match=wrong):
        recipes.read_recipe(script)


def test_texts_of_several_lines_keep_their_columns(tmp_path):
    script = tmp_path / "x.sh"
    script.write_text(
        "#!/usr/bin/env bash\n" + HEADER.replace("   1\n", "   a\n#            b  1\n#              c\n") + "true\n"
    )
    assert recipes.read_recipe(script).header["Expected"] == "a\nb  1\n  c"


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A recipe of two commands, which are a Python program in place of dinotools; the second writes a file."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "recipe.sh").write_text((RECIPES / "recipe.sh").read_text())
    script = folder / "x.sh"
    script.write_text(
        f"#!/usr/bin/env bash\n{HEADER}" + 'source "$(dirname "$0")/recipe.sh"\ndinotools first\ndinotools second\n'
    )
    script.chmod(0o755)

    def write(program: str) -> None:
        (tmp_path / "program.py").write_text(program)
        (tmp_path / "python").write_text(f"#!/bin/sh\nexec {sys.executable} {tmp_path}/program.py $3\n")
        (tmp_path / "python").chmod(0o755)
        monkeypatch.setattr(recipes.sys, "executable", str(tmp_path / "python"))

    monkeypatch.setattr(recipes, "shipped", lambda name: folder)
    return write


@pytest.mark.parametrize(("code", "ours"), [(1, 1), (2, 2), (75, 75), (9, 1)])
def test_the_first_command_that_fails_ends_the_recipe(code, ours, stand_in, tmp_path):
    stand_in(f"import sys; open(r'{tmp_path}/' + sys.argv[1], 'w'); sys.exit({code})")
    with pytest.raises(RunFailed, match=f"recipe x: ended with exit code {code}") as failure:
        recipes.run(RecipesRunConfig(name="x", out=tmp_path / "out"))
    assert failure.value.exit_code == ours
    assert (tmp_path / "first").exists()
    assert not (tmp_path / "second").exists()


SAVES = """
import os, signal, sys, time
caught = []
signal.signal(signal.{signal}, lambda *_: caught.append(1))
open(r'{folder}/' + sys.argv[1], 'w')
os.kill({pid}, signal.{signal})
while not caught:
    time.sleep(0.01)
time.sleep(0.2)
open(r'{folder}/saved', 'w')
sys.exit({code})
"""


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 75), ("SIGINT", 75), ("SIGTERM", 0)])
def test_a_signal_reaches_the_command_and_nothing_follows(name, code, stand_in, tmp_path):
    stand_in(SAVES.format(signal=name, folder=tmp_path, pid=os.getpid(), code=code))
    before = signal.getsignal(getattr(signal, name))
    with pytest.raises(RunFailed) as failure:
        recipes.run(RecipesRunConfig(name="x", out=tmp_path / "out"))
    assert failure.value.exit_code == (code or 1)
    assert (tmp_path / "saved").exists()
    assert not (tmp_path / "second").exists()
    assert signal.getsignal(getattr(signal, name)) == before


@pytest.fixture
def heard():
    """Ctrl-C is not ignored, as it is by what a shell has put into the background, and by all that this starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_is_ctrl_c(stand_in, tmp_path, heard):
    stand_in(f"import os, signal, time; os.kill({os.getpid()}, signal.SIGINT); time.sleep(9)")
    with pytest.raises(KeyboardInterrupt):
        recipes.run(RecipesRunConfig(name="x", out=tmp_path / "out"))


def test_a_recipe_that_is_done_says_where_its_report_is(stand_in, tmp_path):
    stand_in("")
    assert (
        f"dinotools report {tmp_path / 'out'}" in recipes.run(RecipesRunConfig(name="x", out=tmp_path / "out")).notes[0]
    )


def test_it_asks_for_data_before_it_runs(tmp_path):
    with pytest.raises(DinotoolsError, match="davis2017"):
        recipes.run(RecipesRunConfig(name="table5", out=tmp_path))
    result = recipes.run(RecipesRunConfig(name="table5", out=tmp_path, smoke=True, dry_run=True))
    assert f"--data {tmp_path}/data/davis2017" in result.notes[1]


def test_without_bash_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(recipes.shutil, "which", lambda name: None)
    with pytest.raises(DinotoolsError, match="no bash"):
        recipes.run(RecipesRunConfig(name="table5", out=tmp_path, smoke=True))


PRESETS = files.preset_names("pretrain")
ABLATIONS = re.findall(r"\| `(--[^`]+)` \|", (ROOT / "docs" / "ablations.md").read_text(encoding="utf-8"))


def config_of(words: str) -> PretrainConfig:
    """The config of options as they are written on a command line, after a preset."""
    known = {field.flag: field for field in fields(PretrainConfig)}
    switches = {f"--no-{flag[2:]}": flag for flag, field in known.items() if field.type is bool}
    values: dict[str, object] = {"data": "images", "out": Path("run")}
    rest = words.split()[::-1]
    while rest:
        flag = rest.pop()
        if flag == "--preset":
            values |= files.read_values(PretrainConfig, files.preset_file("pretrain", rest.pop()))
        elif known[switches.get(flag, flag)].type is bool:
            values[known[switches.get(flag, flag)].name] = flag not in switches
        else:
            values[known[flag].name] = files.coerce(known[flag].type, rest.pop())
    return PretrainConfig(**values)


@pytest.mark.parametrize("name", PRESETS)
def test_pretraining_presets_are_accepted_and_say_where_they_come_from(name):
    check_config(config_of(f"--preset {name}"))
    assert files.preset_file("pretrain", name).read_text(encoding="utf-8").startswith("# ")


def test_every_promised_preset_is_there():
    promised = {"vanilla", "boosted-300", "boosted-800", "vitb16", "vits8", "vitb8", "resnet50", "no-multicrop"}
    assert promised | {"single-gpu", "small-data", "byol", "moco-v2", "swav", "digits"} <= set(PRESETS)


def test_the_authors_settings_without_multi_crop():
    config = config_of("--preset no-multicrop")
    assert config.crop_sizes == (224, 224)
    assert (config.clip_grad, config.min_lr, config.global_crops_scale) == (0.0, 1e-5, (0.14, 1.0))


def test_the_documented_ablations_are_those_of_the_recipes():
    runs = {
        shlex.join(words[1 : words.index("--data")])
        for name in NAMES
        if name not in ("small_images", "table2")  # which repeat no ablation
        for words in dry(name)
        if words[0] == "pretrain"
    }
    assert set(ABLATIONS) == runs


@pytest.mark.parametrize("words", sorted(set(ABLATIONS)))
def test_documented_ablations_are_accepted(words):
    check_config(config_of(words))


def test_ablations_change_what_they_name():
    assert len(ABLATIONS) >= 60
    found = {words: files.as_document(config_of(words)) for words in ABLATIONS}
    plain = found["--preset boosted-300"]
    changed = {words: {k for k in run if run[k] != plain.get(k)} for words, run in found.items()}
    assert changed["--preset boosted-300 --loss mse"] == {"loss"}
    assert changed["--preset boosted-300 --teacher student --force"] == {"teacher", "force"}


@pytest.mark.parametrize("words", [words for words in sorted(set(ABLATIONS)) if "--force" in words])
def test_force_is_written_only_where_it_is_needed(words):
    with pytest.raises(DinotoolsError):
        check_config(config_of(words.replace(" --force", "")))
