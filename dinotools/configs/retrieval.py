"""Options of `dinotools retrieval`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from dinotools.configs.option import Opt
from dinotools.configs.shared import DescriptorOptions, ResultOptions, RuntimeOptions


@dataclass(frozen=True, kw_only=True)
class RetrievalConfig(DescriptorOptions, RuntimeOptions, ResultOptions):
    """Find the photographs that show the same building: Revisited Oxford and Paris, or your own (paper: Table 3).

    For example: dinotools retrieval --dataset roxford5k --data /datasets/roxford5k --ckpt dino_vits16
    """

    dataset: Annotated[str, Opt("roxford5k, rparis6k, or a ground truth of your own, FILE.json", "Data")]
    data: Annotated[Path | None, Opt("folder that holds jpg/, and for the official sets the ground truth", "Data")] = (
        None
    )
    protocol: Annotated[
        Literal["dino-paper", "revisitop"],
        Opt("dino-paper: whole query images; revisitop: cropped to their boxes, 1024 pixels, three scales", "Protocol"),
    ] = "dino-paper"
    imsize: Annotated[
        int | None, Opt("longer side in pixels, at most; dino-paper: 224 for roxford5k, else 512", "Protocol")
    ] = None
    multiscale: Annotated[
        bool | None,
        Opt("mean of three scales; dino-paper: not for roxford5k", "Protocol"),
    ] = None
    pooling: Annotated[str, Opt("cls, avg, gem, rmac, cls4, or several joined by +, such as cls+gem", "Protocol")] = (
        "cls"
    )
    whiten: Annotated[
        str | None, Opt("folder of images (or vectors) that a PCA whitening is learned on", "Protocol")
    ] = None
    whiten_dim: Annotated[int | None, Opt("components that are kept; by default all", "Protocol")] = None
    query_expansion: Annotated[int, Opt("neighbours that a query is averaged with (alpha-QE); 0: none", "Protocol")] = 0
    alpha: Annotated[float, Opt("a neighbour weighs similarity ** alpha", "Protocol")] = 3.0
    distractors: Annotated[
        str | None, Opt("folder of images that are always wrong, or their vectors (.npy, --cache)", "Distractors")
    ] = None
    search: Annotated[
        Literal["exact", "flat", "ivfpq"], Opt("distractors: compare with all, or ask a FAISS index", "Distractors")
    ] = "exact"
    index: Annotated[Path | None, Opt("file of that index; built if it is not there", "Distractors")] = None
    depth: Annotated[int, Opt("distractors that the index finds for each query", "Distractors")] = 1000
    html: Annotated[Path | None, Opt("page of ranked lists to write", "Output")] = None
    gpus: Annotated[int, Opt("processes of this machine that share the work; needs --cache", "Runtime")] = 1
