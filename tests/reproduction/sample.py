"""A report of small made-up results: every kind of part that its page can have."""

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

from dinotools.data.masks import write_mask
from dinotools.evaluation.davis.layout import FRAMES
from dinotools.reporting import paper
from dinotools.reproduction.collecting import Found
from dinotools.reproduction.comparison import Cell, Comparison, TableComparison

CHECKPOINT = {"source": "dino_vits16", "sha256": "ab" * 32, "key": "teacher", "arch": "vit_small", "patch_size": 16}


def result(folder: Path, command: str, metrics: dict, **config) -> Found:
    """A results.json, and the config.toml beside it."""
    folder.mkdir(parents=True)
    document = {
        "command": f"dinotools {command}",
        "metrics": metrics,
        "details": {
            "checkpoint": CHECKPOINT,
            "data": {"train": {"images": 1280, "skipped": []}, "val": {"images": 50, "skipped": ["<odd>.png"]}},
            "device": "cpu",
            "precision": "fp32",
        },
        "config": {"ckpt": "dino_vits16", "seed": 7, **config},
        "versions": {"dinotools": "0.1.0", "torch": "2.14.1"},
        "machine": {"system": "Linux", "python": "3.11.7"},
        "wall_time_s": 12.5,
        "peak_memory_mb": {"host": 812.0},
    }
    (folder / "results.json").write_text(json.dumps(document))
    (folder / "config.toml").write_text('ckpt = "dino_vits16"\n')
    return Found(document, folder)


def photo(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.RandomState(seed).randint(0, 256, (6, 8, 3)).astype(np.uint8)
    Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC).save(path)
    return path


def knn(folder: Path) -> Found:
    accuracy = {f"class {i}": 10.0 * i for i in range(1, 11)}
    wrong = [{"true": "class 1", "predicted": "<b>class 2</b>", "count": 12}]
    metrics = {"k20": {"top1": 74.46, "top5": 90.0}}
    return result(
        folder, "knn", {**metrics, "per_class": {"accuracy": accuracy, "confusions": wrong, "k": 20}}, data="/in1k"
    )


def linear(folder: Path) -> Found:
    rates, poolings = (0.001, 0.01, 0.1), ("cls", "cls4", "cls+avg", "cls4+avg")
    grid = [
        {"lr": rate, "pooling": of, "holdout_top1": None if rate == 0.1 and of == "cls" else 60.0 + i + 4 * j}
        for j, rate in enumerate(rates)
        for i, of in enumerate(poolings)
    ]
    chosen = {"lr": 0.1, "pooling": "cls4+avg", "holdout_top1": 71.0}
    return result(folder, "linear", {"top1": 70.25, "top5": 90.0, "grid": grid, "chosen": chosen}, data="/in1k")


def embedding(folder: Path) -> Found:
    found = result(folder, "embed", {"trustworthiness": 0.95, "perplexity": 30.0}, of="images", method="tsne")
    points = np.random.RandomState(0).randn(60, 2)
    with (folder / "embedding.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("name", "class", "x", "y"), *((f"{i}", f"c{i % 3}", *xy) for i, xy in enumerate(points))]
        )
    (folder / "embedding.html").write_text("<!doctype html><title>points</title>")
    return found


def attention(folder: Path) -> Found:
    found = result(folder, "attention", {"inputs": [{"name": "/home/me/cat.jpg"}]})
    photo(folder / "overview.png", 1)
    return found


def davis(folder: Path, data: Path) -> Found:
    sequences = {name: {"J&F-Mean": 61.25} for name in ("bear", "gone")}
    found = result(folder, "davis", {"global": {"J&F-Mean": 61.25}, "sequences": sequences}, data=str(data))
    for name in sequences:
        for frame in range(3):
            mask = np.zeros((240, 320), np.uint8)
            mask[60:120, 80:160], mask[130:200, 200:260] = 1, 2
            write_mask(folder / "masks" / name / f"{frame:05}.png", mask)
            if name == "bear":
                photo(data / FRAMES / name / f"{frame:05}.jpg", frame)
    return found


def retrieval(folder: Path, photos: Path) -> Found:
    found = result(folder, "retrieval", {"medium": {"mAP": 40.0}}, dataset="roxford5k")
    hits = [
        {"image": str(photo(photos / f"d{i}.jpg", i)), "similarity": 0.9 - i / 20, "verdict": verdict}
        for i, verdict in enumerate(("positive", "negative", "junk"))
    ]
    queries = [
        {
            "name": f"query_{i}",
            "image": str(photos / f"d{i % 3}.jpg"),
            "box": [10, 10, 200, 200],
            "scores": {"AP Easy": None, "AP Medium": None if i == 9 else i / 10, "AP Hard": 0.1},
            "missed": i,
            "hits": hits,
        }
        for i in range(10)
    ]
    (folder / "lists.json").write_text(json.dumps({"queries": queries}))
    return found


def comparison(root: Path) -> Comparison:
    """Three numbers beside those of Table 2, one of each verdict, and a result of every other kind."""
    table = paper.tables()["table2"]
    found = knn(root / "knn")
    row, other, *_ = [row for row in table.rows if len(row.values) > 1]
    k_nn, linear_probe = (next(c for c in table.columns if c.name == name) for name in ("k-NN", "linear"))

    def cell(of, column, off, differing=()):
        return Cell(of, column, of.values[column.name] + off, of.values[column.name], 0.3, differing, found)

    measured = [
        cell(row, k_nn, 0.1),
        cell(row, linear_probe, -2.5),
        cell(other, k_nn, -20.0, ("epochs is 3, not 300", "a <b> c", "three", "four")),
    ]
    known = {(each.row.name, each.column.name) for each in measured}
    missing = [
        Cell(of, column, None, of.values[column.name], 0.3, (), None)
        for of in table.rows
        for column in table.columns
        if column.name in of.values and (of.name, column.name) not in known
    ]
    others = (
        linear(root / "linear"),
        embedding(root / "embedded"),
        attention(root / "attention"),
        davis(root / "davis", root / "DAVIS"),
        retrieval(root / "retrieval", root / "photos"),
    )
    return Comparison((TableComparison(table, (*measured, *missing)),), others)
