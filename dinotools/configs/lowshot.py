"""The command that classifies from few labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from dinotools.configs.option import Opt
from dinotools.configs.shared import FeatureOptions, ResultOptions, RuntimeOptions


@dataclass(frozen=True, kw_only=True)
class LowshotConfig(FeatureOptions, RuntimeOptions, ResultOptions):
    """Classify frozen features by logistic regression on a few labelled images (paper: Tables 10 and 12).

    For example: dinotools lowshot --ckpt dino_vits16 --data /datasets/imagenet --subset 1percent.txt
    """

    fraction: Annotated[
        tuple[float, ...], Opt("shares of the training images of every class, each measured; 1 is all", "Protocol")
    ] = (0.01, 0.1)
    subset: Annotated[
        Path | None, Opt("text file of training images, one name on a line, in place of --fraction", "Protocol")
    ] = None
    draws: Annotated[
        int, Opt("random subsets per fraction, with seeds --seed, --seed + 1, ...; mean and deviation", "Protocol")
    ] = 1
    c: Annotated[
        tuple[float, ...], Opt("inverse regularisations to choose from; one alone is taken as it is", "Protocol")
    ] = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000, 100000)
    holdout: Annotated[
        float, Opt("share of the subset's images of every class that chooses --c before the last fit", "Protocol")
    ] = 0.2
    pooling: Annotated[
        str, Opt("cls, cls4 (last four blocks), avg, gem, rmac, or several joined by +, such as cls+avg", "Protocol")
    ] = "cls"
    solver: Annotated[
        Literal["auto", "sklearn", "lbfgs"],
        Opt("sklearn on the CPU, lbfgs on the device, or the faster; they agree", "Runtime"),
    ] = "auto"
