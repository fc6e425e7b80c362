"""The demonstration, shortened to an epoch: everything it promises is there and can be looked at."""

import base64
import json
import re
import shutil
import subprocess

import pytest
from PIL import Image

from dinotools import demo
from dinotools.configs.demo import DemoConfig
from dinotools.configs.files import preset_file
from dinotools.models import zoo
from dinotools.models.export.safetensors_file import write_backbone
from dinotools.models.vit import build_vit

PICTURES = ("curves.png", "attention.png", "photos.png")


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    short = tmp_path_factory.mktemp("preset") / "short.toml"
    text = re.sub(r"^epochs = \d+", "epochs = 1", preset_file("pretrain", "digits").read_text(), flags=re.MULTILINE)
    short.write_text(re.sub(r"^warmup_epochs = \d+", "warmup_epochs = 0", text, flags=re.MULTILINE))
    out = tmp_path_factory.mktemp("demo") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo.files, "preset_file", lambda command, name: short)
        if not (zoo.WEIGHTS / f"{zoo.SHIPPED}.safetensors").is_file():
            stand_in = tmp_path_factory.mktemp("weights")
            patch.setattr(zoo, "WEIGHTS", stand_in)
            write_backbone(
                stand_in / f"{zoo.SHIPPED}.safetensors", build_vit("vit_micro", 8, 32), {"arch": "vit_micro"}, half=True
            )
        return out, demo.run(DemoConfig(out=out, workers=0))


def test_it_compares_the_teacher_with_its_own_random_start(shown):
    out, result = shown
    before, after = result.rows
    log = [json.loads(line) for line in (out / "pretrain" / "log.jsonl").read_text().splitlines()]
    assert (before["epochs"], after["epochs"]) == (0, 1)
    assert before["k-NN top-1 %"] == log[0]["knn_teacher"]
    assert after["k-NN top-1 %"] == log[-1]["knn_teacher"]
    assert result.details["data"] == {"images": 1400, "skipped": []}


def test_pictures_and_page_are_there(shown):
    out, result = shown
    for name in PICTURES:
        assert min(Image.open(out / name).size) > 200
    page = (out / "index.html").read_text()
    assert f"{result.rows[1]['k-NN top-1 %']:.2f}" in page
    embedded = re.findall(r"data:image/png;base64,([^\"]+)", page)
    assert [base64.b64decode(data) for data in embedded] == [(out / name).read_bytes() for name in PICTURES]
    assert "http" not in page


def test_the_page_opens_in_a_browser(shown, tmp_path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here")
    picture = tmp_path / "page.png"
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --hide-scrollbars"
    target = [f"--user-data-dir={tmp_path}", "--window-size=900,1400", f"--screenshot={picture}"]
    page = (shown[0] / "index.html").as_uri()
    subprocess.run([chromium, *flags.split(), *target, page], check=True, capture_output=True, timeout=60)
    assert Image.open(picture).convert("L").getextrema()[0] < 100  # ink on the page
