"""k-NN of teacher and student while a run goes: whether what it learns is any good."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from dinotools.configs.pretraining import PretrainConfig
from dinotools.data.sources import ImageSource, SelectedImages
from dinotools.data.transforms import EvalTransform
from dinotools.evaluation.knn import knn_accuracy
from dinotools.features.extraction import Features, View, extract
from dinotools.models.zoo import normalization_of
from dinotools.pretraining.step import TrainingState
from dinotools.runtime import distributed
from dinotools.runtime.device import Runtime

TEMPERATURE = 0.07  # of the k-NN votes, the paper's


def knn_transform(config: PretrainConfig) -> EvalTransform:
    """The k-NN's images: of a global crop's size; resized in the paper's proportion of 256 to 224 if not told."""
    crop = config.crop_sizes[0]
    return EvalTransform(config.knn_resize_size or round(crop * 256 / 224), crop)


def knn_of(
    state: TrainingState, config: PretrainConfig, splits: Sequence[ImageSource], runtime: Runtime
) -> dict[str, float]:
    """k-NN top-1 in percent of both backbones: ``{"knn_teacher": ..., "knn_student": ...}``.

    Args:
        state: the networks.
        config: neighbours and image sizes.
        splits: labelled training and test images.
        runtime: where to compute.
    """
    mean, std = normalization_of(state.teacher.backbone)
    view = View(knn_transform(config), mean, std)
    scores = {}
    for name, network in (("teacher", state.teacher), ("student", state.student)):
        train, val = (_features(network.backbone, images, runtime, view, config.max_bad) for images in splits)
        scores[f"knn_{name}"] = knn_accuracy(train, val, (config.knn_k,), TEMPERATURE, runtime.device)[config.knn_k][0]
    return scores


def _features(network: nn.Module, images: ImageSource, runtime: Runtime, view: View, max_bad: float) -> Features:
    """Features of all images on every rank; each extracts its share."""
    n, ranks, rank = len(images), distributed.world_size(), distributed.rank()
    mine = SelectedImages(images, range(n * rank // ranks, n * (rank + 1) // ranks))
    part = extract(network, mine, runtime, view, max_bad=max_bad, name="the k-NN")
    if ranks == 1:
        return part
    rows = tuple(distributed.gather(shard) for shard in (part.tensor(), part.labels, part.indices))
    return Features((rows[0],), rows[1], rows[2], part.skipped)
