"""Device, precision, seeds and reader processes: decided here, once per command."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from dinotools.runtime import distributed
from dinotools.runtime.errors import DinotoolsError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MAX_AUTO_WORKERS = 8


@dataclass(frozen=True)
class Runtime:
    """A resolved place to compute."""

    device: torch.device
    precision: str
    workers: int

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which networks run: nothing for fp32, autocast otherwise."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=DTYPES[self.precision])

    def describe(self) -> dict[str, object]:
        """What results.json says of it."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type
        return {"device": str(self.device), "device_name": name, "precision": self.precision}


def prepare(device: str, precision: str, workers: int, seed: int, *, fast: bool = False) -> Runtime:
    """Resolves ``auto``, makes a CUDA device current, seeds torch; TF32 is off unless fast: measurements are float32.

    Args:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: ``auto`` or a key of ``DTYPES``.
        workers: processes that read images; negative chooses, so that the ranks of a machine share its cores.
        seed: of torch's own generator.
        fast: whether ``precision="auto"`` may be bf16 (pre-training) or is always fp32 (measurements).

    Raises:
        DinotoolsError: an unknown or absent device, or fp16 on a device without it.
    """
    resolved = _device(device)
    if resolved.type == "cuda" and resolved.index is not None:
        torch.cuda.set_device(resolved)  # what NCCL, and the next line, take for this rank's own
    if precision == "auto":
        # where CUDA only emulates bf16 it is no gain
        native = resolved.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bf16" if fast and native else "fp32"
    if precision == "fp16" and resolved.type == "cpu":
        raise DinotoolsError("fp16 training and inference need an accelerator", "--precision", "Use fp32 or bf16.")
    torch.backends.cuda.matmul.allow_tf32 = fast
    torch.backends.cudnn.allow_tf32 = fast
    torch.backends.cudnn.benchmark = fast  # a training shows it the same few sizes again and again
    torch.manual_seed(seed)
    return Runtime(resolved, precision, _workers(workers, resolved))


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DinotoolsError(f"no device is called {name!r}", "--device", "Use auto, cpu, cuda or mps.") from error
    if device.type == "cuda" and device.index is None and distributed.world_size() > 1:
        device = torch.device("cuda", distributed.local_rank())
    present = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= present.get(device.type, 0):
        raise DinotoolsError(f"this machine has no {name}", "--device", "Use --device auto.")
    return device


def _workers(wanted: int, device: torch.device) -> int:
    if wanted >= 0:
        return wanted
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores //= distributed.local_world_size()
    # on a CPU the network needs the cores itself: half of them read images
    return min(cores // 2 if device.type == "cpu" else cores, MAX_AUTO_WORKERS)
