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
from torch import Tensor

from dinotools.configs import files
from dinotools.configs.classification import KnnConfig
from dinotools.features.extraction import Features
from dinotools.features.opening import Splits, open_splits
from dinotools.metrics.classification import by_class, top_accuracy
from dinotools.reporting import paper
from dinotools.runtime import device, distributed, run_directory
from dinotools.runtime.errors import DinotoolsError, require
from dinotools.runtime.results import Result
from dinotools.search.exact import Backend, nearest, stable_topk

QUERIES = 4096  # test samples whose neighbours are held at a time; each lot reads the training features once
PAPER_K = 20  # the paper's numbers are for the best k, 20
TOP = 5  # classes kept of a ranking: top-1 and top-5 are reported
VOTE_CHUNK = 512  # test samples whose votes, for every class, exist at a time


def run(config: KnnConfig) -> Result:
    """Opens the features of both splits, lets the neighbours vote and scores.

    Raises:
        DinotoolsError: the checkpoint, the features or the data cannot be used, or k exceeds the training images.
    """
    require(config.temperature > 1e-6, f"is {config.temperature}", "temperature", "It must be above 1e-6.")
    require(config.gpus > 0, f"is {config.gpus}", "gpus", "It must be above 0.")
    runtime = device.prepare(config.device, config.precision, config.workers, config.seed)
    splits = open_splits(config, seed=config.seed, pooling=config.pooling)
    check_neighbours(config.k, len(splits.train_labels), len(splits.classes))
    if config.out is not None and distributed.is_main():
        inputs = (config.ckpt, config.data, config.train, config.val, config.features)
        run_directory.claim(config.out, files.dump(config), overwrite=config.overwrite, inputs=inputs)
    with distributed.joined():
        train, val = splits.load(runtime)
        check_neighbours(config.k, len(train), len(splits.classes))  # some images may be unreadable
        rankings = classify(train, val, config.k, config.temperature, runtime.device, config.backend)

    papers = paper_top1(config, splits)
    scores = {k: accuracies(ranking, val.labels, k) for k, ranking in rankings.items()}
    rows: list[dict[str, Any]] = [
        {"k": k, "top-1 %": top1, "top-5 %": top5} | ({"paper top-1 %": papers} if papers and k == PAPER_K else {})
        for k, (top1, top5) in scores.items()
    ]
    best = max(scores, key=lambda k: scores[k][0])
    return Result(
        title=f"k-NN · {splits.title} · {len(val):,} test images",
        rows=rows,
        metrics={f"k{k}": {"top1": top1, "top5": top5} for k, (top1, top5) in scores.items()}
        | {"per_class": by_class(rankings[best][:, 0], val.labels, splits.classes) | {"k": best}},
        details={**splits.describe(train, val), **runtime.describe()},
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


def paper_top1(config: KnnConfig, splits: Splits) -> float | None:
    """The paper's top-1 of a released network, where protocol and counts are those of the paper on ImageNet-1k."""
    sizes = (splits.settings["resize_size"], splits.settings["crop_size"], len(splits.classes), splits.n_val)
    same = sizes == (256, 224, 1000, 50_000) and (config.temperature, config.pooling) == (0.07, "cls")
    return paper.tables()["table2"].published(splits.checkpoint["source"], "k-NN") if same else None


def knn_accuracy(
    train: Features, val: Features, k: Sequence[int], temperature: float, device: torch.device
) -> dict[int, tuple[float, float]]:
    """Top-1 and top-5 accuracy in percent for every k, searched on a device."""
    rankings = classify(train, val, k, temperature, device)
    return {kk: accuracies(ranking, val.labels, kk) for kk, ranking in rankings.items()}


def accuracies(ranking: Tensor, labels: Tensor, k: int) -> tuple[float, float]:
    """Top-1 and top-5 accuracy in percent of classes (Q, n), best first; top-5 counts min(5, k) classes."""
    return top_accuracy(ranking, labels, 1), top_accuracy(ranking, labels, min(TOP, k))


def classify(
    train: Features,
    val: Features,
    k: Sequence[int],
    temperature: float,
    device: torch.device,
    backend: Backend = "torch",
) -> dict[int, Tensor]:
    """``knn_predict`` on a device, each rank for its share of the test images; every rank gets all the answers.

    Returns:
        k -> classes (Q, min(5, C)) int64 on the CPU, best first.
    """
    n_classes = int(torch.cat([train.labels, val.labels]).max()) + 1
    share = val.tensor().tensor_split(distributed.world_size())[distributed.rank()]
    rankings = knn_predict(
        train.shards, train.labels.to(device), share.to(device), k, temperature, n_classes, backend=backend
    )
    return {kk: distributed.gather(ranking.cpu()) for kk, ranking in rankings.items()}


def knn_predict(
    train_features: Tensor | Sequence[Tensor],
    train_labels: Tensor,
    test_features: Tensor,
    k: Sequence[int],
    temperature: float,
    n_classes: int,
    backend: Backend = "torch",
) -> dict[int, Tensor]:
    """Ranks the classes of every test sample by the weighted vote of its nearest training samples.

    ::

        s = test @ train.T                      # cosine similarities
        for each k:  the k best s vote:  votes[label] += exp(s / temperature)
        classes in descending order of votes; those without a vote in ascending order of class

    Args:
        train_features: (N, D) floats of any precision on any device, or shards of them; normalised by the search.
        train_labels: (N,) int64, on the device of the test features.
        test_features: (Q, D) floats; normalised by the search.
        k: numbers of neighbours; one search serves all.
        temperature: of the votes.
        n_classes: number of classes C.
        backend: of the search.

    Returns:
        k -> classes (Q, min(5, C)) int64, best first.
    """
    rankings: dict[int, list[Tensor]] = {kk: [] for kk in k}
    for queries in test_features.split(QUERIES):
        similarities, neighbours = nearest(queries, train_features, max(k), backend, cosine=True)
        # relative to the nearest neighbour, which changes no ranking: exp(1 / 0.01) would overflow
        weights = ((similarities - similarities[:, :1]) / temperature).exp()
        for kk, ranking in _rank(weights, train_labels[neighbours], sorted(rankings), n_classes):
            rankings[kk].append(ranking)
    return {kk: torch.cat(parts) for kk, parts in rankings.items()}


def _rank(weights: Tensor, labels: Tensor, ascending_k: Sequence[int], n_classes: int) -> Iterator[tuple[int, Tensor]]:
    """Every k with its classes by votes, for one chunk of samples after the other: (chunk, min(5, C))."""
    for weight, label in zip(weights.split(VOTE_CHUNK), labels.split(VOTE_CHUNK), strict=True):
        votes, counted = weight.new_zeros(len(weight), n_classes), 0
        for k in ascending_k:
            votes.scatter_add_(1, label[:, counted:k], weight[:, counted:k])
            counted = k
            # stable: the official unstable sort leaves the order of classes without votes to chance
            yield k, stable_topk(votes, min(TOP, n_classes))[1]
