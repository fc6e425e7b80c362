"""The layout of Hugging Face's transformers: a folder that ``ViTModel.from_pretrained`` loads.

It is that of facebook/dino-vits16: ``config.json``, ``model.safetensors`` and ``preprocessor_config.json``, with no
pooling layer. Names are those that the library writes itself (documented under ViT, ``ViTModel``); the joint
projection of queries, keys and values falls into three.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from dinotools.models.blocks import LAYER_NORM_EPS
from dinotools.models.checkpoints import LoadedBackbone
from dinotools.models.export.extras import library
from dinotools.models.export.safetensors_file import has_layer_scale, in_chans, plain_tensors, write_tensors
from dinotools.models.vit import VisionTransformer
from dinotools.runtime.errors import DinotoolsError

BICUBIC = 3  # Pillow's number
OUTER = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
}
WITHIN_BLOCK = {
    "norm1": "layernorm_before",
    "attn.proj": "attention.output.dense",
    "norm2": "layernorm_after",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
QKV = ("query", "key", "value")


def check(backbone: LoadedBackbone) -> None:
    """Refuses what a ``ViTModel`` cannot hold.

    Raises:
        DinotoolsError: the network is no ViT of ours, has registers or LayerScale; or transformers is not installed.
    """
    vit, remedy = backbone.model, "Take --to safetensors, timm or onnx."
    if not isinstance(vit, VisionTransformer):
        raise DinotoolsError(f"{backbone.arch} is no ViTModel", "--to hf", remedy)
    if vit.registers or has_layer_scale(vit):
        raise DinotoolsError("a ViTModel has neither registers nor LayerScale", "--to hf", remedy)
    library("transformers", "hf")


def write(folder: Path, backbone: LoadedBackbone, half: bool) -> None:
    """Writes ``config.json``, ``model.safetensors`` and ``preprocessor_config.json`` into a folder."""
    tensors = with_their_names(plain_tensors(backbone.model, half))
    write_tensors(folder / "model.safetensors", tensors, {"format": "pt"})
    for name, document in (("config", model_config(backbone)), ("preprocessor_config", processor_config(backbone))):
        (folder / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def features(folder: Path, backbone: LoadedBackbone, images: Tensor) -> Tensor:
    """The [CLS] features of images (B, C, H, W) by the ``ViTModel`` in a folder: (B, D).

    Raises:
        DinotoolsError: the library finds a weight missing or one too many.
    """
    transformers = library("transformers", "hf")
    transformers.utils.logging.disable_progress_bar()
    model, loading = transformers.ViTModel.from_pretrained(folder, add_pooling_layer=False, output_loading_info=True)
    if loading["missing_keys"] or loading["unexpected_keys"]:
        raise DinotoolsError(f"transformers does not find the weights it wants ({loading})", "--to hf")
    return model.eval().float()(images).last_hidden_state[:, 0]


def with_their_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A ViT's weights by the names of transformers; ``qkv`` (3D, D) becomes ``query``, ``key`` and ``value``."""
    theirs: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not name.startswith("blocks."):
            place, _, kind = name.rpartition(".")
            theirs[f"{OUTER[place]}.{kind}" if place else OUTER[name]] = tensor
            continue
        _, block, rest = name.split(".", 2)
        place, _, kind = rest.rpartition(".")
        layer = f"encoder.layer.{block}"
        if place == "attn.qkv":
            parts = zip(QKV, tensor.chunk(3), strict=True)
            theirs |= {f"{layer}.attention.attention.{which}.{kind}": part.contiguous() for which, part in parts}
        else:
            theirs[f"{layer}.{WITHIN_BLOCK[place]}.{kind}"] = tensor
    return theirs


def model_config(backbone: LoadedBackbone) -> dict[str, Any]:
    """``config.json``: the shape of the network."""
    vit = backbone.model
    if not isinstance(vit, VisionTransformer):
        raise TypeError(f"{type(vit).__name__} is no VisionTransformer")
    return {
        "architectures": ["ViTModel"],
        "model_type": "vit",
        "image_size": vit.img_size,
        "patch_size": vit.patch_size,
        "num_channels": in_chans(vit),
        "hidden_size": vit.embed_dim,
        "num_hidden_layers": len(vit.blocks),
        "num_attention_heads": vit.num_heads,
        "intermediate_size": vit.get_parameter("blocks.0.mlp.fc1.bias").numel(),
        "hidden_act": "gelu",
        "layer_norm_eps": LAYER_NORM_EPS,
        "qkv_bias": True,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


def processor_config(backbone: LoadedBackbone) -> dict[str, Any]:
    """``preprocessor_config.json``: how an image reaches the network."""
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": backbone.img_size, "width": backbone.img_size},
        "resample": BICUBIC,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(backbone.mean),
        "image_std": list(backbone.std),
    }


def how_to_load(folder: Path, backbone: LoadedBackbone) -> str:
    """A line of Python that reads the folder."""
    return f'transformers.ViTModel.from_pretrained("{folder}", add_pooling_layer=False)'
