"""The released DINO networks by name, and every backbone that can be built by name.

Sources: the official README's table of pre-trained models (URLs and accuracies) and DINO, Table 2 (the same
accuracies); its XCiT networks are left out, since XCiT comes from timm.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torchvision
from torch import nn

from dinotools.configs.normalization import IMAGENET_MEAN, IMAGENET_STD
from dinotools.models.convnets import build_convnet
from dinotools.models.names import did_you_mean
from dinotools.models.timm_backbones import TIMM, build_timm, is_timm
from dinotools.models.vit import SIZES, build_vit
from dinotools.runtime.errors import DinotoolsError

RELEASES = "https://dl.fbaipublicfiles.com/dino"


@dataclass(frozen=True)
class ReleasedNetwork:
    """A file of weights that the authors published.

    Args:
        name: what ``--ckpt`` calls it.
        arch: architecture, as ``build_backbone`` takes it.
        patch_size: side of a patch in pixels; None for a convolutional network.
        url: where the file lies.
        knn_top1: ImageNet top-1 of the k-NN classifier in the paper, in percent, where it has one.
        linear_top1: the same of the linear classifier.
        note: what it was trained for, where that is not plain pre-training on ImageNet.
    """

    name: str
    arch: str
    patch_size: int | None
    url: str
    knn_top1: float | None = None
    linear_top1: float | None = None
    note: str = ""


def _url(folder: str, file: str) -> str:
    return f"{RELEASES}/dino_{folder}_pretrain/dino_{folder}_{file}.pth"


def _released() -> Iterable[ReleasedNetwork]:
    table_2 = (
        ("dino_vits16", "vit_small", 16, "deitsmall16", 74.5, 77.0),
        ("dino_vits8", "vit_small", 8, "deitsmall8", 78.3, 79.7),
        ("dino_vitb16", "vit_base", 16, "vitbase16", 76.1, 78.2),
        ("dino_vitb8", "vit_base", 8, "vitbase8", 77.4, 80.1),
        ("dino_resnet50", "resnet50", None, "resnet50", 67.5, 75.3),
    )
    for name, arch, patch_size, folder, knn, linear in table_2:
        yield ReleasedNetwork(name, arch, patch_size, _url(folder, "pretrain"), knn, linear)
    yield ReleasedNetwork(
        "dino_vits16_gldv2",
        "vit_small",
        16,
        _url("vitsmall16_googlelandmark", "pretrain"),
        note="trained on Google Landmarks v2 (Table 3)",
    )
    yield ReleasedNetwork(
        "dino_vits8_300ep",
        "vit_small",
        8,
        _url("deitsmall8_300ep", "pretrain"),
        note="300 epochs; of the official attention maps",
    )
    for name, arch, patch_size, folder, *_ in table_2:
        url = _url(folder, "pretrain_full_checkpoint")
        note = "full training checkpoint"
        yield ReleasedNetwork(f"{name}_full", arch, patch_size, url, note=note)


ZOO: dict[str, ReleasedNetwork] = {network.name: network for network in _released()}


def build_backbone(
    arch: str,
    patch_size: int | None,
    img_size: int = 224,
    drop_path_rate: float = 0.0,
    *,
    registers: int = 0,
    layer_scale: bool = False,
) -> tuple[nn.Module, int]:
    """A randomly initialised backbone and the width D of its feature.

    Args:
        arch: a key of ``vit.SIZES``, the name of one of torchvision's classifiers, or ``timm:NAME``.
        patch_size: side of a patch in pixels; torchvision's and timm's networks have their own or none.
        img_size: side of the images that a ViT's positional grid is laid out for; timm's ViTs have their own.
        drop_path_rate: stochastic depth of a ViT and of timm's networks; torchvision's ignore it, as officially.
        registers: register tokens of our ViT.
        layer_scale: whether our ViT has LayerScale.

    Returns:
        A network that maps (B, 3, H, W) to (B, D), and D.

    Raises:
        DinotoolsError: no such architecture, one without a feature vector, or a patch size for which an image of
            ``img_size`` has no room.
    """
    if is_timm(arch):
        backbone = build_timm(arch, drop_path_rate=drop_path_rate)
        return backbone, backbone.embed_dim
    if arch in SIZES:
        if patch_size is None or not 1 <= patch_size <= img_size:
            raise DinotoolsError(
                f"{arch} needs a patch size between 1 and the image's {img_size} pixels, not {patch_size}",
                "--patch-size",
                "The paper's are 16 and 8.",
            )
        return build_vit(arch, patch_size, img_size, drop_path_rate, registers, layer_scale), SIZES[arch].embed_dim
    if arch not in convnet_names():
        raise DinotoolsError(
            f"no such architecture: {arch}",
            "--arch",
            f"{did_you_mean(arch, [*SIZES, *convnet_names()])} Those of timm are called {TIMM}NAME.",
        )
    try:
        return build_convnet(arch)
    except ValueError as error:
        raise DinotoolsError(
            f"cannot serve as a backbone ({error})",
            f"--arch {arch}",
            f"Take a ResNet, a ViT, or one of timm's, such as {TIMM}convnext_tiny.",
        ) from error


def normalization_of(backbone: nn.Module) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and deviation per channel that a backbone's images are normalised with: its own, or ImageNet's."""
    return getattr(backbone, "mean", IMAGENET_MEAN), getattr(backbone, "std", IMAGENET_STD)


def convnet_names() -> list[str]:
    """Names of torchvision's classifiers, which serve as backbones without their last layer."""
    return torchvision.models.list_models(module=torchvision.models)
