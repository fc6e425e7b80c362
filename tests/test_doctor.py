"""What the doctor finds is what is there, and what it advises follows from it."""

import json
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from dinotools import doctor
from dinotools.configs.doctor import DoctorConfig
from tests.command_line import forked

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]


@pytest.fixture
def found(monkeypatch, tmp_path):
    """A machine without anything to complain about."""
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    return {
        "devices": {"cuda": [], "cuda_build": "13.0"},
        "faiss": {"packages": {"faiss-gpu": "1.15"}},
        "readers": {"workers": 8, "open_files": 4096, "shared_memory_gib": 8.0},
        "disk": {"results": "here", "results_free_gib": 50.0, "cache": "there", "cache_free_gib": 50.0},
        "video": {"writes_h264": True},
    }


def test_the_command(tmp_path):
    done = forked("doctor", "--results", tmp_path / "not" / "yet", "--json", DINOTOOLS_CACHE=str(tmp_path / "cache"))
    metrics = json.loads(done.stdout)["metrics"]
    assert metrics["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert metrics["devices"]["tf32_in_measurements"] is False
    assert metrics["disk"]["results"] == str(tmp_path) and metrics["disk"]["cache"] == str(tmp_path / "cache")
    assert metrics["video"]["writes_h264"] and "h264" in metrics["video"]["reads"]
    assert metrics["faiss"]["packages"] and metrics["faiss"]["kind"] in ("CPU only", "GPU and CPU")
    assert not (tmp_path / "not").exists()


def test_every_extra_for_users_is_told():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(doctor.EXTRAS) == set(project["optional-dependencies"]) - {"docs", "test", "dev"}


def test_an_extra_is_there_when_all_its_packages_are(monkeypatch):
    needs = [
        "torch>=2",
        'nothing-of-the-kind>=1; extra == "onnx"',
        'pytest>=8; extra == "onnx"',
        "pytest; extra == 'hf'",
    ]
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda _: needs)
    told = doctor.extras()
    assert told["hf"].startswith("there") and told["onnx"].startswith("absent") and told["timm"].startswith("unknown")


def test_nothing_amiss_nothing_said(found):
    assert doctor.advice(found) == []


@pytest.mark.parametrize(
    ("part", "values", "words"),
    [
        ("faiss", {"packages": {"faiss-gpu": "1", "faiss-cpu": "1"}}, "faiss-gpu and faiss-cpu overwrite"),
        ("readers", {"shared_memory_gib": 0.06}, "--shm-size"),
        ("readers", {"open_files": 256}, "ulimit -n"),
        ("disk", {"results_free_gib": 1.0}, "here has 1.0 GiB left"),
        ("disk", {"cache_free_gib": 0.5}, "there has 0.5 GiB left"),
        ("video", {"writes_h264": False}, "H.264"),
    ],
)
def test_advice(found, part, values, words):
    found[part] |= values
    [problem] = doctor.advice(found)
    assert words in problem


@pytest.mark.parametrize(("build", "words"), [("13.0", "for CUDA 13.0"), (None, "without CUDA")])
def test_a_gpu_that_torch_does_not_see(found, monkeypatch, build, words):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/usr/bin/{name}")
    found["devices"]["cuda_build"] = build
    [problem] = doctor.advice(found)
    assert words in problem


def test_a_small_container_is_noticed(monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage(64 << 20, 0, 64 << 20))
    result = doctor.run(DoctorConfig())
    assert any("left" in problem for problem in result.metrics["problems"])
    assert result.notes[0].startswith("! ")
