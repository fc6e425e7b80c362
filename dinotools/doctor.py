"""``dinotools doctor``: what this machine has, what it lacks, and what would be gained."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from dinotools.configs.doctor import DoctorConfig
from dinotools.runtime import device
from dinotools.runtime.cache import cache_directory
from dinotools.runtime.results import Result, versions

GIB = 2**30
OTHER_LIBRARIES = ("typer", "rich", "safetensors", "av", "matplotlib")
FAISS_PACKAGES = ("faiss-gpu", "faiss-cpu", "faiss-gpu-cu12", "faiss-gpu-cu11")
CODECS = ("h264", "hevc", "vp9", "av1", "prores", "mpeg4")
LEAST_FILES = 1024  # a mapped shard of features keeps a file open
LEAST_DISK_GIB = 5.0
SHARED_MEMORY_PER_WORKER_GIB = 0.25  # a few batches of crops; a container has 64 MB unless told otherwise
EXTRAS = {  # of pyproject.toml -> what it adds
    "timm": "any of timm's networks as --ckpt timm:NAME, and export to timm",
    "shards": "pre-training on tar shards",
    "tiff": "TIFF images with more than 8 bits or other than 3 channels",
    "slurm": "pretrain --slurm",
    "tensorboard": "pretrain --track tensorboard",
    "wandb": "pretrain --track wandb",
    "onnx": "export --to onnx",
    "hf": "export --to hf",
}


def run(config: DoctorConfig) -> Result:
    """Looks at everything a command may depend on; changes nothing but that the cache's folder is made."""
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "versions": software,
        "devices": devices,
        "faiss": faiss,
        "video": video,
        "readers": readers,
        "disk": lambda: disk(config.results),
        "extras": extras,
    }
    found = {name: look() for name, look in parts.items()}
    rows = [
        {
            "part": "" if number else part,
            "what": what.replace("_gib", " (GiB)").replace("pre_training", "pre-training").replace("_", " "),
            "found": _in_words(value),
        }
        for part, values in found.items()
        for number, (what, value) in enumerate(values.items())
    ]
    problems = advice(found)
    notes = [f"! {problem}" for problem in problems] or ["Nothing is amiss."]
    if any(state.startswith("absent") for state in found["extras"].values()):
        notes.append("An extra is added by its name, such as pip install 'dinotools[timm]'.")
    return Result("doctor", rows, {**found, "problems": problems}, notes=tuple(notes))


def software() -> dict[str, Any]:
    """Versions of Python, dinotools and its libraries."""
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        **versions(),
        **{name: importlib.metadata.version(name) for name in OTHER_LIBRARIES},
    }


def devices() -> dict[str, Any]:
    """What torch can compute on, in which precisions; the TF32 state is that of a measurement."""
    import torch

    chosen = device.prepare("auto", "auto", 0, 0)
    cuda = chosen.device.type == "cuda"
    return {
        "auto": str(chosen.device),
        "cpu": f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}",
        "cuda": [
            f"{torch.cuda.get_device_name(i)}, {torch.cuda.get_device_properties(i).total_memory / GIB:.0f} GiB, "
            f"compute capability {'.'.join(map(str, torch.cuda.get_device_capability(i)))}"
            for i in range(torch.cuda.device_count())
        ],
        "cuda_build": torch.version.cuda,
        "mps": torch.backends.mps.is_available(),
        "bf16": not cuda or torch.cuda.is_bf16_supported(including_emulation=False),
        "fp16": chosen.device.type != "cpu",
        "tf32_in_measurements": torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32,
        "precision_of_pre_training": device.prepare("auto", "auto", 0, 0, fast=True).precision,
    }


def faiss() -> dict[str, Any]:
    """Which build of FAISS is loaded, and which packages claim its name."""
    installed = {name: found for name in FAISS_PACKAGES if (found := _version(name))}
    try:
        import faiss as library
    except ImportError as error:
        return {"packages": installed, "loads": str(error)}
    return {
        "packages": installed,
        "loads": library.__version__,
        "kind": "GPU and CPU" if hasattr(library, "StandardGpuResources") else "CPU only",
        "gpus": library.get_num_gpus() if hasattr(library, "get_num_gpus") else 0,
    }


def video() -> dict[str, Any]:
    """Which of the common codecs PyAV's FFmpeg reads, and whether it writes the H.264 of our own videos."""
    import av

    def knows(codec: str, mode: Any) -> bool:
        with suppress(av.codec.codec.UnknownCodecError):
            av.codec.Codec(codec, mode)
            return True
        return False

    return {"reads": [codec for codec in CODECS if knows(codec, "r")], "writes_h264": knows("libx264", "w")}


def readers() -> dict[str, Any]:
    """Processes that read images by default, and what limits them."""
    found: dict[str, Any] = {"workers": device.prepare("auto", "auto", -1, 0).workers}
    with suppress(ImportError):  # there is no such module on Windows
        import resource

        found["open_files"] = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if Path("/dev/shm").is_dir():
        found["shared_memory_gib"] = round(shutil.disk_usage("/dev/shm").total / GIB, 2)
    return found


def disk(results: Path) -> dict[str, Any]:
    """Room for results and in the cache, in GiB."""
    cache = cache_directory()
    there = next(path for path in (results.resolve(), *results.resolve().parents) if path.exists())
    return {
        "results": str(there),
        "results_free_gib": round(shutil.disk_usage(there).free / GIB, 1),
        "cache": str(cache),
        "cache_free_gib": round(shutil.disk_usage(cache).free / GIB, 1),
        "cached_gib": round(sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()) / GIB, 2),
    }


def extras() -> dict[str, str]:
    """What every optional extra adds, and whether it is there."""
    return {name: f"{_state(name)}: {adds}" for name, adds in EXTRAS.items()}


def advice(found: dict[str, dict[str, Any]]) -> list[str]:
    """What is likely to fail on this machine, each with its remedy.

    Args:
        found: part -> what was found, as in ``run``.
    """
    problems = []
    if shutil.which("nvidia-smi") and not found["devices"]["cuda"]:
        build = found["devices"]["cuda_build"]
        problems.append(
            f"There is an NVIDIA driver, but torch sees no GPU: its build is for CUDA {build}; see `nvidia-smi`."
            if build
            else "There is an NVIDIA driver, but torch is a build without CUDA: install another."
        )
    if len(found["faiss"]["packages"]) > 1:
        names = " and ".join(found["faiss"]["packages"])
        problems.append(f"{names} overwrite one another: uninstall both, then install one.")
    readers_found = found["readers"]
    needed = SHARED_MEMORY_PER_WORKER_GIB * readers_found["workers"]
    if readers_found.get("shared_memory_gib", needed) < needed:
        problems.append(
            f"/dev/shm has {readers_found['shared_memory_gib']} GiB, too little for "
            f"{readers_found['workers']} readers: give a container --shm-size 8g, or use fewer --workers."
        )
    if 0 <= readers_found.get("open_files", LEAST_FILES) < LEAST_FILES:
        problems.append(
            f"Only {readers_found['open_files']} files may be open at once: raise it with `ulimit -n 4096`."
        )
    for place in ("results", "cache"):
        free = found["disk"][f"{place}_free_gib"]
        if free < LEAST_DISK_GIB:
            problems.append(f"{found['disk'][place]} has {free} GiB left.")
    if not found["video"]["writes_h264"]:
        problems.append("This FFmpeg cannot write H.264: videos of attention and masks will fail. Reinstall av.")
    return problems


def _state(extra: str) -> str:
    """Whether every package of an extra is installed; unknown to an installation from before there was the extra."""
    wanted = re.compile(rf"extra\s*==\s*['\"]{extra}['\"]")
    needs = [line for line in importlib.metadata.requires("dinotools") or () if wanted.search(line)]
    names = [match.group() for line in needs if (match := re.match(r"[\w.-]+", line))]
    if not names:
        return "unknown, install dinotools again"
    return "there" if all(map(_version, names)) else "absent"


def _version(package: str) -> str | None:
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


def _in_words(value: Any) -> Any:
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items()) or "none"
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else value
