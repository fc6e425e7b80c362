"""The released DINO networks by name, and every backbone that can be built by name.

Sources: the official README's table of pre-trained models (URLs and accuracies) and DINO, Table 2 (the same
accuracies); its XCiT networks are left out, since XCiT comes from timm.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torchvision
from torch import nn

from dinotools.configs.normalization import IMAGENET_MEAN, IMAGENET_STD
from dinotools.models.convnets import build_convnet
from dinotools.models.names import did_you_mean
from dinotools.models.timm_backbones import TIMM, build_timm, is_timm
from dinotools.models.vit import SIZES, build_vit
from dinotools.runtime.errors import DinotoolsError

WEIGHTS = Path(__file__).parent / "weights"  # of the networks that ship with dinotools
SHIPPED = "dino_micro_cifar10"
RELEASES = "https://dl.fbaipublicfiles.com/dino"


@dataclass(frozen=True)
class ReleasedNetwork:
    """A file of weights that the authors published, or that ships with dinotools.

    Args:
        name: what ``--ckpt`` calls it.
        arch: architecture, as ``build_backbone`` takes it.
        patch_size: side of a patch in pixels; None for a convolutional network.
        url: where the file lies; None if it ships with dinotools, in WEIGHTS, beside its config and its log.
        knn_top1: ImageNet top-1 of the k-NN classifier in the paper, in percent, where it has one.
        linear_top1: the same of the linear classifier.
        note: what it was trained for, where that is not plain pre-training on ImageNet.
    """

    name: str
    arch: str
    patch_size: int | None
    url: str | None
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
    yield ReleasedNetwork(SHIPPED, "vit_micro", 8, None, note="ships with dinotools, trained on CIFAR-10")


ZOO: dict[str, ReleasedNetwork] = {network.name: network for network in _released()}


def shipped_file(name: str) -> Path:
    """The file of a network that ships with dinotools.

    Raises:
        DinotoolsError: it was lost.
    """
    path = WEIGHTS / f"{name}.safetensors"
    if not path.is_file():
        raise DinotoolsError("is missing, though it ships with dinotools", path, "Install dinotools again.")
    return path


def build_backbone(
    arch: str,
    patch_size: int | None,
    img_size: int = 224,
    drop_path_rate: float = 0.0,
    *,
    registers: int = 0,
    layer_scale: bool = False,
    num_heads: int | None = None,
    in_chans: int = 3,
    checkpoint_activations: bool = False,
) -> tuple[nn.Module, int]:
    """A randomly initialised backbone and the width D of its feature.

    Args:
        arch: a key of ``SIZES``, the name of a torchvision classifier, or ``timm:NAME``.
        patch_size: side of a ViT's patch in pixels; torchvision's and timm's networks have their own or none.
        img_size: side of the images that a ViT's positional grid is laid out for; timm's ViTs have their own.
        drop_path_rate: stochastic depth of a ViT and of timm's networks; torchvision's ignore it, as officially.
        registers: register tokens of our ViT.
        layer_scale: whether our ViT has LayerScale.
        num_heads: attention heads of our ViT, in place of its size's own number.
        in_chans: channels of the images.
        checkpoint_activations: compute the activations of a ViT's blocks again in the backward pass.

    Returns:
        A network that maps (B, in_chans, H, W) to (B, D), and D.

    Raises:
        DinotoolsError: no such architecture, one without a feature vector, a patch size for which an image of
            ``img_size`` has no room, heads that do not divide the width, or an option that the network has not.
    """
    if num_heads is not None and arch not in SIZES:
        raise DinotoolsError(f"{arch} has its own", "--num-heads", f"It is for {', '.join(SIZES)}: leave it out.")
    if is_timm(arch):
        backbone = build_timm(
            arch,
            drop_path_rate=drop_path_rate,
            in_chans=in_chans,
            checkpoint_activations=checkpoint_activations,
        )
        return backbone, backbone.embed_dim
    if arch in SIZES:
        _check_vit(arch, patch_size, img_size, num_heads)
        vit = build_vit(
            arch,
            cast(int, patch_size),
            img_size,
            drop_path_rate,
            registers,
            layer_scale,
            num_heads=num_heads,
            in_chans=in_chans,
            checkpoint_activations=checkpoint_activations,
        )
        return vit, vit.embed_dim
    if checkpoint_activations and arch in convnet_names():
        raise DinotoolsError(
            f"{arch} cannot compute its activations again",
            "--checkpoint-activations",
            f"Leave it out, or take a ViT or timm's {TIMM}{arch}.",
        )
    return _build_convnet(arch, in_chans)


def _check_vit(arch: str, patch_size: int | None, img_size: int, num_heads: int | None) -> None:
    if patch_size is None or not 1 <= patch_size <= img_size:
        raise DinotoolsError(
            f"{arch} needs a patch size between 1 and the image's {img_size} pixels, not {patch_size}",
            "--patch-size",
            "The paper's are 16 and 8.",
        )
    width = SIZES[arch].embed_dim
    if num_heads is not None and (num_heads < 1 or width % num_heads):
        fitting = ", ".join(str(heads) for heads in range(1, 17) if width % heads == 0)
        raise DinotoolsError(
            f"the {width} channels of {arch} cannot be shared out among {num_heads}",
            "--num-heads",
            f"Take a divisor of {width}, such as {fitting}.",
        )


def _build_convnet(arch: str, in_chans: int) -> tuple[nn.Module, int]:
    if arch not in convnet_names():
        raise DinotoolsError(
            f"no such architecture: {arch}",
            "--arch",
            f"{did_you_mean(arch, [*SIZES, *convnet_names()])} Those of timm are called {TIMM}NAME.",
        )
    try:
        return build_convnet(arch, in_chans)
    except ValueError as error:
        raise DinotoolsError(
            f"cannot serve as a backbone ({error})",
            f"--arch {arch}",
            f"Take a ResNet, a ViT, or one of timm's, such as {TIMM}convnext_tiny.",
        ) from error


def normalization_of(backbone: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation per channel that a backbone's images are normalised with: its own, or ImageNet's."""
    return getattr(backbone, "mean", IMAGENET_MEAN), getattr(backbone, "std", IMAGENET_STD)


def set_normalization(backbone: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
    """Gives a backbone the mean and deviation per channel that ``normalization_of`` will tell."""
    own: Any = backbone
    own.mean, own.std = tuple(mean), tuple(std)


def convnet_names() -> list[str]:
    """Names of torchvision's classifiers, which serve as backbones without their last layer."""
    return torchvision.models.list_models(module=torchvision.models)
