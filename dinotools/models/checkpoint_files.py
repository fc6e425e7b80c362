"""What is in a checkpoint file, read without running any code that the file may hold.

The layouts: a state dict alone (the official backbones); one under ``state_dict`` or ``model``; a training checkpoint
with ``student`` and ``teacher`` (the official ones, whose ``args`` is an ``argparse.Namespace``, and ours, whose
``model`` names the architecture); safetensors. Names carry the prefixes of whatever wrapped the network.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dinotools.models.convnets import CLASSIFIERS
from dinotools.runtime.errors import DinotoolsError

Key = Literal["teacher", "student"]

NETWORKS = ("student", "teacher")
BACKBONE_FILE = "backbone.safetensors"  # what a run and an export leave for everyone else
STATE_DICT = "state dict"  # stands for the key where a file holds one network without saying which
HEADS = (*CLASSIFIERS, "linear", "dino_head", "ibot_head", "mask_token")  # what a frozen backbone has no use for
WRAPPERS = re.compile(r"^((module|_orig_mod)\.)+")  # DistributedDataParallel, torch.compile
WRAPPERS_AND_BACKBONE = re.compile(r"^((module|_orig_mod|backbone)\.)+")
CHUNK = 1 << 20  # bytes

# What official training checkpoints hold beside tensors: their arguments, and learning rates as NumPy scalars, which
# pickle names differently before and after NumPy 2.
NUMPY_SCALAR = np.float64(0).__reduce__()[0]
PLAIN: list[Any] = [
    argparse.Namespace,
    np.dtype,
    type(np.dtype(np.float64)),
    (NUMPY_SCALAR, "numpy.core.multiarray.scalar"),
    (NUMPY_SCALAR, "numpy._core.multiarray.scalar"),
]


def read_checkpoint(path: Path, *, mapped: bool = True) -> dict[str, Any]:
    """The dictionary in a file made by ``torch.save``, or a safetensors file in the same form, on the CPU.

    Tensors, containers, plain values, NumPy numbers and ``argparse.Namespace`` are allowed, anything else is refused
    unread. Where the format permits, tensors are mapped from the file and copied only when written to: replace such a
    file by renaming another one, never by writing into it.

    Args:
        path: the file; one that ends in ``.safetensors`` is returned as ``{"state_dict": ..., "model": its metadata}``.
        mapped: whether tensors may stay in the file; not if it will be replaced while they live.

    Raises:
        DinotoolsError: there is no such file, it is damaged, holds more than data, or is no dictionary.
    """
    try:
        checkpoint = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path, mapped)
    except OSError as error:
        raise DinotoolsError(f"cannot be read ({error.strerror or error})", path, "Check the path.") from error
    if not isinstance(checkpoint, dict):
        raise DinotoolsError(f"holds a {type(checkpoint).__name__}, not a checkpoint", path, "Give a state dict.")
    return checkpoint


def _read_pickle(path: Path, mapped: bool) -> Any:
    try:
        with torch.serialization.safe_globals(PLAIN):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped and zipfile.is_zipfile(path))
    except OSError:
        raise
    except Exception as error:  # a damaged file makes the unpickler raise whatever its bytes lead to
        forbidden = re.search(r"GLOBAL:? (?:GLOBAL )?([\w.]+)", str(error), re.IGNORECASE)
        if forbidden:
            raise DinotoolsError(
                f"refused: it asks for {forbidden[1]}, which no weights need and which might run code",
                path,
                "If you trust it, save its state dict alone and load that.",
            ) from error
        if "TorchScript" in str(error):
            raise DinotoolsError(
                "is a TorchScript program, not a checkpoint", path, "Save the network's state_dict()."
            ) from error
        raise DinotoolsError("is no checkpoint, or a damaged one", path, "Download or copy it again.") from error


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            return {"state_dict": tensors, "model": {n: _plain_value(v) for n, v in (file.metadata() or {}).items()}}
    except SafetensorError as error:
        raise DinotoolsError("is no safetensors file, or a damaged one", path, "Download or copy it again.") from error


def _plain_value(text: str) -> Any:
    """A value of safetensors' metadata: ours are JSON, other people's any text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def network_state(checkpoint: Mapping[str, Any], key: Key, where: object) -> tuple[dict[str, Tensor], str]:
    """The tensors of one network of a checkpoint, their names free of ``module.`` and the like.

    Args:
        checkpoint: as ``read_checkpoint`` returns it.
        key: the network wanted, where there are two; a file with one state dict has no choice to offer, but is not
            taken for a student if it says that it is a teacher.
        where: what an error names as the place.

    Returns:
        Name -> tensor (``backbone.*`` and ``head.*`` in a training checkpoint), and the key: ``teacher``, ``student``,
        or ``state dict`` if the file does not say which of them it is.

    Raises:
        DinotoolsError: the checkpoint holds no such network, or none at all.
    """
    networks = networks_of(checkpoint)
    single = said_model(checkpoint).get("key", STATE_DICT)
    if key not in networks and (networks or (key, single) == ("student", "teacher")):
        held = networks[0] if networks else single
        raise DinotoolsError(f"holds no {key}, only a {held}", where, f"Ask for the {held}.")
    candidates = [checkpoint[key]] if networks else [checkpoint.get("state_dict"), checkpoint.get("model"), checkpoint]
    state = next((candidate for candidate in candidates if _is_state_dict(candidate)), None)
    if state is None:
        raise DinotoolsError(
            f"holds no weights: its keys are {few(checkpoint)}",
            where,
            "A checkpoint is a state dict, or has one under teacher, student, state_dict or model.",
        )
    return _renamed(state, WRAPPERS, where), key if networks else single


def networks_of(checkpoint: Mapping[str, Any]) -> list[str]:
    """Which of student and teacher a training checkpoint holds; none in a file of one state dict."""
    return [name for name in NETWORKS if _is_state_dict(checkpoint.get(name))]


def backbone_state(state: Mapping[str, Tensor], where: object) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parts a network's tensors from its head.

    Args:
        state: name -> tensor, as ``network_state`` returns it.
        where: what an error names as the place.

    Returns:
        The backbone's tensors under the backbone's own names, and the head's or classifier's.

    Raises:
        DinotoolsError: nothing but a head is there.
    """
    bare = _renamed(state, WRAPPERS_AND_BACKBONE, where)
    head = {name: tensor for name, tensor in bare.items() if name.split(".")[0] in HEADS}
    tensors = {name: tensor for name, tensor in bare.items() if name not in head}
    if not tensors:
        raise DinotoolsError(f"holds no backbone, only {few(head)}", where, "Give the backbone's own file.")
    return tensors, head


def said_arch(checkpoint: Mapping[str, Any]) -> str | None:
    """The architecture's name that a file gives itself: ours in ``model``, the official ones in ``args``."""
    arch = said_model(checkpoint).get("arch", getattr(checkpoint.get("args"), "arch", None))
    return arch if isinstance(arch, str) else None


def said_model(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What our own files say of their backbone in ``model``, as far as it is of the right kind.

    Any of arch, key, num_heads, in_chans, mean and std; the last two are lists of equally many numbers.
    """
    model = checkpoint.get("model")
    if not isinstance(model, Mapping):
        return {}
    kinds: dict[str, Any] = {
        "arch": str,
        "key": str,
        "num_heads": int,
        "in_chans": int,
        "mean": (list, tuple),
        "std": (list, tuple),
    }
    said = {name: model[name] for name, kind in kinds.items() if isinstance(model.get(name), kind)}
    lists = [said.pop("mean", ()), said.pop("std", ())]
    whole = len(lists[0]) == len(lists[1]) > 0 and all(
        isinstance(n, (int, float)) for numbers in lists for n in numbers
    )
    return said | ({"mean": list(lists[0]), "std": list(lists[1])} if whole else {})


def said_training(checkpoint: Mapping[str, Any]) -> dict[str, Any] | None:
    """How a training checkpoint says it was made; None of other files.

    Returns:
        Its options, ours in ``config`` and the official ones in ``args``, as far as they are plain values; with the
        ``epoch`` it was saved after and, of ours, ``n_images``.
    """
    options = checkpoint.get("config", getattr(checkpoint.get("args"), "__dict__", None))
    if not isinstance(options, Mapping) or not networks_of(checkpoint):
        return None
    reached = {name: checkpoint[name] for name in ("epoch", "n_images") if name in checkpoint}
    return {str(name): value for name, value in {**options, **reached}.items() if _is_plain(value)}


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(isinstance(each, (str, int, float)) for each in value)
    return value is None or type(value) in (str, int, float, bool)


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """The sha256 of a state dict's names, types, shapes and values, in the order of the names, in hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def few(names: Mapping[str, Any] | tuple[str, ...] | list[str], n: int = 3) -> str:
    """The first n names, and how many more there are."""
    listed = ", ".join(str(name) for name in list(names)[:n])
    return f"{listed} and {len(names) - n} more" if len(names) > n else listed or "none"


def _is_state_dict(candidate: object) -> bool:
    return (
        isinstance(candidate, Mapping)
        and len(candidate) > 0
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in candidate.items())
    )


def _renamed(state: Mapping[str, Tensor], prefix: re.Pattern[str], where: object) -> dict[str, Tensor]:
    renamed = {prefix.sub("", name): tensor for name, tensor in state.items()}
    if len(renamed) < len(state):
        raise DinotoolsError("holds one network twice, under different prefixes", where, "Save one of them alone.")
    return renamed
