"""Frozen features in the plane: which images, or classes, a network takes to be alike.

Points: the images of a split, or the mean feature of every class over it; t-SNE after PCA to 30 dimensions, or the
first two principal components. Features: shorter side 256 (bicubic), centre crop 224, [CLS] of the last block.
Paper: appendix, the figure of ImageNet's classes: class means over the validation set, PCA to 30 dimensions,
perplexity 20, learning rate 200, 5,000 iterations. Here t-SNE begins from the first two principal components, which
keeps more of the large-scale arrangement than a random start (Kobak and Berens 2019).

    dinotools embed --ckpt dino_vits16 --data /datasets/imagenet --of classes --out embedded
    dinotools embed --ckpt dino_vits16 --patches photos --out patches
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from dinotools.configs import files
from dinotools.configs.embedding import EmbedConfig
from dinotools.data.images import ImageSource
from dinotools.data.sources import SelectedImages
from dinotools.data.transforms import EvalBatch, EvalImages, EvalTransform, collate_by_shape
from dinotools.evaluation.embedding.patches import map_patches
from dinotools.evaluation.embedding.points import OpenSplit, Points, classes_as_points, images_as_points, open_split
from dinotools.evaluation.embedding.projection import RECIPES, Tsne, kept_neighbours, pca, recipe, tsne
from dinotools.reporting import figures, scatter
from dinotools.runtime import console, device, run_directory
from dinotools.runtime.device import Runtime
from dinotools.runtime.errors import DinotoolsError, RunFailed, require
from dinotools.runtime.results import Result, versions

PICTURE, PAGE, TABLE = "embedding.png", "embedding.html", "embedding.csv"
MAX_POINTS = 10_000  # trustworthiness compares all pairs; and a scatter of more is a blot
MIN_POINTS = 3


def run(config: EmbedConfig) -> Result:
    """Measures, projects, draws; or colours patches, with --patches.

    Raises:
        DinotoolsError: the checkpoint, the features or the data cannot be used, or there are too few points.
        RunFailed: a feature is not finite.
    """
    if config.patches is not None:
        return map_patches(config)
    require(0 < config.limit <= MAX_POINTS, f"is {config.limit}", "limit", f"It must lie between 1 and {MAX_POINTS:,}.")
    runtime = device.prepare(config.device, config.precision, config.workers, config.seed)
    split = open_split(config, runtime)
    settings_for(len(split.images if config.of == "images" else split.classes), config)  # refused before the work
    inputs = (config.ckpt, config.data, config.train, config.val, config.features)
    run_directory.claim(config.out, files.dump(config), overwrite=config.overwrite, inputs=inputs)
    features = split.load()
    points = images_as_points(features) if config.of == "images" else classes_as_points(features)
    found = project(points.features, config)
    kept, neighbours = kept_neighbours(points.features, found.points)
    missing = draw(config, split, points, found, runtime)
    counts = {"points": len(found.points), "classes": len(np.unique(points.labels))}
    return Result(
        title=f"{found.how} of {config.of} · {split.title}",
        rows=[counts | {f"trustworthiness, {neighbours} neighbours": kept} | found.shown],
        metrics=counts | {"trustworthiness": kept, "trustworthiness_neighbours": neighbours} | found.metrics,
        details={**split.details, "data": features.describe() | {"split": split.n_images}, **runtime.describe()},
        notes=tuple(_notes(config, split, found, missing)),
    )


@dataclass(frozen=True)
class Projected:
    """Points in the plane.

    Args:
        points: (N, 2) float64.
        how: the method and its setting, for headings.
        shown: what the method says of them, for the table.
        metrics: the same for machines.
    """

    points: np.ndarray
    how: str
    shown: dict[str, float]
    metrics: dict[str, Any]


def settings_for(n_points: int, config: EmbedConfig) -> Tsne:
    """Settings of t-SNE for so many points.

    Raises:
        DinotoolsError: there are fewer than three, or no more than the perplexity.
    """
    if n_points < MIN_POINTS:
        raise DinotoolsError(f"{n_points} {config.of} make no picture, {MIN_POINTS} do", "--of", "Take more data.")
    return recipe(config.of, n_points, config.perplexity)


def project(features: np.ndarray, config: EmbedConfig) -> Projected:
    """Brings features (N, D) down to two dimensions.

    Raises:
        DinotoolsError: there are fewer than three points, or no more than the perplexity.
        RunFailed: all features are the same.
    """
    settings = settings_for(len(features), config)
    if not np.ptp(features, axis=0).any():
        raise RunFailed("all features are the same", remedy="The network has collapsed; see its training log.")
    if config.method == "pca":
        points, explained = pca(features, 2)
        share = 100 * float(explained.sum())
        metrics = {"explained_variance": explained.tolist()}
        return Projected(points, f"PCA ({share:.0f} % of the variance)", {"variance shown %": share}, metrics)
    how = f"t-SNE (perplexity {settings.perplexity:.3g})"
    with console.messages.status(f"{how} of {len(features):,} {config.of}"):
        points, divergence = tsne(features, settings, config.seed)
    return Projected(points, how, {"KL divergence": divergence}, {"kl_divergence": divergence, **asdict(settings)})


def draw(config: EmbedConfig, split: OpenSplit, points: Points, found: Projected, runtime: Runtime) -> int:
    """Writes picture, page and table, and returns how many points have no thumbnail."""
    present, labels = np.unique(points.labels, return_inverse=True)
    classes = [split.classes[number] for number in present]
    names = [split.images.name(int(i)) for i in points.pictured]
    small = thumbnails(split.images, points.pictured, runtime)
    labelled = config.of == "classes"
    plane = found.points
    title = f"{found.how} of {len(plane):,} {config.of}"
    heading = f"{title}\n{split.title}, {config.split}"
    figures.save(figures.scatter(plane, labels, classes, labelled=labelled, title=heading), config.out / PICTURE)
    footer = f"dinotools {versions()['dinotools']}, seed {config.seed}. Options: config.toml; numbers: results.json."
    lead = f"{split.title}, {config.split}. Hover over a point or tap it to see "
    lead += "the image nearest to the mean of its class." if labelled else "its image."
    short = ["/".join(Path(name).parts[-2:]) for name in names]  # where a page goes, no home folder need go
    cloud = scatter.Cloud(plane, labels, classes, short, small, labelled)
    text = scatter.page(title, lead, cloud, footer)
    run_directory.write_atomically(config.out / PAGE, lambda path: path.write_text(text, encoding="utf-8"))
    rows = [(name, classes[i], *xy) for name, i, xy in zip(names, labels, plane.tolist(), strict=True)]
    run_directory.write_atomically(config.out / TABLE, lambda path: _write_table(path, rows))
    return sum(thumbnail is None for thumbnail in small)


def thumbnails(images: ImageSource, positions: np.ndarray, runtime: Runtime) -> list[np.ndarray | None]:
    """The middle of some images, as (64, 64, 3) uint8; None for those that cannot be read (any more)."""
    chosen = EvalImages(SelectedImages(images, positions.tolist()), EvalTransform(scatter.TILE, scatter.TILE))
    loader = DataLoader(
        chosen,
        batch_size=64,
        num_workers=runtime.workers,
        collate_fn=collate_by_shape,
        generator=torch.Generator(),  # leaves torch's own alone
    )
    found: list[np.ndarray | None] = [None] * len(positions)
    batch: EvalBatch
    for batch in console.track(loader, "thumbnails", total=len(loader)):
        for alike in batch.by_shape():
            for index, image in zip(alike.indices.tolist(), alike.images, strict=True):
                found[index] = image.permute(1, 2, 0).numpy()
    return found


def _write_table(path: Path, rows: Sequence[tuple[Any, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("name", "class", "x", "y"))
        writer.writerows(rows)


def _notes(config: EmbedConfig, split: OpenSplit, found: Projected, missing: int) -> Iterator[str]:
    n_points = len(found.points)
    usual, used = RECIPES[config.of].perplexity, found.metrics.get("perplexity")
    if config.perplexity is None and used not in (None, usual):
        yield f"Perplexity {used:.3g} rather than {usual:g}: {n_points} points have no more neighbours."
    if config.of == "images" and config.limit < split.n_images:
        yield f"{n_points:,} of {split.n_images:,} images, evenly over the classes; --limit takes more or fewer."
    if missing:
        yield f"{missing:,} of {n_points:,} points have no thumbnail: their images are no files, or have moved."
    yield f"Open {config.out / PAGE} in a browser, or {config.out / PICTURE}."
