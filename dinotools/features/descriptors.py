"""Descriptors: one vector per image for searching, from whole images of any size or shape.

Retrieval, copy detection and one's own photos share this: which network, how images reach it, and where vectors are
kept between commands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dinotools.configs.shared import DescriptorOptions
from dinotools.data.images import ImageFiles, ImageSource
from dinotools.data.transforms import ImageTransform
from dinotools.features import files
from dinotools.features.extraction import Extractor, Features, View, extract
from dinotools.features.network import settings_of
from dinotools.features.pooling import PooledBackbone, Pooling
from dinotools.features.scales import MultiScale
from dinotools.models.checkpoints import PIXELS, LoadedBackbone, load_backbone
from dinotools.runtime import distributed
from dinotools.runtime.device import Runtime
from dinotools.runtime.errors import DinotoolsError, require


@dataclass(frozen=True)
class Descriptors:
    """A network that describes images, and everything that a description depends on.

    Args:
        backbone: the network as it was loaded.
        network: the same with pooling and scales, on the device: maps (B, 3, H, W) to (B, width).
        view: how an image reaches it.
        width: D of a descriptor.
        settings: what descriptors depend on beside the images, as in ``index.json``.
        runtime: where to compute.
        batch_size: images of one shape in a forward pass.
        max_bad: share of unreadable images that is skipped and named rather than an error.
        cache: folder in which descriptors are kept and found again; None for none.
    """

    backbone: LoadedBackbone
    network: nn.Module
    view: View
    width: int
    settings: dict[str, Any]
    runtime: Runtime
    batch_size: int
    max_bad: float
    cache: Path | None

    def of(self, images: ImageSource, name: str, *, all_needed: bool = False) -> Features:
        """Describes images.

        Args:
            images: of any sizes.
            name: what the progress bar calls them.
            all_needed: whether every unreadable image is an error, since a ground truth counts on it.

        Returns:
            One row per readable image, not normalised unless the network does it.

        Raises:
            DinotoolsError: too many unreadable images.
            RunFailed: a feature is not finite, or has no dimensions.
        """
        max_bad = 0.0 if all_needed else self.max_bad
        if self.cache is None:
            if distributed.world_size() > 1:
                raise DinotoolsError("several processes share features through files", "--gpus", "Add --cache DIR.")
            return extract(
                self.network, images, self.runtime, self.view, batch_size=self.batch_size, max_bad=max_bad, name=name
            )
        extractor = Extractor(self.network, images, self.runtime, self.view, max_bad)
        described = self.backbone.describe()
        return files.cached_features(self.cache, self.settings, described, extractor, name, self.batch_size)

    def found_in(self, source: str | Path, name: str) -> Features:
        """Describes a folder of images, or reads what describes them already.

        Args:
            source: a folder of images; a folder of descriptors, as ``cache`` holds them; or a ``.npy`` file of
                (N, width) floats, of which nobody can say how they were made.
            name: what the progress bar calls the images.

        Raises:
            DinotoolsError: there is no such thing, the descriptors are of another network, transform or width, are
                not finite, or too many of the images are unreadable.
            RunFailed: a feature is not finite, or has no dimensions.
        """
        path = Path(source).expanduser()
        if path.suffix == ".npy":
            return read_vectors(path, self.width)
        if (path / files.INDEX).is_file():
            stored = files.read_index(path)["settings"]
            # the number type on disk is no part of what a feature is
            different = [key for key, value in self.settings.items() if key != "dtype" and stored.get(key) != value]
            if different:
                told = ", ".join(f"{key} was {stored.get(key)}, now {self.settings[key]}" for key in sorted(different))
                raise DinotoolsError(f"holds features made otherwise ({told})", path, "Give the images themselves.")
            return files.read_features(path)
        return self.of(ImageFiles.in_folder(path), name)

    def describe(self) -> dict[str, Any]:
        """What results.json says of network, transform and device."""
        return {"checkpoint": self.backbone.describe(), "features": self.settings, **self.runtime.describe()}


def open_descriptors(
    config: DescriptorOptions,
    transform: ImageTransform,
    pooling: Pooling,
    runtime: Runtime,
    *,
    scales: Sequence[float] = (1.0,),
    seed: int = 0,
) -> Descriptors:
    """Loads the network that a command's options name.

    Args:
        config: the options.
        transform: what becomes of an image's pixels.
        pooling: what a descriptor consists of.
        runtime: where to compute.
        scales: at which an image is seen; with several, descriptors are their normalised mean.
        seed: of random weights.

    Raises:
        DinotoolsError: no network is named, it cannot be loaded, or has no such pooling.
    """
    require(config.batch_size > 0, f"is {config.batch_size}", "batch_size", "It must be above 0.")
    require(0 <= config.max_bad <= 1, f"is {config.max_bad}", "max_bad", "It must lie between 0 and 1.")
    if config.ckpt is None:
        raise DinotoolsError("no network to describe images with", "--ckpt", "Give a checkpoint, or a released name.")
    if config.ckpt == PIXELS:
        raise DinotoolsError("pixels describe images of one size only", "--ckpt", "Give a network; random is one.")
    backbone = load_backbone(config.ckpt, key=config.key, arch=config.arch, patch_size=config.patch_size, seed=seed)
    pooled: nn.Module = PooledBackbone(backbone.model, pooling)
    least = math.ceil((backbone.patch_size or 1) / min(scales))
    view = View(transform, backbone.mean, backbone.std, least)
    settings = settings_of(backbone, view, pooling, seed)
    return Descriptors(
        backbone=backbone,
        network=(pooled if tuple(scales) == (1.0,) else MultiScale(pooled, scales)).to(runtime.device),
        view=view,
        width=backbone.embed_dim * len(pooling.parts),
        settings=settings | {"scales": list(scales), "precision": runtime.precision},
        runtime=runtime,
        batch_size=config.batch_size,
        max_bad=config.max_bad,
        cache=config.cache,
    )


def fingerprint_of(source: str | Path) -> str:
    """A hash that changes with the files that ``Descriptors.found_in`` reads, by name, size and time of change."""
    path = Path(source).expanduser()
    if not path.is_dir():
        return files.fingerprint(ImageFiles([str(path)]))
    index = path / files.INDEX  # written anew with the features
    return files.fingerprint(ImageFiles([str(index)]) if index.is_file() else ImageFiles.in_folder(path))


def read_vectors(path: Path, width: int) -> Features:
    """Vectors of an array file, mapped.

    Args:
        path: of a ``.npy`` file, (N, width) float16, float32 or float64.
        width: D.

    Raises:
        DinotoolsError: it cannot be read, has another shape or type, or holds NaN.
    """
    remedy = f"Give an array of shape (N, {width}) as numpy.save writes it."
    try:
        array = np.load(path, mmap_mode="c")  # never written to; "r" would draw a warning
    except (OSError, ValueError, EOFError) as error:
        raise DinotoolsError(f"is no array of features ({error})", path, remedy) from error
    if array.ndim != 2 or array.shape[1] != width or array.dtype.kind != "f" or not len(array):
        raise DinotoolsError(f"holds {array.dtype} of shape {array.shape}", path, remedy)
    rows: Tensor = torch.from_numpy(array)
    if not all(chunk.isfinite().all() for chunk in rows.split(8192)):
        raise DinotoolsError("holds features that are not finite (NaN)", path, "Make them again.")
    nowhere = torch.full((len(rows),), -1, dtype=torch.int64)
    return Features((rows,), nowhere, torch.arange(len(rows)))
