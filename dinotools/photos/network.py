"""The network that describes photos: opened for an index, remembered in it, and opened again for a search.

The descriptor is that of copy detection (DINO, section 4.2.2; official ``eval_copy_detection.py``): the photo as a
square, [CLS] and GeM side by side, divided by their length.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dinotools.configs.photos import PhotoOptions
from dinotools.configs.shared import DescriptorOptions
from dinotools.data.transforms import Square
from dinotools.features.descriptors import Descriptors, open_descriptors
from dinotools.features.pooling import Pooling
from dinotools.models.checkpoints import RANDOM
from dinotools.models.timm_backbones import is_timm
from dinotools.models.zoo import ZOO
from dinotools.photos.storage import INDEX, Index
from dinotools.runtime.device import Runtime
from dinotools.runtime.errors import DinotoolsError, require

BATCH = 32  # queries per forward pass
HOW = ("precision", "dtype")  # how vectors are computed and kept, not which they are


def open_network(config: PhotoOptions, runtime: Runtime, seed: int) -> Descriptors:
    """The network that a command's options name.

    Raises:
        DinotoolsError: none is named, it cannot be loaded, or an option makes no sense.
    """
    options = DescriptorOptions(
        ckpt=config.ckpt,
        key=config.key,
        arch=config.arch,
        patch_size=config.patch_size,
        batch_size=config.batch_size,
        max_bad=config.max_bad,
    )
    return _open(options, config.imsize, config.pooling, runtime, seed)


def open_index(folder: Path, config: PhotoOptions, descriptors: Descriptors, seed: int) -> Index:
    """The index in a folder, made if there is none.

    Raises:
        DinotoolsError: its vectors come from another network or other settings, or the folder holds something else.
    """
    ckpt = str(config.ckpt)
    is_name = ckpt in ZOO or ckpt == RANDOM or is_timm(ckpt)
    network = {
        "ckpt": ckpt if is_name else str(Path(ckpt).expanduser().resolve()),
        "key": config.key,
        "arch": config.arch,
        "patch_size": config.patch_size,
        "imsize": config.imsize,
        "pooling": config.pooling,
        "seed": seed,
    }
    settings = kept_settings(descriptors)
    if not (folder / INDEX).is_file():
        facts = {"network": network, "checkpoint": descriptors.backbone.describe(), "settings": settings}
        return Index.create(folder, facts | {"width": descriptors.width})
    index = Index(folder)
    if told := differences(index.facts["settings"], settings):
        raise DinotoolsError(
            f"is an index made otherwise ({'; '.join(told)})", folder, "Use the same options, or another folder."
        )
    if index.facts["network"] != network:  # the same network, in a new place
        index.facts["network"] = network
        index.save()
    return index


def reopen_network(index: Index, ckpt: str | None, runtime: Runtime) -> Descriptors:
    """The network that made the vectors of an index.

    Args:
        index: the index.
        ckpt: where the network lies now; None: where it lay.
        runtime: where to compute.

    Raises:
        DinotoolsError: the network is gone, or no longer the same.
    """
    made = index.facts["network"]
    if ckpt is None and Path(made["ckpt"]).is_absolute() and not Path(made["ckpt"]).exists():
        raise DinotoolsError(
            f"its network is gone: there is no {made['ckpt']}", index.folder, "Say with --ckpt where it lies now."
        )
    options = DescriptorOptions(
        ckpt=ckpt or made["ckpt"],
        key=made["key"],
        arch=made["arch"],
        patch_size=made["patch_size"],
        batch_size=BATCH,
    )
    descriptors = _open(options, made["imsize"], made["pooling"], runtime, made["seed"])
    stored, now = (
        {k: v for k, v in s.items() if k not in HOW} for s in (index.facts["settings"], descriptors.settings)
    )
    if told := differences(stored, now):
        raise DinotoolsError(
            f"is not the network of {index.folder} ({'; '.join(told)})",
            options.ckpt,
            "Give the same one with --ckpt, or make the index again.",
        )
    return descriptors


def kept_settings(descriptors: Descriptors) -> dict[str, Any]:
    """Everything beside the photos that the vectors of an index depend on."""
    return descriptors.settings | {"dtype": "float16"}


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """How settings differ, in words."""
    names = sorted(before.keys() | now.keys())
    return [f"{n} was {before.get(n)}, now {now.get(n)}" for n in names if before.get(n) != now.get(n)]


def _open(options: DescriptorOptions, imsize: int, pooling: str, runtime: Runtime, seed: int) -> Descriptors:
    require(imsize > 0, f"is {imsize}", "imsize", "It must be above 0.")
    descriptors = open_descriptors(options, Square(imsize), Pooling.parse(pooling), runtime, seed=seed)
    least = descriptors.view.least
    require(imsize >= least, f"{imsize} pixels are less than a patch of {least}", "imsize", "Use a larger side.")
    return descriptors
