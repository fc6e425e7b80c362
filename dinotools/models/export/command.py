"""``dinotools export``: a backbone for another library, proven to compute the same before it is handed over.

The files are written into a temporary folder, loaded from there as their reader would, and compared with the network
they came from on random images; only then do they take their place in --out.

    dinotools export --ckpt runs/vits16 --to onnx --out exported
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from dinotools.configs import files
from dinotools.configs.export import ExportConfig, ExportFormat
from dinotools.models.checkpoint_files import sha256_of
from dinotools.models.checkpoints import PIXELS, RANDOM, LoadedBackbone, load_backbone
from dinotools.models.export import hugging_face, official_file, onnx_graph, safetensors_file, timm_file
from dinotools.models.timm_backbones import is_timm
from dinotools.models.vit import VisionTransformer
from dinotools.runtime.errors import DinotoolsError, RunFailed, require
from dinotools.runtime.results import Result
from dinotools.runtime.run_directory import TEMPORARY, claim

TOLERANCE = 1e-4  # of a feature, relative to the largest if that is above 1
MEGABYTE = 1e6
DEFAULT_SIDE = 224  # of an image for a network that takes any
N_IMAGES = 3


class Format(Protocol):
    """What a module of this package offers."""

    def check(self, backbone: LoadedBackbone) -> None:
        """Raises DinotoolsError if the layout cannot hold the backbone, or its library is missing."""

    def write(self, folder: Path, backbone: LoadedBackbone, half: bool) -> None:
        """Writes the files into a folder."""

    def features(self, folder: Path, backbone: LoadedBackbone, images: Tensor) -> Tensor:
        """Features (B, D) of images (B, C, H, W), by the files alone."""

    def how_to_load(self, folder: Path, backbone: LoadedBackbone) -> str:
        """A command or a line of Python that loads the files."""


FORMATS: dict[ExportFormat, Format] = {
    "safetensors": safetensors_file,
    "official": official_file,
    "timm": timm_file,
    "hf": hugging_face,
    "onnx": onnx_graph,
}


@torch.no_grad()
def run(config: ExportConfig) -> Result:
    """Writes a backbone in one of the FORMATS.

    Raises:
        DinotoolsError: there is nothing to export, the format cannot hold it, or --out cannot be written.
        RunFailed: what was written computes something else; nothing of it is left.
    """
    form = FORMATS[config.to]
    backbone = open_backbone(config)
    form.check(backbone)
    claim(config.out, files.dump(config), overwrite=config.overwrite, inputs=(config.ckpt,))
    images = random_images(backbone)
    expected = full = backbone.model(images)
    if config.half:
        expected = backbone.model.half().float()(images)  # the rounded network is the one that is handed over
    with TemporaryDirectory(dir=config.out, prefix=".", suffix=TEMPORARY) as temporary:
        folder = Path(temporary)
        form.write(folder, backbone, config.half)
        difference = largest_difference(partial(form.features, folder, backbone), images, expected)
        written = [path.replace(config.out / path.name) for path in sorted(folder.iterdir())]
    metrics: dict[str, Any] = {
        "max_difference": difference,
        "largest_feature": expected.abs().max().item(),
        "files": {path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in written},
    }
    proof = f"the features of {N_IMAGES} random images, up to {expected.abs().max():.3g}, differ by {difference:.2g}"
    if config.half:
        metrics["rounding"] = (full - expected).abs().max().item()
        proof += f", after half precision has moved them by {metrics['rounding']:.2g}"
    return Result(
        title=f"export · {backbone.source} · {config.to}",
        rows=[{"file": str(path), "MB": path.stat().st_size / MEGABYTE} for path in written],
        metrics=metrics,
        details={"checkpoint": backbone.describe(), "written": safetensors_file.description_of(backbone)},
        notes=(
            f"Re-loaded and compared: {proof}.",
            f"Load it with: {form.how_to_load(config.out, backbone)}",
        ),
    )


def open_backbone(config: ExportConfig) -> LoadedBackbone:
    """The backbone, its positions laid out for --img-size; ``img_size`` is the side of the images it is tried on.

    Raises:
        DinotoolsError: no network is named, it does not load, or --img-size does not suit it.
    """
    ckpt, side = config.ckpt, config.img_size
    if ckpt is None or ckpt == PIXELS:
        raise DinotoolsError("names no network to export", "--ckpt", "Give a run, a file or a name of `models list`.")
    require(not (config.half and config.to == "onnx"), "an ONNX graph is written in float32", "half", "Leave it out.")
    backbone = load_backbone(
        ckpt,
        key=config.key,
        arch=config.arch,
        patch_size=config.patch_size,
        img_size=side if ckpt == RANDOM else None,
    )
    own, patch_size = backbone.img_size or DEFAULT_SIDE, backbone.patch_size or 1
    side = own if side is None else side
    require(side >= patch_size, f"is {side}, smaller than one patch of {patch_size}", "img_size", "Use a larger one.")
    require(
        side % patch_size == 0,
        f"{side} pixels are no whole number of patches of {patch_size}",
        "img_size",
        f"Use {max(1, round(side / patch_size)) * patch_size}.",
    )
    if side != own and is_timm(backbone.arch) and config.to != "onnx":
        raise DinotoolsError(
            f"{backbone.arch} keeps its positions for {own} pixels", "--img-size", "Leave it out, or take --to onnx."
        )
    if isinstance(backbone.model, VisionTransformer):
        lay_out(backbone.model, side)
    return replace(backbone, img_size=side)


def lay_out(vit: VisionTransformer, side: int) -> None:
    """Lays out a ViT's positions for square images of another side, in place: there it computes what it did before."""
    vit.pos_embed = nn.Parameter(vit.interpolate_pos_encoding(side, side).detach())
    vit.img_size = side


def random_images(backbone: LoadedBackbone) -> Tensor:
    """The same standard normal images (N_IMAGES, C, S, S) every time, as a normalised photo is on average."""
    side = backbone.img_size or DEFAULT_SIDE
    shape = (N_IMAGES, safetensors_file.in_chans(backbone.model), side, side)
    return torch.from_numpy(np.random.RandomState(0).standard_normal(shape).astype(np.float32))


def largest_difference(features: Callable[[Tensor], Tensor], images: Tensor, expected: Tensor) -> float:
    """How far features are from those expected (B, D), at most; of one image (B = 1) and of all.

    Raises:
        RunFailed: further than the TOLERANCE allows, or not finite.
    """
    differences = [(features(images[:n]) - expected[:n]).abs().max().item() for n in (1, len(images))]
    allowed = TOLERANCE * max(1.0, expected.abs().max().item())
    if not all(difference <= allowed for difference in differences):  # not a number is no good either
        raise RunFailed(
            f"re-loaded, its features are off by {max(differences):.2g}, more than {allowed:.2g}",
            "--to",
            "Nothing was written. Take another format, or leave out --half.",
        )
    return max(differences)
