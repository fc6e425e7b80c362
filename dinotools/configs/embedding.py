"""Options of `dinotools embed`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from dinotools.configs.option import Opt
from dinotools.configs.shared import FeatureOptions, RuntimeOptions


@dataclass(frozen=True, kw_only=True)
class EmbedConfig(FeatureOptions, RuntimeOptions):
    """Draw frozen features in the plane (t-SNE or PCA), or patch tokens as colours (--patches).

    Writes a picture, and a page that shows the image behind every point.

    For example: dinotools embed --ckpt dino_vits16 --data /datasets/imagenet --of classes --out embedded
    """

    out: Annotated[Path, Opt("folder for the picture, the page and the numbers", "Output")]
    overwrite: Annotated[bool, Opt("replace a non-empty --out", "Output")] = False
    method: Annotated[Literal["tsne", "pca"], Opt("how features come down to two dimensions", "Protocol")] = "tsne"
    of: Annotated[
        Literal["images", "classes"], Opt("a point per image, or per class: the mean of its images", "Protocol")
    ] = "images"
    split: Annotated[Literal["val", "train"], Opt("which images", "Protocol")] = "val"
    limit: Annotated[int, Opt("with --of images: at most this many, evenly over the classes", "Protocol")] = 2000
    perplexity: Annotated[
        float | None, Opt("of t-SNE; the default is 20 for classes, 30 for images, less for few points", "Protocol")
    ] = None
    patches: Annotated[
        str | None,
        Opt("an image, a folder or a data set (photos) whose patch tokens to colour, in place of --data", "Patches"),
    ] = None
