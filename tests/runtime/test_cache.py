from pathlib import Path

import pytest

from dinotools.runtime.cache import cache_directory
from dinotools.runtime.errors import DinotoolsError


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"DINOTOOLS_CACHE": "own", "XDG_CACHE_HOME": "xdg"}, "own/a/b"),
        ({"XDG_CACHE_HOME": "xdg"}, "xdg/dinotools/a/b"),
        ({"DINOTOOLS_CACHE": "", "XDG_CACHE_HOME": ""}, "home/.cache/dinotools/a/b"),
        ({}, "home/.cache/dinotools/a/b"),
        ({"DINOTOOLS_CACHE": "~/mine"}, "home/mine/a/b"),
    ],
)
def test_where_the_cache_is(tmp_path, monkeypatch, variables, expected):
    for name in ("DINOTOOLS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    for name, value in variables.items():
        monkeypatch.setenv(name, value if value.startswith("~") or not value else str(tmp_path / value))
    assert cache_directory("a", "b") == tmp_path / expected
    assert (tmp_path / expected).is_dir()


def test_a_cache_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DINOTOOLS_CACHE", str(tmp_path / "file"))
    with pytest.raises(DinotoolsError, match="DINOTOOLS_CACHE"):
        cache_directory("datasets")
