"""What a protocol measures: frozen features of labelled training and test images, wherever they come from.

``--features DIR`` reads them from files; ``--ckpt`` and ``--data`` extract them, in memory or, with ``--cache``, into
files that the next command finds again. Opening is cheap and checks everything that can be checked; ``load`` does the
work.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dinotools.configs.shared import FeatureOptions
from dinotools.data.images import ImageSource
from dinotools.data.sources import SelectedImages, open_labelled_splits
from dinotools.data.transforms import EvalTransform
from dinotools.features import files
from dinotools.features.extraction import Extractor, Features, View, extract
from dinotools.features.network import check_sizes, in_chans_of, open_network, settings_of
from dinotools.features.pooling import PooledBackbone, Pooling, available_pooling
from dinotools.models.checkpoints import load_backbone
from dinotools.runtime import distributed
from dinotools.runtime.device import Runtime
from dinotools.runtime.errors import DinotoolsError, require


@dataclass(frozen=True)
class Splits(ABC):
    """Labelled training and test images, opened but not yet extracted.

    Args:
        classes: names of the classes that the labels number.
        train_labels: class of every training image (N,) int64.
        train_names: names of the training images.
        n_val: number of test images.
        title: network and data, for a heading.
        checkpoint: what results.json says of the network.
        settings: what the features depend on beside the images, as in ``index.json``.
        available: the most that a feature can consist of.
    """

    classes: Sequence[str]
    train_labels: Tensor
    train_names: Sequence[str]
    n_val: int
    title: str
    checkpoint: dict[str, Any]
    settings: dict[str, Any]
    available: Pooling

    @abstractmethod
    def pooled(self, pooling: Pooling) -> Splits:
        """The same images with another pooling.

        Raises:
            DinotoolsError: the network has no such tokens, or the files lack a part of it.
        """

    @abstractmethod
    def load(self, runtime: Runtime, train_positions: Sequence[int] | None = None) -> tuple[Features, Features]:
        """Features of the training images, or of those at some ascending positions only, and of the test images.

        Raises:
            DinotoolsError: too many unreadable images, or files that are incomplete or damaged.
            RunFailed: a feature is not finite.
        """

    def describe(self, train: Features, val: Features) -> dict[str, Any]:
        """What results.json says of network, data and transform."""
        data = {"train": train.describe(), "val": val.describe(), "classes": len(self.classes)}
        return {"checkpoint": self.checkpoint, "features": self.settings, "data": data}


@dataclass(frozen=True)
class _StoredSplits(Splits):
    folder: Path
    pooling: Pooling

    def pooled(self, pooling: Pooling) -> Splits:
        if not set(pooling.parts) <= set(self.available.parts):
            raise DinotoolsError(
                f"holds {self.available}, but {pooling} is needed",
                self.folder,
                f"Extract the features with --pooling {pooling}.",
            )
        return dataclasses.replace(self, pooling=pooling)

    def load(self, runtime: Runtime, train_positions: Sequence[int] | None = None) -> tuple[Features, Features]:
        train, val = (self._pooled(files.read_features(self.folder / split)) for split in ("train", "val"))
        if train_positions is not None:
            train = train.select(torch.isin(train.indices, torch.tensor(train_positions, dtype=torch.int64)))
        return train, val

    def _pooled(self, stored: Features) -> Features:
        columns = self.available.columns(self.pooling, stored.width)
        assert columns is not None  # checked by pooled()
        if len(columns) == stored.width:
            return stored
        first, last = int(columns[0]), int(columns[-1])
        adjacent = last - first + 1 == len(columns)  # then they stay in the files; otherwise they are copied
        shards = tuple(shard[:, first : last + 1] if adjacent else shard[:, columns] for shard in stored.shards)
        return Features(shards, stored.labels, stored.indices, stored.skipped)


@dataclass(frozen=True)
class _ImageSplits(Splits):
    train: ImageSource
    val: ImageSource
    network: PooledBackbone
    view: View
    batch_size: int
    max_bad: float
    cache: Path | None

    def pooled(self, pooling: Pooling) -> Splits:
        settings = self.settings | {"pooling": str(pooling)}
        return dataclasses.replace(self, network=PooledBackbone(self.network.backbone, pooling), settings=settings)

    def load(self, runtime: Runtime, train_positions: Sequence[int] | None = None) -> tuple[Features, Features]:
        self.network.to(runtime.device)
        if train_positions is None:
            train = self._extract(self.train, "train", runtime)
        else:
            train = self._extract(SelectedImages(self.train, train_positions), "train", runtime)
            positions = torch.tensor(train_positions, dtype=torch.int64)
            train = dataclasses.replace(train, indices=positions[train.indices])
        return train, self._extract(self.val, "val", runtime)

    def _extract(self, images: ImageSource, name: str, runtime: Runtime) -> Features:
        if self.cache is None:
            if distributed.world_size() > 1:
                raise DinotoolsError(
                    "several processes share features through files", "--gpus", "Add --cache DIR, or use --features."
                )
            options = {"batch_size": self.batch_size, "max_bad": self.max_bad, "name": name}
            return extract(self.network, images, runtime, self.view, **options)  # type: ignore[arg-type]
        settings = self.settings | {"precision": runtime.precision}
        extractor = Extractor(self.network, images, runtime, self.view, self.max_bad)
        return files.cached_features(self.cache, settings, self.checkpoint, extractor, name, self.batch_size)


def open_splits(config: FeatureOptions, *, seed: int, pooling: str | None = None) -> Splits:
    """Opens what a protocol's options name.

    Args:
        config: its options.
        seed: of random weights.
        pooling: what a feature shall consist of; None for the network's own feature, or all that the files hold.

    Raises:
        DinotoolsError: nothing, or contradicting things, are named; a split, its classes or a checkpoint is unusable;
            stored features lack a part of the pooling.
    """
    wanted = None if pooling is None else Pooling.parse(pooling)
    splits = _open_images(config, seed) if config.features is None else _open_stored(config, config.features, seed)
    return splits if wanted is None else splits.pooled(wanted)


def _open_images(config: FeatureOptions, seed: int) -> Splits:
    check_sizes(config)
    backbone, network, view = open_network(config, config, Pooling(), seed)
    train, val = open_labelled_splits(
        config.data, config.train, config.val, download=config.download, in_chans=in_chans_of(backbone.model)
    )
    return _ImageSplits(
        classes=train.classes,
        train_labels=torch.tensor(train.labels, dtype=torch.int64),
        train_names=_Names(train),
        n_val=len(val),
        title=f"{backbone.source} · {config.data or config.val}",
        checkpoint=backbone.describe(),
        settings=settings_of(backbone, view, Pooling(), seed),
        available=available_pooling(backbone.model),
        train=train,
        val=val,
        network=network,
        view=view,
        batch_size=config.batch_size,
        max_bad=config.max_bad,
        cache=config.cache,
    )


class _Names(Sequence[str]):
    """Names of a source's images, made when asked for."""

    def __init__(self, images: ImageSource) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Any:
        return self.images.name(index)


def _open_stored(config: FeatureOptions, folder: Path, seed: int) -> Splits:
    for name in ("data", "train", "val", "cache"):
        require(
            getattr(config, name) is None,
            "was given beside --features",
            name,
            "Give either the folder of features or the images.",
        )
    found = list(files.splits_in(folder))
    if len(found) == 1:
        raise DinotoolsError(
            f"holds features of {found[0]}/ only: its extraction was interrupted, or its data were not split",
            folder,
            "Repeat the `dinotools features` command that began it, with --data, or --train and --val.",
        )
    train, val = (files.read_index(folder / split) for split in ("train", "val"))
    _check_same(train, val, folder)
    for name in ("resize_size", "crop_size"):
        given, stored = getattr(config, name), train["settings"][name]
        unset = FeatureOptions.__dataclass_fields__[name].default
        require(given in (unset, stored), f"is {given}, but the features' images had {stored}", name, "Leave it out.")
    if config.ckpt is not None:
        _check_checkpoint(config, train, folder, seed)
    available = Pooling.parse(train["settings"]["pooling"])
    return _StoredSplits(
        classes=train["classes"],
        train_labels=files.read_labels(folder / "train"),
        train_names=files.read_names(folder / "train"),
        n_val=val["images"],
        title=f"{train['checkpoint']['source']} · {folder}",
        checkpoint=train["checkpoint"],
        settings=train["settings"],
        available=available,
        folder=folder,
        pooling=available,
    )


def _check_same(train: dict[str, Any], val: dict[str, Any], folder: Path) -> None:
    if train["settings"] != val["settings"]:
        raise DinotoolsError("train/ and val/ were extracted with other settings", folder, "Extract them together.")
    if train["classes"] is None or val["classes"] is None:
        raise DinotoolsError("the images have no classes", folder, "Extract a data set sorted into class folders.")
    if train["classes"] != val["classes"]:
        raise DinotoolsError("train/ and val/ number other classes", folder, "Extract them together.")


def _check_checkpoint(config: FeatureOptions, index: dict[str, Any], folder: Path, seed: int) -> None:
    """Refuses features of another network than --ckpt names."""
    assert config.ckpt is not None
    named = load_backbone(config.ckpt, key=config.key, arch=config.arch, patch_size=config.patch_size)
    stored = index["settings"]
    found = settings_of(named, View(EvalTransform()), Pooling(), seed)
    if any(found[name] != stored[name] for name in ("sha256", "key", "arch", "patch_size", "seed")):
        raise DinotoolsError(
            f"holds features of another checkpoint, {index['checkpoint']['source']}",
            folder,
            "Leave --ckpt out, or extract its features.",
        )
