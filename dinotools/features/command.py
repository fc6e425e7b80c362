"""``dinotools features``: every image once through a network, into files.

dinotools features --ckpt dino_vits16 --data /datasets/imagenet --out features/vits16 --dtype float16
dinotools knn --features features/vits16
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dinotools.configs import files as config_files
from dinotools.configs.features import FeaturesConfig
from dinotools.data.sources import open_available_splits
from dinotools.features import files
from dinotools.features.extraction import Extractor
from dinotools.features.network import check_sizes, in_chans_of, open_network, settings_of
from dinotools.features.pooling import Pooling
from dinotools.runtime import device, distributed
from dinotools.runtime.errors import DinotoolsError, require
from dinotools.runtime.results import Result
from dinotools.runtime.run_directory import OPTIONS, write_atomically


def run(config: FeaturesConfig) -> Result:
    """Extracts every split of the data that is there and whose features are not.

    Raises:
        DinotoolsError: the checkpoint, the data or the folder cannot be used; too many unreadable images.
        RunFailed: a feature is not finite.
    """
    check_sizes(config)
    require(config.gpus > 0, f"is {config.gpus}", "gpus", "It must be above 0.")
    pooling = Pooling.parse(config.pooling)
    runtime = device.prepare(config.device, config.precision, config.workers, config.seed)
    backbone, network, view = open_network(config, config, pooling, config.seed)
    splits = open_available_splits(
        config.data, config.train, config.val, download=config.download, in_chans=in_chans_of(backbone.model)
    )
    settings = settings_of(backbone, view, pooling, config.seed, config.dtype) | {"precision": runtime.precision}
    network.to(runtime.device)
    rows: list[dict[str, Any]] = []
    if distributed.is_main():  # before the ranks meet: the others wait in write_split
        _claim(config.out, overwrite=config.overwrite)
    with distributed.joined():
        for split, images in splits.items():
            extractor = Extractor(network, images, runtime, view, config.max_bad)
            started = time.monotonic()
            done = files.write_split(
                config.out / split, settings, backbone.describe(), extractor, split, config.batch_size
            )
            shares = distributed.gather(torch.tensor([[done, extractor.data_wait]]))
            rows.append(_row(config.out / split, shares, time.monotonic() - started))
    if distributed.is_main():
        text = config_files.dump(config)
        write_atomically(config.out / OPTIONS, lambda path: path.write_text(text, encoding="utf-8"))
    return Result(
        title=f"features · {backbone.source} · {config.data or config.train or config.val} · {pooling}",
        rows=rows,
        metrics={row["split"]: row for row in rows},
        details={"checkpoint": backbone.describe(), "features": settings, **runtime.describe()},
        notes=(f"Measure them with, for example: dinotools knn --features {config.out}",) if len(rows) == 2 else (),
    )


def _row(folder: Path, shares: Tensor, seconds: float) -> dict[str, Any]:
    """A line of the table; shares holds images and data-wait of every rank (ranks, 2)."""
    found, new = files.read_features(folder), int(shares[:, 0].sum())
    megabytes = sum(shard.nbytes for shard in found.shards) / 2**20
    row = {"split": folder.name, "images": len(found), "skipped": len(found.skipped), "width": found.width}
    row |= {"MiB": megabytes, "new": new}
    return row | ({"images/s": new / seconds, "data-wait %": float(shares[:, 1].max())} if new else {})


def _claim(folder: Path, *, overwrite: bool) -> None:
    """Refuses a folder with the results of another command; with overwrite, empties a folder of features.

    Raises:
        DinotoolsError: it is a file, or holds something that would be lost.
    """
    if folder.exists() and not folder.is_dir():
        raise DinotoolsError("is a file, not a folder", folder, "Choose another --out.")
    kept = set(files.splits_in(folder))
    ours = {folder / OPTIONS, folder / "results.json"}
    if not kept and any(path.exists() for path in ours):  # a run: its options and results are not ours to replace
        raise DinotoolsError("holds the results of another command", folder, "Choose another --out.")
    if not overwrite or not folder.is_dir():
        return
    if any(path.is_dir() and path.name not in kept for path in folder.iterdir()):
        raise DinotoolsError("holds something beside features", folder, "Choose another --out.")
    for path in ours:  # first: without features they would be taken for those of another command
        path.unlink(missing_ok=True)
    for split in kept:
        shutil.rmtree(folder / split)
