"""Any checkpoint -> a frozen backbone, strictly.

``--ckpt`` names a file (an official backbone, an official or our own training checkpoint, safetensors), a run's
directory, a released network (``zoo.ZOO``), one of timm's (``timm:NAME``), ``random``, or
``pixels``, which is no network at all: the image itself as a feature, the humblest baseline. The tensors say which
architecture they belong to; every one of them must find its place, and the heads that are left behind are named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dinotools.models.checkpoint_files import (
    BACKBONE_FILE,
    STATE_DICT,
    Key,
    backbone_state,
    network_state,
    networks_of,
    read_checkpoint,
    said_arch,
    said_model,
    said_training,
    sha256_of,
    sha256_of_tensors,
)
from dinotools.models.download import fetch
from dinotools.models.names import did_you_mean
from dinotools.models.recognition import recognise, with_our_names
from dinotools.models.strict_loading import dtype_name, load_strictly
from dinotools.models.timm_backbones import TimmBackbone, build_timm, is_timm
from dinotools.models.vit import SIZES
from dinotools.models.zoo import ZOO, build_backbone, normalization_of, set_normalization, shipped_file
from dinotools.runtime.console import warn
from dinotools.runtime.errors import DinotoolsError

RANDOM = "random"
PIXELS = "pixels"
RUN_CHECKPOINT = "checkpoint.pth"  # the file of a run's directory that stands for the run


@dataclass(frozen=True)
class LoadedBackbone:
    """A backbone in eval mode on the CPU in float32, and where it came from.

    Args:
        model: maps (B, 3, H, W) to (B, embed_dim).
        arch: architecture, as ``build_backbone`` takes it.
        patch_size: side of a patch in pixels; None for a network without patch tokens.
        embed_dim: width of the feature.
        source: the file's path, the released network's name, ``timm:NAME``, ``random`` or ``pixels``.
        sha256: of the file, or of timm's tensors; None for random weights.
        key: ``teacher``, ``student`` or ``state dict``; None for random weights.
        dropped: names of the head's or classifier's tensors that were left behind.
        img_size: side of the images it was laid out for; None for torchvision's networks, which take any.
        mean: of each channel, to be subtracted from values in 0..1.
        std: of each channel, to divide them by.
        training: options that a training checkpoint says it was made with.
    """

    model: nn.Module
    arch: str
    patch_size: int | None
    embed_dim: int
    source: str
    sha256: str | None
    key: str | None
    dropped: tuple[str, ...]
    img_size: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    training: dict[str, Any] | None = None

    def describe(self) -> dict[str, Any]:
        """What results.json says of it."""
        said = ("source", "sha256", "key", "arch", "patch_size", "embed_dim", "training")
        told = {name: getattr(self, name) for name in said}
        told |= {name: list(getattr(self, name)) for name in ("dropped", "mean", "std")}
        return told | {"num_heads": getattr(self.model, "num_heads", None)}


@dataclass(frozen=True)
class _Opened:
    """A checkpoint whose backbone's tensors are found but not yet loaded."""

    source: str
    path: Path
    sha256: str
    checkpoint: dict[str, Any]
    key: str
    tensors: dict[str, Tensor]
    head: dict[str, Tensor]


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
        ckpt: path of a file or of a run's directory, name of a released network, ``timm:NAME``, ``random`` or
            ``pixels``.
        key: which network of a training checkpoint.
        arch: architecture; read from the tensors where they tell, and then a different one is an error.
        patch_size: the same for the side of a patch in pixels.
        img_size: the same for the side of the images that the positional grid is laid out for; 224 if random or
            pixels.
        seed: of random weights; the global generator is left as it was.
        download: whether a released network that is not in the cache may be fetched.

    Raises:
        DinotoolsError: the file is absent, unreadable or unsafe, or its weights do not fit exactly.
    """
    if ckpt == PIXELS:
        side = 224 if img_size is None else img_size
        return _loaded(nn.Flatten(), PIXELS, 3 * side**2, source=PIXELS, sha256=None, key=None, dropped=())
    if ckpt == RANDOM:
        return _random_backbone(arch, patch_size, 224 if img_size is None else img_size, seed)
    said = {"arch": arch, "patch_size": patch_size, "img_size": img_size}
    if is_timm(ckpt):
        return _timms_own(ckpt, said, download)
    return _load(_open(ckpt, key, download), said)


def describe(ckpt: str, *, key: Key = "teacher", arch: str | None = None, download: bool = True) -> dict[str, Any]:
    """What a checkpoint holds and whether it loads, in plain JSON values.

    Args:
        ckpt: as for ``load_backbone``, but neither ``random`` nor ``timm:NAME``.
        key: which network of a training checkpoint.
        arch: name of a network of torchvision or timm, whose tensors do not tell.
        download: whether a released network that is not in the cache may be fetched.

    Returns:
        source, path, sha256, kind, keys (of a training checkpoint), epoch, key (the network read), tensors (count),
        parameters, dtype, dropped; then arch, patch_size, img_size, embed_dim, which are None if the backbone does
        not load, and ``problem``, which says why or is None.

    Raises:
        DinotoolsError: no weights can be found at all.
    """
    opened = _open(ckpt, key, download)
    networks = networks_of(opened.checkpoint)
    described: dict[str, Any] = {
        "source": opened.source,
        "path": str(opened.path),
        "sha256": opened.sha256,
        "kind": "training checkpoint" if networks else STATE_DICT,
        "keys": [str(name) for name in opened.checkpoint] if networks else [],
        "epoch": opened.checkpoint.get("epoch") if isinstance(opened.checkpoint.get("epoch"), int) else None,
        "key": opened.key,
        "tensors": len(opened.tensors),
        "parameters": None,
        "dtype": ", ".join(sorted({dtype_name(t.dtype) for t in opened.tensors.values() if t.is_floating_point()})),
        "dropped": list(opened.head),
        **dict.fromkeys(("arch", "patch_size", "img_size", "embed_dim", "problem")),
    }
    try:
        loaded = _load(opened, {"arch": arch})
    except DinotoolsError as error:
        return described | {"problem": error.what}
    return described | {
        "parameters": sum(parameter.numel() for parameter in loaded.model.parameters()),
        "dropped": list(loaded.dropped),
        **{name: getattr(loaded, name) for name in ("arch", "patch_size", "img_size", "embed_dim")},
    }


def locate(ckpt: str, *, download: bool = True) -> Path:
    """The file that ``--ckpt`` stands for; what the authors released is fetched into the cache.

    Raises:
        DinotoolsError: there is no such file, directory or name.
    """
    if ckpt in ZOO:
        url = ZOO[ckpt].url
        return shipped_file(ckpt) if url is None else fetch(url, download=download)
    if ckpt in (RANDOM, PIXELS):
        raise DinotoolsError(f"{ckpt} is in no file", ckpt, "Give a file, a run's directory or a name.")
    if is_timm(ckpt):
        raise DinotoolsError("timm keeps these weights to itself", ckpt, "Give a file, a run's directory or a name.")
    path = Path(ckpt).expanduser()
    if path.is_dir():
        found = next((path / name for name in (RUN_CHECKPOINT, BACKBONE_FILE) if (path / name).is_file()), None)
        if found is None:
            what = f"this directory holds neither {RUN_CHECKPOINT} nor {BACKBONE_FILE}"
            raise DinotoolsError(what, path, "Give a run's directory, or a file.")
        return found
    if not path.is_file():
        raise DinotoolsError(
            "there is no such file, and no released network of that name",
            ckpt,
            did_you_mean(ckpt, [RANDOM, PIXELS, *ZOO]),
        )
    return path


def _open(ckpt: str, key: Key, download: bool) -> _Opened:
    path = locate(ckpt, download=download)
    checkpoint = read_checkpoint(path)
    state, read_key = network_state(checkpoint, key, path)
    tensors, head = backbone_state(state, path)
    source = ckpt if ckpt in ZOO else str(path)
    return _Opened(source, path, sha256_of(path), checkpoint, read_key, tensors, head)


def _load(opened: _Opened, said: Mapping[str, str | int | None]) -> LoadedBackbone:
    """Builds what the tensors ask for and fills it; ``said`` (by the user) must not contradict them."""
    arch = str(said["arch"]) if said.get("arch") else said_arch(opened.checkpoint)
    tensors = opened.tensors if is_timm(arch) else with_our_names(opened.tensors)
    found = recognise(tensors, arch, opened.path)
    about = said_model(opened.checkpoint)
    with torch.random.fork_rng(devices=[]):  # the random values are overwritten: no later draw may depend on them
        model, embed_dim = build_backbone(
            found.arch,
            found.patch_size,
            found.img_size or 224,
            registers=found.registers,
            layer_scale=found.layer_scale,
            num_heads=about.get("num_heads") if found.arch in SIZES else None,
            in_chans=about.get("in_chans", found.in_chans),
        )
    if "mean" in about:
        set_normalization(model, about["mean"], about["std"])
    network = model.module if isinstance(model, TimmBackbone) else model
    own = network.state_dict()  # some of timm's have a last norm that is called as their classifier is
    loaded = _loaded(
        model,
        found.arch,
        embed_dim,
        source=opened.source,
        sha256=opened.sha256,
        key=opened.key,
        dropped=tuple(name for name in opened.head if name not in own),
        training=said_training(opened.checkpoint),
    )
    _refuse_contradictions(loaded, said, opened.path)
    name = found.arch if found.patch_size is None else f"{found.arch} with patches of {found.patch_size} pixels"
    load_strictly(network, tensors | {n: t for n, t in opened.head.items() if n in own}, name, opened.path)
    return loaded


def _timms_own(ckpt: str, said: Mapping[str, str | int | None], download: bool) -> LoadedBackbone:
    if not download:
        raise DinotoolsError("downloads are off, and timm fetches its weights itself", ckpt, "Give a file.")
    with torch.random.fork_rng(devices=[]):
        model = build_timm(ckpt, pretrained=True)
    sha256 = sha256_of_tensors(model.module.state_dict())
    loaded = _loaded(model, ckpt, model.embed_dim, source=ckpt, sha256=sha256, key=STATE_DICT, dropped=model.dropped)
    _refuse_contradictions(loaded, said, ckpt)
    return loaded


def _random_backbone(arch: str | None, patch_size: int | None, img_size: int, seed: int) -> LoadedBackbone:
    if arch is None or (arch in SIZES and patch_size is None):
        raise DinotoolsError(
            "random weights have no shape of their own", f"--ckpt {RANDOM}", "Give --arch and --patch-size."
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model, embed_dim = build_backbone(arch, patch_size, img_size)
    warn(f"{arch} with random weights (seed {seed}): nothing was loaded")
    return _loaded(model, arch, embed_dim, source=RANDOM, sha256=None, key=None, dropped=())


def _loaded(model: nn.Module, arch: str, embed_dim: int, **origin: Any) -> LoadedBackbone:
    mean, std = normalization_of(model)
    return LoadedBackbone(
        model=model.eval(),
        arch=arch,
        embed_dim=embed_dim,
        patch_size=getattr(model, "patch_size", None),
        img_size=getattr(model, "img_size", None),
        mean=mean,
        std=std,
        **origin,
    )


def _refuse_contradictions(loaded: LoadedBackbone, said: Mapping[str, str | int | None], where: object) -> None:
    for option, value in said.items():
        seen = getattr(loaded, option)
        if value is not None and seen is not None and value != seen:
            flag = "--" + option.replace("_", "-")
            raise DinotoolsError(
                f"{flag} says {value}, but its tensors say {seen}", where, f"Leave {flag} out, or correct it."
            )
