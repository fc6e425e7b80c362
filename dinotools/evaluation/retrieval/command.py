"""Image retrieval with frozen features: Revisited Oxford and Paris, and one's own photographs.

Every query ranks all database images by the cosine similarity of their [CLS] features; how early the images of the
same building come is the average precision, whose mean over queries is the mAP, Easy, Medium and Hard.
Paper: section 4.2.1, Table 3; official file ``eval_image_retrieval.py``. DINO ViT-S/16 trained on Google Landmarks v2,
Medium / Hard: Oxford 51.5 / 24.3, Paris 75.3 / 51.6.

    dinotools retrieval --dataset roxford5k --data /datasets/roxford5k --ckpt dino_vits16_gldv2
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from dinotools.configs import files
from dinotools.configs.retrieval import RetrievalConfig
from dinotools.data.oxford_paris import RetrievalData, open_retrieval
from dinotools.data.transforms import Shrink
from dinotools.evaluation.retrieval import lists, ranking
from dinotools.evaluation.retrieval.settings import Settings, paper_map, settings_of
from dinotools.features.descriptors import Descriptors, fingerprint_of, open_descriptors
from dinotools.features.extraction import Features
from dinotools.features.pooling import Pooling
from dinotools.features.unit_rows import UnitRows
from dinotools.features.whitening import learn
from dinotools.metrics.ranking import RankingScores
from dinotools.runtime import device, distributed, run_directory
from dinotools.runtime.results import Result
from dinotools.search.expansion import expand


def run(config: RetrievalConfig) -> Result:
    """Describes queries, database and distractors, ranks and scores.

    Raises:
        DinotoolsError: the data set, the checkpoint or an option cannot be used; an image cannot be read.
        RunFailed: a feature is not finite, or has no dimensions.
    """
    settings = settings_of(config)
    runtime = device.prepare(config.device, config.precision, config.workers, config.seed)
    if config.html is not None:
        run_directory.check_writable(config.html.expanduser(), "--html")  # now, not when the work is done
    data = open_retrieval(config.dataset, config.data, crop_queries=settings.crop_queries)
    pooling = Pooling.parse(config.pooling)
    descriptors = open_descriptors(
        config, Shrink(settings.imsize), pooling, runtime, scales=settings.scales, seed=config.seed
    )
    if config.out is not None and distributed.is_main():
        inputs = (config.ckpt, config.data, config.dataset, config.whiten, config.distractors, config.index)
        run_directory.claim(config.out, files.dump(config), overwrite=config.overwrite, inputs=inputs)
    with distributed.joined():
        described = {
            "queries": descriptors.of(data.queries, "the queries", all_needed=True),
            "database": descriptors.of(data.database, "the database", all_needed=True),
        }
        for name in ("whiten", "distractors"):
            if (source := getattr(config, name)) is not None:
                described[name] = descriptors.found_in(source, f"{name} images")
    if not distributed.is_main():
        return Result("", [])  # the others only helped to describe

    whitening = None
    if "whiten" in described:
        whitening = learn(described["whiten"].shards, config.whiten_dim, covariance="centred")
    others = described["distractors"].shards if "distractors" in described else ()
    distractors = UnitRows(others, whitening)
    searched = UnitRows((*described["database"].shards, *others), whitening)
    queries, database = (
        UnitRows(described[name].shards, whitening).tensor(runtime.device) for name in ("queries", "database")
    )
    if config.query_expansion:
        queries = expand(queries, searched, config.query_expansion, config.alpha)
    found = None
    if config.search != "exact":
        found = ranking.search_index(queries, distractors, config, vectors_of(config, descriptors))
    scores = ranking.score(queries, database, distractors, data.truth, found)
    if config.html is not None or config.out is not None:
        write_lists(config, data, lists.rank(config, data, scores, queries, searched))
    return result_of(config, settings, data, descriptors, described, scores, found)


def write_lists(config: RetrievalConfig, data: RetrievalData, found: list[dict[str, Any]]) -> None:
    """What the queries found, where it is asked for: as a page, and in --out as a file."""
    if config.html is not None:
        lists.write_page(config, data, found)
    if config.out is not None:
        run_directory.write_json(config.out / lists.FILE, {"queries": found})


def vectors_of(config: RetrievalConfig, descriptors: Descriptors) -> dict[str, Any]:
    """What the vectors of the distractors depend on; a source that was written anew makes other vectors."""
    assert config.distractors is not None  # an index is of them
    sources = {"of": config.distractors} | ({"whiten": config.whiten} if config.whiten else {})
    states = {f"{name}_state": fingerprint_of(source) for name, source in sources.items()}
    return descriptors.settings | sources | states | {"whiten_dim": config.whiten_dim}


def result_of(
    config: RetrievalConfig,
    settings: Settings,
    data: RetrievalData,
    descriptors: Descriptors,
    described: dict[str, Features],
    scores: dict[str, RankingScores],
    found: ranking.Found | None,
) -> Result:
    """The table: a row for Easy, Medium and Hard."""
    published = paper_map(config, settings, descriptors.backbone.source)
    rows = [
        {
            "protocol": name.capitalize(),
            "mAP %": 100 * of.mean_average_precision,
            **{f"mP@{k} %": 100 * value for k, value in of.mean_precision.items()},
            "queries": len(data.queries) - of.without_positives,
            **({"paper mAP %": published.get(name)} if published else {}),
        }
        for name, of in scores.items()
    ]
    counts = {name: found_.describe() for name, found_ in described.items()}
    return Result(
        title=f"retrieval · {descriptors.backbone.source} · {data.name} · {settings} · {config.pooling}",
        rows=rows,
        metrics={name: _as_metrics(of) for name, of in scores.items()}
        | {"per_query": _per_query(data, scores)}
        | ({} if found is None else {"index": found.about}),
        details={
            **descriptors.describe(),
            "data": {"name": data.name, "ground_truth": str(data.file), **counts},
            "protocol": {"name": config.protocol, "imsize": settings.imsize, "scales": list(settings.scales)},
        },
        notes=tuple(_notes(config, data, scores, found, bool(published))),
    )


def _as_metrics(scores: RankingScores) -> dict[str, Any]:
    means = {"mAP": scores.mean_average_precision, **{f"mP@{k}": v for k, v in scores.mean_precision.items()}}
    plain = {name: None if math.isnan(value) else 100 * value for name, value in means.items()}
    return plain | {"queries": len(scores.average_precision) - scores.without_positives}


def _per_query(data: RetrievalData, scores: dict[str, RankingScores]) -> list[dict[str, Any]]:
    """Average precision of every query in percent; None where it has no positives."""
    columns = {name: percentages(of.average_precision) for name, of in scores.items()}
    return [
        {"query": query, **{name: column[i] for name, column in columns.items()}}
        for i, query in enumerate(data.truth.query_names)
    ]


def percentages(values: Tensor) -> list[float | None]:
    """Fractions (Q,) in percent; None for NaN."""
    return [None if math.isnan(value) else 100 * value for value in values.tolist()]


def _notes(
    config: RetrievalConfig,
    data: RetrievalData,
    scores: dict[str, RankingScores],
    found: ranking.Found | None,
    with_paper: bool,
) -> list[str]:
    notes = []
    without = [f"{of.without_positives} ({name.capitalize()})" for name, of in scores.items() if of.without_positives]
    if without:
        notes.append(f"Queries without positives do not count: {', '.join(without)}.")
    if with_paper and "gldv2" not in (config.ckpt or ""):
        notes.append("The paper does not state sizes and scales of its ImageNet row; these are those of its other row.")
    if found is not None:
        recall = next(name for name in found.about if name.startswith("recall"))
        notes.append(
            f"Distractors beyond the {found.about['depth']:,} that the {found.about['kind']} index found for a query "
            "are unknown; positives behind them count as not found, and a distractor that it missed pushes none down. "
            f"Recall@{recall.rpartition('_')[2]} of the index against exact search: {100 * found.about[recall]:.1f} %."
        )
    if config.html is not None:
        notes.append(f"Open {config.html} in a browser.")
    return notes
