"""What a command computes on, and with."""

import os

import pytest
import torch

from dinotools.runtime import device
from dinotools.runtime.errors import DinotoolsError


@pytest.fixture(autouse=True)
def settings():
    """prepare() sets torch up for the whole process."""
    before = torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    yield
    torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@pytest.fixture
def cuda(monkeypatch):
    """Pretends that there are two CUDA devices, of which bf16 is emulated; gives the numbers made current."""
    made_current: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        torch.cuda, "set_device", lambda device: made_current.append(torch.cuda._utils._get_device_index(device))
    )
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    return made_current


def test_only_training_takes_what_is_fast():
    for fast in (True, False):
        device.prepare("cpu", "auto", 0, seed=0, fast=fast)
        assert torch.backends.cudnn.benchmark is torch.backends.cudnn.allow_tf32 is fast
        assert torch.backends.cuda.matmul.allow_tf32 is fast


def test_a_cpu_computes_in_fp32_unless_told():
    assert device.prepare("cpu", "auto", 0, seed=0, fast=True).precision == "fp32"
    assert device.prepare("cpu", "bf16", 0, seed=0, fast=True).precision == "bf16"
    with pytest.raises(DinotoolsError, match="--precision"):
        device.prepare("cpu", "fp16", 0, seed=0)


def test_a_rank_takes_the_device_of_its_number(cuda, monkeypatch):
    assert device.prepare("cuda", "auto", 0, seed=0).device == torch.device("cuda")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device.prepare("cuda", "auto", 0, seed=0).device == torch.device("cuda:1")
    assert cuda == [1]
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(DinotoolsError, match="this machine has no cuda"):
        device.prepare("cuda", "auto", 0, seed=0)


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16"), (False, "fp32")])
def test_bf16_is_chosen_where_the_device_has_it(cuda, monkeypatch, native, precision):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    assert device.prepare("cuda", "auto", 0, seed=0, fast=True).precision == precision
    assert device.prepare("cuda", "auto", 0, seed=0).precision == "fp32"  # a measurement


def test_the_ranks_of_a_machine_share_its_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(12), raising=False)
    assert device.prepare("cpu", "auto", -1, seed=0).workers == 6
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert device.prepare("cpu", "auto", -1, seed=0).workers == 1
    assert device.prepare("cpu", "auto", 5, seed=0).workers == 5


def test_devices_that_are_not_there():
    with pytest.raises(DinotoolsError, match="no device is called 'gpu'"):
        device.prepare("gpu", "auto", 0, seed=0)
