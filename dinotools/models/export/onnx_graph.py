"""ONNX: ``backbone.onnx``, one graph from ``images`` (batch, C, S, S) to ``features`` (batch, D), in float32.

Images are already normalised; mean and deviation stand in the graph's metadata. The side S is fixed, with the
positional encodings laid out for it, and the batch is free.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from dinotools.models.checkpoints import LoadedBackbone
from dinotools.models.export.extras import library
from dinotools.models.export.safetensors_file import description_of, in_chans, metadata
from dinotools.runtime.errors import RunFailed

FILE = "backbone.onnx"


def check(backbone: LoadedBackbone) -> None:
    """Every backbone may be tried.

    Raises:
        DinotoolsError: onnx, onnxscript or onnxruntime is not installed.
    """
    for module in ("onnx", "onnxscript", "onnxruntime"):
        library(module, "onnx")


def write(folder: Path, backbone: LoadedBackbone, half: bool) -> None:
    """Writes ``backbone.onnx`` into a folder; always in float32.

    Raises:
        RunFailed: torch finds no graph for the network.
    """
    side = cast(int, backbone.img_size)
    example = torch.zeros(2, in_chans(backbone.model), side, side)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's exporter, about itself
            program: Any = torch.onnx.export(
                backbone.model,
                (example,),
                dynamo=True,
                input_names=["images"],
                output_names=["features"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise RunFailed(
            f"torch cannot make a graph of {backbone.arch} ({next(iter(str(error).splitlines()), '')})",
            "--to onnx",
            "Take --to safetensors, or another network.",
        ) from error
    for node in program.model.graph:
        node.metadata_props.clear()  # traces of the code that made it, with this machine's paths
    program.model.metadata_props.update(metadata(description_of(backbone) | {"img_size": side}))
    program.save(folder / FILE, external_data=False)


def features(folder: Path, backbone: LoadedBackbone, images: Tensor) -> Tensor:
    """Features of images (B, C, S, S) by onnxruntime on the CPU: (B, D)."""
    session = library("onnxruntime", "onnx").InferenceSession(folder / FILE, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["features"], {"images": images.numpy()})[0])


def how_to_load(folder: Path, backbone: LoadedBackbone) -> str:
    """A line of Python that reads the file."""
    return f'onnxruntime.InferenceSession("{folder / FILE}").run(["features"], {{"images": images}})'
