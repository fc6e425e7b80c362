"""The command that trains linear classifiers on frozen features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from dinotools.configs.option import Opt
from dinotools.configs.shared import FeatureOptions, ResultOptions, RuntimeOptions


@dataclass(frozen=True, kw_only=True)
class LinearConfig(FeatureOptions, RuntimeOptions, ResultOptions):
    """Train a linear classifier on frozen features, or evaluate a given one (paper: Table 2).

    The paper's protocol reads augmented images in every epoch; the cached one extracts features once and trains a
    whole grid of classifiers on them at the same time.
    For example: dinotools linear --ckpt dino_vits16 --data /datasets/imagenet --out probes/vits16
    """

    protocol: Annotated[
        Literal["paper", "cached"],
        Opt("paper: augmented images; cached: a grid on the features of one pass", "Protocol"),
    ] = "paper"
    n_last_blocks: Annotated[
        tuple[int, ...],
        Opt("[CLS] tokens of so many last blocks; unless given 4 up to ViT-S, else 1; cached: 1,4", "Protocol"),
    ] = ()
    avgpool_patchtokens: Annotated[
        Literal["auto", "true", "false"],
        Opt("append the mean patch token; auto: from ViT-B on; cached: both", "Protocol"),
    ] = "auto"
    epochs: Annotated[int, Opt("passes over the training images", "Protocol")] = 100
    train_batch_size: Annotated[int, Opt("images per step of the classifier", "Protocol")] = 1024
    evaluate: Annotated[
        str | None,
        Opt("train nothing: a linear.pth, ours or official, or a released network's name", "Protocol"),
    ] = None
    lr: Annotated[
        float | None, Opt("times train-batch-size / 256; unless given 0.001, for convolutions 0.075", "Protocol: paper")
    ] = None
    resume: Annotated[bool, Opt("go on with the run in --out, if there is one", "Protocol: paper")] = False
    lrs: Annotated[
        tuple[float, ...], Opt("learning rates of the grid, times train-batch-size / 256", "Protocol: cached")
    ] = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
    holdout: Annotated[
        float, Opt("share of the training images of each class that chooses in the grid", "Protocol: cached")
    ] = 0.1
