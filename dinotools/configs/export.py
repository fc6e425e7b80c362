"""Options of `dinotools export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from dinotools.configs.option import Opt
from dinotools.configs.shared import BackboneOptions

ExportFormat = Literal["safetensors", "official", "timm", "hf", "onnx"]


@dataclass(frozen=True, kw_only=True)
class ExportConfig(BackboneOptions):
    """Write a backbone in the layout of other libraries, re-load it and compare the features before saying done.

    For example: dinotools export --ckpt runs/vits16 --to onnx --out exported
    """

    to: Annotated[
        ExportFormat,
        Opt(
            "safetensors (for dinotools), official (.pth as the authors released), timm, "
            "hf (a ViTModel for transformers), or onnx",
            "Export",
        ),
    ]
    img_size: Annotated[
        int | None,
        Opt("image side in pixels that positions are laid out for; the default is the network's own", "Export"),
    ] = None
    half: Annotated[bool, Opt("write the weights in half precision (float16), in half the space", "Export")] = False
    out: Annotated[Path, Opt("folder for the network, results.json and config.toml", "Output")]
    overwrite: Annotated[bool, Opt("replace a non-empty --out", "Output")] = False
