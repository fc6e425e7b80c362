"""What becomes a point: single images, or the means of classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dinotools.configs.embedding import EmbedConfig
from dinotools.data.images import ImageFiles, ImageSource
from dinotools.data.sources import SelectedImages, open_available_splits
from dinotools.features import files
from dinotools.features.extraction import Extractor, Features, extract
from dinotools.features.network import check_sizes, open_network, settings_of
from dinotools.features.pooling import Pooling
from dinotools.runtime.device import Runtime
from dinotools.runtime.errors import DinotoolsError, require

NO_CLASSES = ("all images",)


@dataclass(frozen=True)
class OpenSplit:
    """The images of one split, opened but not yet extracted.

    Args:
        images: those that may be drawn; where stored features have outlived the files, they are unreadable.
        classes: names of the classes; one name for images without classes.
        n_images: images of the split.
        title: network and data.
        details: for results.json.
        load: the features of ``images``; may raise DinotoolsError or RunFailed.
    """

    images: ImageSource
    classes: Sequence[str]
    n_images: int
    title: str
    details: dict[str, Any]
    load: Callable[[], Features]


@dataclass(frozen=True)
class Points:
    """What is drawn.

    Args:
        features: (N, D) float32.
        labels: class of every point (N,) int64.
        pictured: for every point, the position of the image that stands for it (N,) int64.
    """

    features: np.ndarray
    labels: np.ndarray
    pictured: np.ndarray


def open_split(config: EmbedConfig, runtime: Runtime) -> OpenSplit:
    """Opens the features of a split, or the images that they are extracted of: only as many as will be drawn.

    Raises:
        DinotoolsError: nothing, or contradicting things, are named; the split, checkpoint or files are unusable.
    """
    return _open_images(config, runtime) if config.features is None else _open_stored(config, config.features)


def _open_stored(config: EmbedConfig, features: Path) -> OpenSplit:
    for name in ("ckpt", "data", "train", "val", "cache"):
        require(
            getattr(config, name) is None,
            "was given beside --features",
            name,
            "Give either the folder of features or the images.",
        )
    folder = features / config.split
    index, labels = files.read_index(folder), files.read_labels(folder)

    def load() -> Features:
        found = files.read_features(folder)
        if config.of == "classes":
            return found
        chosen = torch.zeros(len(found), dtype=torch.bool)
        chosen[torch.from_numpy(balanced(found.labels.numpy(), config.limit, config.seed))] = True
        return found.select(chosen)

    return OpenSplit(
        images=ImageFiles(files.read_names(folder), labels.tolist(), index["classes"]),
        classes=index["classes"] or NO_CLASSES,
        n_images=index["images"],
        title=f"{index['checkpoint']['source']} · {features}",
        details={"checkpoint": index["checkpoint"], "features": index["settings"]},
        load=load,
    )


def _open_images(config: EmbedConfig, runtime: Runtime) -> OpenSplit:
    check_sizes(config)
    named = config.data or config.train or config.val
    splits = open_available_splits(config.data, config.train, config.val, download=config.download)
    if config.split not in splits:
        raise DinotoolsError(f"has no {config.split} images", named, "Give another --split.")
    images = source = splits[config.split]
    if config.of == "images":
        labels = np.zeros(len(source), np.int64) if source.labels is None else np.asarray(source.labels)
        images = SelectedImages(source, balanced(labels, config.limit, config.seed).tolist())
    backbone, network, view = open_network(config, config, Pooling(), config.seed)
    settings = settings_of(backbone, view, Pooling(), config.seed) | {"precision": runtime.precision}

    def load() -> Features:
        network.to(runtime.device)
        if config.cache is None:
            sizes: dict[str, Any] = {"batch_size": config.batch_size, "max_bad": config.max_bad}
            return extract(network, images, runtime, view, name=config.split, **sizes)
        extractor = Extractor(network, images, runtime, view, config.max_bad)
        described = backbone.describe()
        return files.cached_features(config.cache, settings, described, extractor, config.split, config.batch_size)

    return OpenSplit(
        images=images,
        classes=source.classes or NO_CLASSES,
        n_images=len(source),
        title=f"{backbone.source} · {named}",
        details={
            "checkpoint": backbone.describe(),
            "features": settings,
        },
        load=load,
    )


def balanced(labels: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """Chooses images at random, one of every class, then a second one of every class, and so on.

    Args:
        labels: class of every image (N,) int64.
        limit: how many to choose at most.
        seed: of the choice.

    Returns:
        Positions, ascending: (min(limit, N),) int64.
    """
    shuffled = np.random.RandomState(seed).permutation(len(labels))
    by_class = np.argsort(labels[shuffled], kind="stable")  # of the shuffled images
    counts = np.unique(labels, return_counts=True)[1]
    nth_of_its_class = np.empty(len(labels), np.int64)
    nth_of_its_class[by_class] = np.concatenate([np.arange(count) for count in counts])
    return np.sort(shuffled[np.argsort(nth_of_its_class, kind="stable")[:limit]])


def _by_shard(features: Features, values: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(zip(features.shards, values.split([len(shard) for shard in features.shards]), strict=True))


def images_as_points(features: Features) -> Points:
    """A point per image; images without classes count as one."""
    return Points(features.tensor().numpy(), features.labels.clamp(min=0).numpy(), features.indices.numpy())


def classes_as_points(features: Features) -> Points:
    """A point per class that has images: the mean of its features, pictured by the image that is nearest to it."""
    labels = features.labels.clamp(min=0)
    counts = labels.bincount()
    sums = torch.zeros(len(counts), features.width, dtype=torch.float64)
    for shard, numbers in _by_shard(features, labels):
        sums.index_add_(0, numbers, shard.double())
    means = sums / counts[:, None]
    distances = torch.cat([(shard - means[numbers]).norm(dim=1) for shard, numbers in _by_shard(features, labels)])
    nearest_first = np.lexsort((distances.numpy(), labels.numpy()))  # class by class
    present, first = np.unique(labels.numpy()[nearest_first], return_index=True)
    return Points(means[present].float().numpy(), present, features.indices.numpy()[nearest_first[first]])
