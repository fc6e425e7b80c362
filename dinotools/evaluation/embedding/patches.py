"""Patch tokens as colours: what looks alike to the network looks alike in the picture.

The tokens of the last block, after the final LayerNorm, of all images together give three principal components; each
is stretched from its smallest to its largest value and becomes red, green or blue. A colour therefore means the same
in every picture of one run. The idea is that of DINOv2 (Oquab et al. 2023, Figure 1), without its mask.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image
from torch import Tensor, nn

from dinotools.configs import files
from dinotools.configs.embedding import EmbedConfig
from dinotools.data.images import ImageFiles, ImageSource
from dinotools.data.sources import open_images
from dinotools.evaluation.embedding.projection import pca
from dinotools.features.extraction import extract
from dinotools.features.network import check_sizes, open_network
from dinotools.features.pooling import Pooling
from dinotools.models.vit import VisionTransformer
from dinotools.reporting import figures
from dinotools.runtime import device, run_directory
from dinotools.runtime.errors import DinotoolsError, require
from dinotools.runtime.results import Result

MAX_IMAGES = 100  # their tokens are in memory together
PICTURED = 24  # pairs in the overview
OVERVIEW = "patches.png"


class PatchTokens(nn.Module):
    """A ViT whose output is its patch tokens, one after the other.

    Args:
        backbone: with ``get_intermediate_layers`` as the ViT has it.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, patches * D)."""
        return cast(VisionTransformer, self.backbone).get_intermediate_layers(images)[-1][:, 1:].flatten(1)


def colours(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Three principal components of tokens as red, green and blue.

    Args:
        tokens: (N, D) floats.

    Returns:
        Colours (N, 3) uint8, and the share of the variance that each component explains.
    """
    components, explained = pca(tokens, 3)
    components = np.pad(components, [(0, 0), (0, 3 - components.shape[1])])
    low, high = components.min(axis=0), components.max(axis=0)
    stretched = (components - low) / np.where(high > low, high - low, 1)
    return np.round(255 * stretched).astype(np.uint8), explained


def open_pictures(named: str) -> ImageSource:
    """Images of a file, a folder or a data set known by name.

    Raises:
        DinotoolsError: there are none, or more than MAX_IMAGES.
    """
    path = Path(named).expanduser()
    images: ImageSource = ImageFiles([str(path)]) if path.is_file() else open_images(named, "train")
    require(
        len(images) <= MAX_IMAGES,
        f"{named} holds {len(images):,} images, more than {MAX_IMAGES}",
        "patches",
        "Name a folder of fewer.",
    )
    return images


def map_patches(config: EmbedConfig) -> Result:
    """Writes NAME-patches.png for every image, and an overview of the first ones.

    Raises:
        DinotoolsError: the checkpoint or an image cannot be used, or the network has no patch tokens.
        RunFailed: a token is not finite.
    """
    assert config.patches is not None
    for name in ("data", "train", "val", "features"):
        require(getattr(config, name) is None, "was given beside --patches", name, "Give one of them.")
    check_sizes(config)
    runtime = device.prepare(config.device, config.precision, config.workers, config.seed)
    images = open_pictures(config.patches)
    backbone, _, view = open_network(config, config, Pooling(), config.seed)
    if backbone.patch_size is None or not hasattr(backbone.model, "get_intermediate_layers"):
        raise DinotoolsError(f"{backbone.arch} has no patch tokens", "--patches", "Take a ViT.")
    inputs = (config.ckpt, config.patches)
    run_directory.claim(config.out, files.dump(config), overwrite=config.overwrite, inputs=inputs)
    found = extract(
        PatchTokens(backbone.model).to(runtime.device),
        images,
        runtime,
        view,
        batch_size=min(config.batch_size, 8),  # pictures tend to be large
        max_bad=config.max_bad,
        name="patches",
    )
    side = config.crop_size // backbone.patch_size
    tokens = found.tensor().reshape(len(found) * side**2, -1)
    rgb, explained = colours(tokens.numpy())
    maps = enlarge(rgb.reshape(-1, side, side, 3), backbone.patch_size)
    for name, pixels in zip(file_names([images.name(int(i)) for i in found.indices]), maps, strict=True):
        save(pixels, config.out / name)
    shown = [view.transform(images.load(int(i))).permute(1, 2, 0).numpy() for i in found.indices[:PICTURED]]
    covered = [image[: side * backbone.patch_size, : side * backbone.patch_size] for image in shown]
    figures.save(figures.pairs(covered, list(maps[:PICTURED])), config.out / OVERVIEW)
    return Result(
        title=f"patch tokens · {backbone.source} · {config.patches}",
        rows=[{"images": len(found), "patches": f"{side} x {side}", "variance shown %": 100 * explained.sum()}],
        metrics={"images": len(found), "patches": [side, side], "explained_variance": explained.tolist()},
        details={"checkpoint": backbone.describe(), "data": found.describe(), **runtime.describe()},
        notes=(f"See {config.out / OVERVIEW}; a larger --crop-size has more patches.",),
    )


def enlarge(maps: np.ndarray, factor: int) -> np.ndarray:
    """Every pixel becomes a square: (N, rows, columns, 3) -> (N, rows * factor, columns * factor, 3)."""
    return maps.repeat(factor, axis=1).repeat(factor, axis=2)


def file_names(images: list[str]) -> list[str]:
    """NAME-patches.png for every image; where two have the same name, the later one's has its number as well."""
    names: list[str] = []
    for number, image in enumerate(images, start=1):
        name = f"{Path(image).stem}-patches.png"
        names.append(name if name not in names else f"{Path(image).stem}-{number}-patches.png")
    return names


def save(pixels: np.ndarray, path: Path) -> None:
    """Writes a picture (H, W, 3) uint8 as a PNG, atomically."""
    run_directory.write_atomically(path, lambda temporary: Image.fromarray(pixels).save(temporary, format="PNG"))
