"""A folder of manifests of one's own."""

from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w

from dinotools.data.manifests import catalogue, manifest
from tests.runtime.file_server import server as server  # a fixture

ABOUT = {
    "title": "A set",
    "about": "What it is.",
    "homepage": "https://example.org/set",
    "citation": "Somebody 2021",
    "licence": "CC BY 4.0",
    "terms": "cite it",
    "access": "open",
}


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a manifest: its keys beside those that every one has. It is then the only folder of manifests."""
    root = tmp_path / "shipped"
    (root / "data_manifests").mkdir(parents=True)
    (root / "recipes").mkdir()
    for module in (manifest, catalogue):
        monkeypatch.setattr(module, "shipped", lambda folder: root / folder)

    def write(name: str = "set", /, **keys) -> Path:
        path = root / "data_manifests" / f"{name}.toml"
        values = {key: value for key, value in (ABOUT | keys).items() if value is not None}
        path.write_text(tomli_w.dumps(values), encoding="utf-8")
        return path

    return write
