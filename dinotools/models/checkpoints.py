"""Any checkpoint -> a frozen backbone, strictly.

``--ckpt`` names a file (an official backbone, an official or our own training checkpoint, safetensors), a run's
directory, a released network (``zoo.ZOO``), or ``random``. The tensors say which architecture they belong to; every
one of them must find its place, and the heads that are left behind are named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dinotools.models.checkpoint_files import (
    STATE_DICT,
    Key,
    backbone_state,
    few,
    network_state,
    read_checkpoint,
    said_arch,
    sha256_of,
)
from dinotools.models.download import fetch
from dinotools.models.recognition import Architecture, recognise
from dinotools.models.vit import SIZES
from dinotools.models.zoo import ZOO, build_backbone, did_you_mean
from dinotools.runtime.console import warn
from dinotools.runtime.errors import DinotoolsError

RANDOM = "random"
RUN_CHECKPOINT = "checkpoint.pth"  # the file of a run's directory that stands for the run


@dataclass(frozen=True)
class LoadedBackbone:
    """A backbone in eval mode on the CPU in float32, and where it came from.

    Args:
        model: maps (B, 3, H, W) to (B, embed_dim).
        arch: architecture, as ``build_backbone`` takes it.
        patch_size: side of a patch in pixels; None for a convolutional network.
        embed_dim: width of the feature.
        source: the file's path, the released network's name, or ``random``.
        sha256: of the file; None for random weights.
        key: ``teacher``, ``student`` or ``state dict``; None for random weights.
        dropped: names of the head's or classifier's tensors that were left behind.
    """

    model: nn.Module
    arch: str
    patch_size: int | None
    embed_dim: int
    source: str
    sha256: str | None
    key: str | None
    dropped: tuple[str, ...]

    def describe(self) -> dict[str, Any]:
        """What results.json says of it."""
        said = ("source", "sha256", "key", "arch", "patch_size", "embed_dim")
        return {name: getattr(self, name) for name in said} | {"dropped": list(self.dropped)}


@dataclass(frozen=True)
class _Opened:
    """A checkpoint whose backbone's tensors are found but not yet loaded."""

    source: str
    path: Path
    sha256: str
    checkpoint: dict[str, Any]
    key: str
    tensors: dict[str, Tensor]
    dropped: tuple[str, ...]


def load_backbone(
    ckpt: str,
    *,
    key: Key = "teacher",
    arch: str | None = None,
    patch_size: int | None = None,
    img_size: int | None = None,
    seed: int = 0,
    download: bool = True,
) -> LoadedBackbone:
    """Loads a backbone.

    Args:
        ckpt: path of a file or of a run's directory, name of a released network, or ``random``.
        key: which network of a training checkpoint.
        arch: architecture; read from the tensors where they tell, and then a different one is an error.
        patch_size: the same for the side of a patch in pixels.
        img_size: the same for the side of the images that the positional grid is laid out for; 224 if random.
        seed: of random weights; the global generator is left as it was.
        download: whether a released network that is not in the cache may be fetched.

    Raises:
        DinotoolsError: the file is absent, unreadable or unsafe, or its weights do not fit exactly.
    """
    if ckpt == RANDOM:
        return _random_backbone(arch, patch_size, 224 if img_size is None else img_size, seed)
    opened = _open(ckpt, key, download)
    said = {"arch": arch, "patch_size": patch_size, "img_size": img_size}
    return _load(opened, said)[0]


def describe(ckpt: str, *, key: Key = "teacher", arch: str | None = None, download: bool = True) -> dict[str, Any]:
    """What a checkpoint holds and whether it loads, in plain JSON values.

    Args:
        ckpt: as for ``load_backbone``, but not ``random``.
        key: which network of a training checkpoint.
        arch: name of a torchvision network whose tensors do not tell.
        download: whether a released network that is not in the cache may be fetched.

    Returns:
        source, path, sha256, kind, keys (of a training checkpoint), epoch, key (the network read), tensors (count),
        parameters, dtype, dropped; then arch, patch_size, img_size, embed_dim, which are None if the backbone does
        not load, and ``problem``, which says why or is None.

    Raises:
        DinotoolsError: no weights can be found at all.
    """
    opened = _open(ckpt, key, download)
    described: dict[str, Any] = {
        "source": opened.source,
        "path": str(opened.path),
        "sha256": opened.sha256,
        "kind": STATE_DICT if opened.key == STATE_DICT else "training checkpoint",
        "keys": [] if opened.key == STATE_DICT else [str(name) for name in opened.checkpoint],
        "epoch": opened.checkpoint.get("epoch") if isinstance(opened.checkpoint.get("epoch"), int) else None,
        "key": opened.key,
        "tensors": len(opened.tensors),
        "parameters": None,
        "dtype": ", ".join(sorted({_name(t.dtype) for t in opened.tensors.values() if t.is_floating_point()})),
        "dropped": list(opened.dropped),
        **dict.fromkeys(("arch", "patch_size", "img_size", "embed_dim", "problem")),
    }
    try:
        loaded, found = _load(opened, {"arch": arch})
    except DinotoolsError as error:
        return described | {"problem": error.what}
    return described | {
        "parameters": sum(parameter.numel() for parameter in loaded.model.parameters()),
        "arch": loaded.arch,
        "patch_size": loaded.patch_size,
        "img_size": found.img_size,
        "embed_dim": loaded.embed_dim,
    }


def locate(ckpt: str, *, download: bool = True) -> Path:
    """The file that ``--ckpt`` stands for; a released network is fetched into the cache.

    Raises:
        DinotoolsError: there is no such file, directory or name.
    """
    if ckpt in ZOO:
        return fetch(ZOO[ckpt].url, download=download)
    if ckpt == RANDOM:
        raise DinotoolsError("random weights are in no file", ckpt, "Give a file, a run's directory or a name.")
    path = Path(ckpt).expanduser()
    if path.is_dir():
        if not (path / RUN_CHECKPOINT).is_file():
            raise DinotoolsError(
                f"this directory holds no {RUN_CHECKPOINT}", path, "Give a run's directory, or a file."
            )
        return path / RUN_CHECKPOINT
    if not path.is_file():
        raise DinotoolsError(
            "there is no such file, and no released network of that name", ckpt, did_you_mean(ckpt, [RANDOM, *ZOO])
        )
    return path


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], name: str, where: object) -> None:
    """Copies tensors into a module, each into its place and none left over; half precision is widened.

    Args:
        module: what is filled.
        tensors: its state dict; batch counters, which old files lack, may be missing.
        name: what an error calls the module.
        where: what an error names as the place.

    Raises:
        DinotoolsError: tensors are missing, unexpected, or of another shape or kind; the module is left untouched.
    """
    wanted = module.state_dict()
    missing = [n for n in wanted if n not in tensors and not n.endswith("num_batches_tracked")]
    unexpected = [n for n in tensors if n not in wanted]
    shared = [n for n in wanted if n in tensors]
    wrong = [
        f"{n} is {_form(tensors[n])}, not {_form(wanted[n])}" for n in shared if _form(tensors[n]) != _form(wanted[n])
    ]
    faults = {"missing": missing, "unexpected": unexpected, "wrong": wrong}
    if any(faults.values()):
        told = "; ".join(f"{fault} {few(names)}" for fault, names in faults.items() if names)
        raise DinotoolsError(
            f"its weights do not fit {name}: {told}",
            where,
            "See `dinotools models info`, or name the network with --arch and --patch-size.",
        )
    module.load_state_dict(dict(tensors))


def _open(ckpt: str, key: Key, download: bool) -> _Opened:
    path = locate(ckpt, download=download)
    checkpoint = read_checkpoint(path)
    state, read_key = network_state(checkpoint, key, path)
    tensors, dropped = backbone_state(state, path)
    source = ckpt if ckpt in ZOO else str(path)
    return _Opened(source, path, sha256_of(path), checkpoint, read_key, tensors, dropped)


def _load(opened: _Opened, said: Mapping[str, str | int | None]) -> tuple[LoadedBackbone, Architecture]:
    """Builds what the tensors ask for and fills it; ``said`` (by the user) must not contradict them."""
    arch = said.get("arch")
    found = recognise(opened.tensors, str(arch) if arch else said_arch(opened.checkpoint), opened.path)
    for option, value in said.items():
        seen = getattr(found, option)
        if value is not None and seen is not None and value != seen:
            flag = "--" + option.replace("_", "-")
            raise DinotoolsError(
                f"{flag} says {value}, but its tensors say {seen}", opened.path, f"Leave {flag} out, or correct it."
            )
    with torch.random.fork_rng(devices=[]):  # the random values are overwritten: no later draw may depend on them
        model, embed_dim = build_backbone(found.arch, found.patch_size, found.img_size or 224)
    name = found.arch if found.patch_size is None else f"{found.arch} with patches of {found.patch_size} pixels"
    load_strictly(model, opened.tensors, name, opened.path)
    loaded = LoadedBackbone(
        model.eval(),
        found.arch,
        found.patch_size,
        embed_dim,
        opened.source,
        opened.sha256,
        opened.key,
        opened.dropped,
    )
    return loaded, found


def _random_backbone(arch: str | None, patch_size: int | None, img_size: int, seed: int) -> LoadedBackbone:
    if arch is None or (arch in SIZES and patch_size is None):
        raise DinotoolsError(
            "random weights have no shape of their own", f"--ckpt {RANDOM}", "Give --arch and --patch-size."
        )
    patch_size = patch_size if arch in SIZES else None
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model, embed_dim = build_backbone(arch, patch_size, img_size)
    warn(f"{arch} with random weights (seed {seed}): nothing was loaded")
    return LoadedBackbone(model.eval(), arch, patch_size, embed_dim, RANDOM, None, None, ())


def _form(tensor: Tensor) -> str:
    """Shape and kind of number, but not the precision: half-precision weights are welcome, integer ones are not."""
    return f"{list(tensor.shape)}" + ("" if tensor.is_floating_point() else f" {_name(tensor.dtype)}")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
