"""Commands that classify with frozen features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from dinotools.configs.option import Opt
from dinotools.configs.shared import FeatureOptions, ResultOptions, RuntimeOptions


@dataclass(frozen=True, kw_only=True)
class KnnConfig(FeatureOptions, RuntimeOptions, ResultOptions):
    """Classify frozen features with a weighted k-nearest-neighbour vote (paper: Tables 2, 7, 10).

    For example: dinotools knn --ckpt dino_vits16 --data /datasets/imagenet
    """

    k: Annotated[tuple[int, ...], Opt("numbers of neighbours, all measured in one pass", "Protocol")] = (
        10,
        20,
        100,
        200,
    )
    temperature: Annotated[float, Opt("a neighbour votes with exp(similarity / temperature)", "Protocol")] = 0.07
    pooling: Annotated[
        str, Opt("cls, cls4 (last four blocks), avg, gem, rmac, or several joined by +, such as cls+avg", "Protocol")
    ] = "cls"
    backend: Annotated[Literal["torch", "faiss"], Opt("library that searches; both are exact", "Runtime")] = "torch"
    gpus: Annotated[int, Opt("processes of this machine that share the work", "Runtime")] = 1
