"""The house keeps its shape: arrows, sizes, names."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "dinotools").rglob("*.py"))
GRAB_BAGS = {"utils", "util", "common", "helpers", "helper", "misc"}


def test_import_contracts_hold():
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_outgrows_its_room(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300
    assert path.stem not in GRAB_BAGS


def test_the_version_stands_in_one_place():
    import dinotools

    assert f'"{dinotools.__version__}"' not in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f"[{dinotools.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
