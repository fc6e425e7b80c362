"""k-NN classification with frozen features: the paper's simplest measure of a representation.

Features: shorter side 256 (bicubic), centre crop 224, [CLS] of the last block, L2-normalised. Every one of the k
nearest training images votes for its class with weight exp(cosine similarity / 0.07).
Paper: section 4.1, Tables 2, 7 and 10; official file ``eval_knn.py``. ImageNet top-1: ViT-S/16 74.5, ViT-B/8 77.4,
the best of k = 10, 20, 100, 200, which is 20.

    dinotools knn --ckpt dino_vits16 --data /datasets/imagenet
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dinotools.configs import files
from dinotools.configs.classification import KnnConfig
from dinotools.data.sources import open_labelled_splits
from dinotools.features import Features, extract
from dinotools.metrics.classification import top_accuracy
from dinotools.models.checkpoints import RANDOM, load_backbone
from dinotools.models.zoo import ZOO
from dinotools.runtime import device, run_directory
from dinotools.runtime.errors import DinotoolsError, require
from dinotools.runtime.results import Result
from dinotools.search import nearest

PAPER_K = 20  # the paper's numbers are for the best k, 20
TOP = 5  # classes kept of a ranking: top-1 and top-5 are reported


def run(config: KnnConfig) -> Result:
    """Loads the backbone, extracts the features of both splits, votes and scores.

    Raises:
        DinotoolsError: the checkpoint or the data cannot be used, or k exceeds the training images.
    """
    for name in ("temperature", "batch_size", "resize_size", "crop_size"):
        require(getattr(config, name) > 0, f"is {getattr(config, name)}", name, "It must be above 0.")
    require(0 <= config.max_bad <= 1, f"is {config.max_bad}", "max_bad", "It must lie between 0 and 1.")
    runtime = device.prepare(config.device, config.precision, config.workers, config.seed)
    train, val = open_labelled_splits(config.data, config.train, config.val, download=config.download)
    check_neighbours(config.k, len(train), len(train.classes))
    backbone = load_backbone(
        config.ckpt,
        key=config.key,
        arch=config.arch,
        patch_size=config.patch_size,
        img_size=config.crop_size if config.ckpt == RANDOM else None,
        seed=config.seed,
    )
    require(
        config.crop_size >= (backbone.patch_size or 1),
        f"a crop of {config.crop_size} pixels is smaller than a patch of {backbone.patch_size}",
        "crop_size",
        "Use a larger crop.",
    )
    if config.out is not None:
        inputs = (config.ckpt, config.data, config.train, config.val)
        run_directory.claim(config.out, files.dump(config), overwrite=config.overwrite, inputs=inputs)
    sizes = {"resize_size": config.resize_size, "crop_size": config.crop_size}
    features = {
        split: extract(
            backbone.model.to(runtime.device),
            images,
            runtime,
            batch_size=config.batch_size,
            max_bad=config.max_bad,
            name=split,
            **sizes,
        )
        for split, images in (("train", train), ("val", val))
    }
    scores = knn_accuracy(features["train"], features["val"], config.k, config.temperature, runtime.device)

    paper = paper_top1(config, n_classes=len(train.classes), n_val=len(val))
    rows: list[dict[str, Any]] = [
        {"k": k, "top-1 %": top1, "top-5 %": top5} | ({"paper top-1 %": paper} if paper and k == PAPER_K else {})
        for k, (top1, top5) in scores.items()
    ]
    return Result(
        title=f"k-NN · {backbone.source} · {config.data or config.val} · {len(features['val'].labels):,} test images",
        rows=rows,
        metrics={f"k{k}": {"top1": top1, "top5": top5} for k, (top1, top5) in scores.items()},
        details={
            "checkpoint": backbone.describe(),
            "data": {split: found.describe() for split, found in features.items()} | {"classes": len(train.classes)},
            **runtime.describe(),
        },
    )


def check_neighbours(k: Sequence[int], n_train: int, n_classes: int, option: str = "--k") -> None:
    """Refuses settings in which a vote means nothing.

    Args:
        k: numbers of neighbours.
        n_train: images that can vote.
        n_classes: their classes.
        option: what an error calls k.

    Raises:
        DinotoolsError: a k is not positive or exceeds n_train, or there is only one class.
    """
    if not k or min(k) < 1:
        raise DinotoolsError(
            f"{','.join(map(str, k)) or 'nothing'} is no list of neighbours", option, f"Try {option} 20."
        )
    if max(k) > n_train:
        fitting = ",".join(str(number) for number in k if number <= n_train) or str(n_train)
        raise DinotoolsError(
            f"{max(k)} neighbours of only {n_train} training images", option, f"Use {option} {fitting}."
        )
    if n_classes < 2:
        raise DinotoolsError("all training images are of one class", "--data", "A k-NN needs two classes at least.")


def paper_top1(config: KnnConfig, n_classes: int, n_val: int) -> float | None:
    """The paper's top-1 of a released network, where protocol and counts are those of the paper on ImageNet-1k."""
    protocol = (config.resize_size, config.crop_size, config.temperature, n_classes, n_val)
    same = config.ckpt in ZOO and protocol == (256, 224, 0.07, 1000, 50_000)
    return ZOO[config.ckpt].knn_top1 if same else None


def knn_accuracy(
    train: Features, val: Features, k: Sequence[int], temperature: float, device: torch.device
) -> dict[int, tuple[float, float]]:
    """Top-1 and top-5 accuracy in percent for every k, searched on a device; top-5 counts min(5, k) classes."""
    n_classes = int(torch.cat([train.labels, val.labels]).max()) + 1
    database, labels, queries, truth = (
        tensor.to(device) for tensor in (train.features, train.labels, val.features, val.labels)
    )
    rankings = knn_predict(database, labels, queries, k, temperature, n_classes)
    return {
        kk: (top_accuracy(ranking, truth, 1), top_accuracy(ranking, truth, min(TOP, kk)))
        for kk, ranking in rankings.items()
    }


def knn_predict(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    k: Sequence[int],
    temperature: float,
    n_classes: int,
) -> dict[int, Tensor]:
    """Ranks the classes of every test sample by the weighted vote of its nearest training samples.

    ::

        s = test @ train.T                      # cosine similarities
        for each k:  the k best s vote:  votes[label] += exp(s / temperature)
        classes in descending order of votes; those without a vote in ascending order of class

    Args:
        train_features: (N, D) floats; normalised here.
        train_labels: (N,) int64.
        test_features: (Q, D) floats on the same device; normalised here.
        k: numbers of neighbours; one search serves all.
        temperature: of the votes.
        n_classes: number of classes C.

    Returns:
        k -> classes (Q, min(5, C)) int64, best first.
    """
    test_features = F.normalize(test_features, dim=1)
    similarities, neighbours = nearest(test_features, F.normalize(train_features, dim=1), max(k))
    # relative to the nearest neighbour, which changes no ranking: exp(1 / 0.01) would overflow
    weights = ((similarities - similarities[:, :1]) / temperature).exp()
    labels = train_labels[neighbours]
    return {kk: torch.cat(list(_rank(weights[:, :kk], labels[:, :kk], n_classes))) for kk in k}


def _rank(weights: Tensor, labels: Tensor, n_classes: int, chunk: int = 1024) -> Iterator[Tensor]:
    """Classes by votes, for one chunk of samples after the other: (chunk, min(5, C))."""
    for weight, label in zip(weights.split(chunk), labels.split(chunk), strict=True):
        votes = weight.new_zeros(len(weight), n_classes).scatter_add_(1, label, weight)
        # stable: the official unstable sort leaves the order of classes without votes to chance
        yield votes.sort(dim=1, descending=True, stable=True).indices[:, :TOP]
