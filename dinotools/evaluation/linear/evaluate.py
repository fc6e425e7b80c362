"""Scores a linear classifier that is there already: one of ours, an official file, or one that the authors released."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dinotools.configs.linear import LinearConfig
from dinotools.data.images import ImageFiles
from dinotools.data.sources import LabelledImages, open_images
from dinotools.evaluation.linear.classifier import ClassifierFile, read_classifier, score
from dinotools.evaluation.linear.inputs import asked_poolings, official_order, open_probed, papers_pooling
from dinotools.evaluation.linear.paper import papers_top1
from dinotools.evaluation.linear.training import claim_out
from dinotools.features.extraction import Features, extract
from dinotools.features.files import read_index
from dinotools.features.network import settings_of
from dinotools.features.opening import open_splits
from dinotools.features.pooling import Pooling
from dinotools.metrics.classification import by_class
from dinotools.runtime.device import Runtime
from dinotools.runtime.errors import DinotoolsError
from dinotools.runtime.results import Result

Opened = tuple[str, Features, Sequence[str], dict[str, Any]]  # the network's source, test features, classes, details


def evaluate(config: LinearConfig, runtime: Runtime) -> Result:
    """Scores a classifier that is there on the test images.

    Raises:
        DinotoolsError: the file is no classifier, or not one for this network and these classes.
        RunFailed: a feature is not finite.
    """
    assert config.evaluate is not None
    file = read_classifier(config.evaluate)
    opened = _stored_features if config.features is not None else _extracted_features
    source, val, classes, details = opened(config, file, runtime)
    scored = score(file.classifier.to(runtime.device), val.tensor(), val.labels)
    row = {"top-1 %": scored.top1, "top-5 %": scored.top5, "loss": scored.loss}
    published = None
    if file.source == source:  # the authors' own pair
        published = papers_top1(source, details["features"], len(classes), len(val) + len(val.skipped))
    return Result(
        title=f"linear · {source} · {file.source} · {len(val):,} test images",
        rows=[row | ({"paper top-1 %": published} if published else {})],
        metrics={"top1": scored.top1, "top5": scored.top5, "loss": scored.loss}
        | {"per_class": by_class(scored.predictions, val.labels, classes)},
        details=details | {"classifier": file.describe(), **runtime.describe()},
    )


def _extracted_features(config: LinearConfig, file: ClassifierFile, runtime: Runtime) -> Opened:
    """Features of the test images alone, in the official order."""
    where = config.val or config.data
    if where is None:
        raise DinotoolsError("no images to evaluate on", "--data", "Give --data or --val.")
    source = ImageFiles.in_folder(where) if config.val else open_images(where, "val", download=config.download)
    images = LabelledImages(source, file.classes or source.classes or (), where)
    backbone, network, view = open_probed(config, file.pooling)
    settings = settings_of(backbone, view, network.pooling, config.seed)
    file.check(backbone.embed_dim * len(network.pooling.parts), images.classes, settings)
    claim_out(config)
    network.to(runtime.device)
    val = extract(
        network, images, runtime, view, batch_size=config.batch_size, max_bad=config.max_bad, name="test images"
    )
    details = {
        "checkpoint": backbone.describe(),
        "features": settings,
        "data": {"val": val.describe(), "classes": len(images.classes)},
    }
    return backbone.source, val, images.classes, details


def _stored_features(config: LinearConfig, file: ClassifierFile, runtime: Runtime) -> Opened:
    """Features from files, in the official order."""
    assert config.features is not None
    index = read_index(config.features / "val")
    has_tokens = index["settings"]["patch_size"] is not None
    unless = file.pooling or papers_pooling(index["checkpoint"]["embed_dim"], has_tokens)
    (pooling,) = asked_poolings(config, Pooling.parse(index["settings"]["pooling"]), [unless])
    splits = open_splits(config, seed=config.seed, pooling=str(pooling))
    file.check(index["checkpoint"]["embed_dim"] * len(pooling.parts), splits.classes, index["settings"])
    claim_out(config)
    train, val = splits.load(runtime)
    ordered = Features((official_order(val.tensor(), pooling),), val.labels, val.indices, val.skipped)
    return splits.checkpoint["source"], ordered, splits.classes, splits.describe(train, val)
