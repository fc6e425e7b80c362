"""What README and docs say holds: links lead somewhere, numbers and messages agree, every command is understood.

``test_docs_executed.py`` runs the commands as well.
"""

import dataclasses
import json
import re
import shlex
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest
import typer
import typer.main
from typer.testing import CliRunner

from dinotools import options, recipes
from dinotools.cli import app
from dinotools.configs import files
from dinotools.configs.attention import AttentionConfig
from dinotools.configs.classification import KnnConfig
from dinotools.configs.copydays import CopydaysConfig
from dinotools.configs.embedding import EmbedConfig
from dinotools.configs.features import FeaturesConfig
from dinotools.configs.finetuning import FinetuneConfig
from dinotools.configs.linear import LinearConfig
from dinotools.configs.lowshot import LowshotConfig
from dinotools.configs.photos import DuplicatesConfig
from dinotools.configs.pretraining import PretrainConfig
from dinotools.configs.retrieval import RetrievalConfig
from dinotools.configs.video import DavisConfig
from dinotools.data.manifests import manifest
from dinotools.data.manifests.catalogue import WAYS
from dinotools.pretraining.checks import check_config
from dinotools.reporting import paper
from tests.pages import PAGES, ROOT, Page

OTHERS = {"pip", "docker", "git", "pytest", "mkdocs", "jupyter", "export"}  # not ours to test
PROTOCOLS = {
    "attention": AttentionConfig,
    "copydays": CopydaysConfig,
    "davis": DavisConfig,
    "embeddings": EmbedConfig,
    "features": FeaturesConfig,
    "finetuning": FinetuneConfig,
    "knn": KnnConfig,
    "linear": LinearConfig,
    "lowshot": LowshotConfig,
    "photos": DuplicatesConfig,
    "pretraining": PretrainConfig,
    "retrieval": RetrievalConfig,
}
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@pages
def test_every_command_is_understood(page, monkeypatch):
    taken = []
    alone = SimpleNamespace(world_size=lambda: 2, is_main=lambda: True)  # commands for several processes come here too
    monkeypatch.setattr(options, "distributed", alone)
    monkeypatch.setattr(options, "perform", lambda path, target, config, **_: taken.append(config))
    monkeypatch.setattr(options, "_submit", lambda path, target, config, **_: taken.append(config))
    read = files.read_values
    monkeypatch.setattr(options.files, "read_values", lambda kind, path: read(kind, path) if path.is_file() else {})
    group = typer.main.get_command(app)
    for words in page.commands:
        group.main(args=words, prog_name="dinotools", standalone_mode=False)
        assert len(taken) == 1 or {"--help", "--version"} & set(words), shlex.join(words)
        for config in taken:
            if isinstance(config, PretrainConfig):
                check_config(config)
        taken.clear()


@pages
def test_what_is_not_ours_is_known(page):
    scripts = {f"recipes/{name}.sh" for name in recipes.scripts()}
    assert {words[0] for words in page.lines} <= {"dinotools", *OTHERS, *scripts}


@pages
def test_python_compiles(page):
    for block in page.blocks:
        if block.language == "python":
            compile(block.text, str(page.path), "exec")


@pages
def test_fences_say_what_they_hold(page):
    languages = {block.language for block in page.blocks}
    assert languages <= {"bash", "text", "python", "json", "toml", "yaml"}


@pages
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.prose):
        if re.match(r"[a-z]+:", target):
            continue
        place, _, anchor = target.partition("#")
        other = (page.path.parent / place) if place else page.path
        assert other.exists(), target
        if anchor and other.suffix == ".md" and not anchor.startswith("dinotools."):
            assert anchor in Page(other).anchors, target


@pages
def test_extras_and_recipes_that_are_named_exist(page):
    extras = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    text = page.path.read_text(encoding="utf-8")
    named = {word for words in re.findall(r"dinotools\[([\w,]+)\]|\.\[([\w,]+)\]", text) for word in words}
    named |= set(re.findall(r"extra `(\w+)`", text))
    assert {word for words in named - {""} for word in words.split(",")} <= extras
    scripts = set(re.findall(r"recipes/([\w-]+)\.sh", text)) | set(re.findall(r"recipes (?:show|run) ([\w-]+)", text))
    assert scripts <= {*recipes.scripts(), "recipe", "NAME"}


def test_the_site_builds(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "protocols" / "knn.html").is_file()


def rows_of(text: str) -> list[list[str]]:
    """The cells of every row of every table of a page."""
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines() if line[:1] == "|"]


@pytest.mark.parametrize(
    ("page", "table", "columns", "networks"),
    [
        ("knn", "table2", ["k-NN"], 5),
        ("linear", "table2", ["linear"], 5),
        ("retrieval", "table3", ["ROx M", "ROx H", "RPar M", "RPar H"], 3),
        ("copydays", "table4", ["mAP"], 2),
        ("davis", "table5", ["J&F", "J", "F"], 4),
        ("attention", "fig4", ["Jaccard, 60 % of the attention"], 2),
    ],
)
def test_published_numbers_of_released_networks(page, table, columns, networks):
    rows = {row.name: row.values for row in paper.tables()[table].rows}
    found = 0
    for cells in rows_of((ROOT / "docs" / "protocols" / f"{page}.md").read_text(encoding="utf-8")):
        named = re.findall(r"dino_\w+", cells[1]) if len(cells) == 2 + len(columns) else []
        if named and re.fullmatch(r"[\d.]+", cells[-1]):
            assert [float(cell) for cell in cells[2:]] == [rows[named[0]][column] for column in columns]
            found += 1
    assert found == networks


def spelled(default: object) -> str:
    """A default as the tables of options spell it."""
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return f"{default:g}" if isinstance(default, float) else str(default)


def test_defaults_of_options_are_those_of_the_configs():
    compared = 0
    for name, config in PROTOCOLS.items():
        page = next(page for page in PAGES if page.name == f"docs/protocols/{name}.md")
        defaults = {field.name: field.default for field in dataclasses.fields(config)}
        for cells in rows_of(page.text.partition("## Options that matter")[2].partition("\n## ")[0]):
            flags = re.findall(r"`--([\w-]+)`", cells[0])
            told = [cell.strip("`") for cell in cells[1].split(", ")]
            pairs = zip(flags, told * len(flags) if len(told) == 1 else told, strict=False)
            for flag, value in pairs:
                default = defaults.get(flag.replace("-", "_"))
                if default not in (None, ()) and re.fullmatch(r"[\w.,+-]+", value):
                    assert value == spelled(default), f"{page.name}: --{flag}"
                    compared += 1
    assert compared > 50


def test_facts_about_data_sets_are_those_of_the_manifests():
    lines = (ROOT / "docs" / "data.md").read_text(encoding="utf-8").splitlines()
    for name in manifest.names():
        one = manifest.read(name)
        images = f"{sum(split.images for split in one.splits):,}" if one.splits else ""
        assert f"| `{name}` | {one.title} | {images} | {WAYS[one.access]} | {one.licence} |" in lines
        assert f"### {name}" in lines and one.about in lines
        missing = {f"- {problem}" for problem in one.problems} - set(lines)
        assert not missing
    listed = {row[0].strip("`") for row in rows_of("\n".join(lines)) if len(row) == 5}
    assert listed == {*manifest.names(), "name", "---"}


def test_every_recipe_is_listed():
    rows = rows_of((ROOT / "docs" / "recipes.md").read_text(encoding="utf-8"))
    assert {row[0].strip("`") for row in rows} - {"recipe", "---"} == set(recipes.scripts())


def test_troubleshooting_quotes_what_is_printed():
    """Messages stand in inline code in headings, with ... for what changes; each part must be somewhere in the code."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "dinotools").rglob("*.py"))
    plain = re.sub(r"\"\s*\n\s*f?\"", "", code)  # strings that go on in the next line
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = [message for line in text.splitlines() if line[:3] == "###" for message in re.findall(r"`([^`]+)`", line)]
    assert len(quoted) > 20
    parts = [part for message in quoted for piece in message.split("...") if (part := piece.strip(" :;,()"))]
    assert [part for part in parts if part not in plain] == []


def test_the_protocol_that_is_added_as_an_example_works(monkeypatch, tmp_path):
    """Blocks of python in house.md that open with the name of a file, as modules of the package."""
    house = next(page for page in PAGES if page.name == "docs/house.md")
    roof = typer.Typer()
    roof.callback()(lambda: None)  # commands in place of one
    for block in house.blocks:
        if block.language == "python":
            name = block.text.splitlines()[0].removeprefix("# ").removesuffix(".py").replace("/", ".")
            module = ModuleType(name)
            vars(module).update(app=roof, command=options.command)  # which cli.py has
            if name != "dinotools.cli":
                monkeypatch.setitem(sys.modules, name, module)
            exec(compile(block.text, name, "exec"), vars(module))
    words = "nearest-mean --ckpt dino_micro_cifar10 --data digits --resize-size 32 --crop-size 32 --workers 0 --out"
    done = CliRunner().invoke(roof, [*words.split(), str(tmp_path / "out")], catch_exceptions=False)
    assert done.exit_code == 0 and "nearest mean" in done.output
    assert json.loads((tmp_path / "out" / "results.json").read_text())["metrics"]["top1"] > 50  # of ten classes
    assert (tmp_path / "out" / "config.toml").is_file()
