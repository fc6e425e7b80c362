"""Commands for people with photos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from dinotools.configs.option import Opt
from dinotools.configs.shared import BackboneOptions, ResultOptions, RuntimeOptions


@dataclass(frozen=True, kw_only=True)
class PhotoOptions(BackboneOptions):
    """Photos below a folder, and how each becomes a vector."""

    dir: Annotated[str, Opt("folder of photos, with all that lies below it", positional=True)]
    imsize: Annotated[int, Opt("side of the square that a photo is resized to, in pixels", "Features")] = 224
    pooling: Annotated[str, Opt("cls, avg, gem, rmac, or several joined by +", "Features")] = "cls+gem"
    batch_size: Annotated[int, Opt("photos per forward pass", "Features")] = 32
    max_bad: Annotated[float, Opt("share of unreadable photos to skip before giving up", "Features")] = 0.01


@dataclass(frozen=True, kw_only=True)
class IndexConfig(PhotoOptions, RuntimeOptions):
    """Describe the photos below a folder by vectors, so that they can be searched by `dinotools search`.

    Repeated, the command looks only at photos that are new or have changed; one that was killed keeps what it has
    written, after every 512 photos.

    For example: dinotools index ~/Pictures --ckpt dino_vits16 --out pictures.index
    """

    out: Annotated[Path, Opt("folder of the index: a new one, or one to bring up to date", "Output")]


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Find the photos of an index that look most like others.

    For example: dinotools search pictures.index beach.jpg --html found.html
    """

    index: Annotated[Path, Opt("folder that `dinotools index` wrote", positional=True)]
    query: Annotated[tuple[str, ...], Opt("image files, of the index or not", positional=True)]
    top: Annotated[int, Opt("photos to find for each query")] = 10
    html: Annotated[Path | None, Opt("page with the photos that were found", "Output")] = None
    ckpt: Annotated[
        str | None, Opt("where the network of the index lies now, if it has moved; it must be the same", "Backbone")
    ] = None
    device: Annotated[str, Opt("auto (CUDA, then MPS, then CPU), cpu, cuda, cuda:1, mps", "Runtime")] = "auto"
    workers: Annotated[int, Opt("processes that read images; -1 chooses, 0 reads in the main process", "Runtime")] = -1


@dataclass(frozen=True, kw_only=True)
class DuplicatesConfig(PhotoOptions, RuntimeOptions, ResultOptions):
    """Find groups of near-copies among the photos below a folder: edited, cropped, compressed, or the same file twice.

    How similar copies are depends on the network and the photos: the threshold is found by attacking some of the
    photos and comparing. Nothing is ever deleted.

    For example: dinotools duplicates ~/Pictures --ckpt dino_vits16 --html duplicates.html
    """

    index: Annotated[
        Path | None, Opt("index of the folder, made or brought up to date; without it, in the cache", "Features")
    ] = None
    threshold: Annotated[
        float | None, Opt("similarity from which photos are copies; without it, calibrated", "Duplicates")
    ] = None
    html: Annotated[Path | None, Opt("page with the groups", "Output")] = None
