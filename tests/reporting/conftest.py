"""A browser for the pages, where one is installed."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def browse(tmp_path: Path) -> Callable[..., tuple[str, list[str]]]:
    """browse(page, script): the document after its scripts and one more have run, and what the console says."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here")

    def browsed(page: str, script: str = "") -> tuple[str, list[str]]:
        file = tmp_path / "page.html"
        file.write_text(page.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
        flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --dump-dom "
        flags += "--enable-logging=stderr --virtual-time-budget=2000 --window-size=900,700"
        command = [chromium, *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", file.as_uri()]
        done = subprocess.run(command, check=True, capture_output=True, timeout=60)
        complaints = [line for line in done.stderr.decode(errors="replace").splitlines() if "CONSOLE" in line]
        return done.stdout.decode(), complaints

    return browsed
