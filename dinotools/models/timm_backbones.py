"""timm's networks as backbones: ``timm:NAME`` wherever an architecture or a checkpoint is asked for.

They bring DINOv3, XCiT, ConvNeXt, supervised ViTs and some thousand others (``timm.list_models()``) under every
protocol. timm is an extra: ``pip install 'dinotools[timm]'``, imported only when one of its networks is named.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import torch
from torch import Tensor, nn

from dinotools.models.names import did_you_mean
from dinotools.runtime.errors import DinotoolsError

TIMM = "timm:"


class TimmBackbone(nn.Module):
    """One of timm's networks, mapping images to timm's own pooled feature.

    The network is kept as ``module``, the name under which PyTorch's own wrappers keep one, so that a checkpoint's
    names lose it as they lose theirs.

    Args:
        network: a model of timm, without classifier.
        name: what the user calls it.
        dropped: names of the classifier's tensors.
    """

    def __init__(self, network: nn.Module, name: str, dropped: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.module = network
        self.name, self.dropped = name, dropped
        asked: dict[str, Any] = cast(Any, network).pretrained_cfg
        self.mean, self.std = tuple(asked["mean"]), tuple(asked["std"])
        self.img_size = int(asked["input_size"][-1])
        self.embed_dim = int(getattr(network, "head_hidden_size", None) or cast(Any, network).num_features)

    def forward(self, x: Tensor) -> Tensor:
        """The feature: (B, 3, H, W) -> (B, embed_dim).

        Raises:
            DinotoolsError: the network takes images of one size only, or has no feature vector.
        """
        try:
            features = self._features(x)
        except AssertionError as error:  # timm asserts the size of an image
            height, width = x.shape[-2:]
            raise DinotoolsError(
                f"takes no image of {height}x{width} pixels ({error})", self.name, f"Use --crop-size {self.img_size}."
            ) from error
        if features.ndim != 2:
            raise DinotoolsError(
                f"gives {list(features.shape)} for an image, not a feature vector", self.name, "Take another network."
            )
        return features

    def _features(self, x: Tensor) -> Tensor:
        return self.module(x)


class TimmViT(TimmBackbone):
    """One of timm's ViTs with a [CLS] token, whose feature is that token after the final LayerNorm.

    So DINO, DINOv2 and DINOv3 use it, whatever timm pools by default. Images of any size are taken; rows and columns
    beyond the last whole patch are dropped.
    """

    def __init__(self, network: nn.Module, name: str, dropped: tuple[str, ...] = ()) -> None:
        super().__init__(network, name, dropped)
        self.patch_size = int(cast(Any, network).patch_embed.feat_ratio())

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer's blocks."""
        return cast(nn.ModuleList, self.module.blocks)

    def _features(self, x: Tensor) -> Tensor:
        return cast(Any, self.module).forward_features(self._whole_patches(x))[:, 0]

    def get_intermediate_layers(self, x: Tensor, n: int = 1) -> list[Tensor]:
        """Tokens of the last n blocks, as ``VisionTransformer`` gives them: n x (B, 1 + patches, embed_dim)."""
        layers = cast(Any, self.module).forward_intermediates(
            self._whole_patches(x),
            indices=min(n, len(self.blocks)),
            return_prefix_tokens=True,
            norm=True,
            output_fmt="NLC",
            intermediates_only=True,
        )
        return [torch.cat([prefix[:, :1], patches], dim=1) for patches, prefix in layers]

    def _whole_patches(self, x: Tensor) -> Tensor:
        height, width = (side // self.patch_size * self.patch_size for side in x.shape[-2:])
        if min(height, width) == 0:
            raise ValueError(
                f"an image of {x.shape[-2]}x{x.shape[-1]} pixels is smaller than one patch of {self.patch_size}"
            )
        return x[..., :height, :width]


def is_timm(name: str | None) -> bool:
    """Whether a name is ``timm:`` and something."""
    return name is not None and name.startswith(TIMM)


def build_timm(
    name: str,
    *,
    pretrained: bool = False,
    drop_path_rate: float = 0.0,
    in_chans: int = 3,
    checkpoint_activations: bool = False,
) -> TimmBackbone:
    """One of timm's networks without its classifier.

    Args:
        name: ``timm:NAME`` or ``timm:NAME.TAG``, as timm spells them.
        pretrained: whether to load timm's own weights, which are fetched into timm's cache; random ones otherwise.
        drop_path_rate: stochastic depth, of the families that have it.
        in_chans: channels of the images.
        checkpoint_activations: compute activations again in the backward pass, of the families that can.

    Raises:
        DinotoolsError: timm is not installed, knows no such name, or cannot get the weights; or the network cannot
            compute its activations again.
    """
    try:
        import timm
    except ImportError as error:
        raise DinotoolsError("timm is not installed", name, "Run: pip install 'dinotools[timm]'.") from error
    wanted, known = name.removeprefix(TIMM), [*timm.list_models(), *timm.list_models(pretrained=True)]
    if wanted not in known:
        raise DinotoolsError("timm has no such network", name, did_you_mean(name, [TIMM + other for other in known]))
    try:
        network = _create(timm.create_model, wanted, drop_path_rate, pretrained=pretrained, in_chans=in_chans)
    except Exception as error:  # the network, the hub's client and the file itself each fail in ways of their own
        if not pretrained:
            raise
        raise DinotoolsError(
            f"timm cannot load its weights ({next(iter(str(error).splitlines()), type(error).__name__)})",
            name,
            f"Check the connection (a gated file also needs a login to its hub), or give a file with --arch {name}.",
        ) from error
    with_classifier = list(network.state_dict())
    network.reset_classifier(0)
    kept = network.state_dict()
    dropped = tuple(name for name in with_classifier if name not in kept)
    if checkpoint_activations:
        _checkpoint_activations(network, name)
    return (TimmViT if _has_cls_token(network) else TimmBackbone)(network, name, dropped)


def _create(create_model: Callable[..., Any], name: str, drop_path_rate: float, **always: Any) -> Any:
    """A network with its classifier, so that timm loads weights strictly; options only where a family has them."""
    stochastic_depth = {"drop_path_rate": drop_path_rate}
    for options in (stochastic_depth | {"dynamic_img_size": True}, stochastic_depth):
        with suppress(TypeError):
            return create_model(name, **always, **options)
    return create_model(name, **always)


def _checkpoint_activations(network: Any, name: str) -> None:
    try:
        network.set_grad_checkpointing(True)
    except (AttributeError, AssertionError) as error:  # timm asserts that a network can
        raise DinotoolsError(
            f"{name} cannot compute its activations again", "--checkpoint-activations", "Leave it out."
        ) from error


def _has_cls_token(network: nn.Module) -> bool:
    """Whether every block has a [CLS] token and timm can hand out what the final LayerNorm makes of it."""
    layers = getattr(network, "forward_intermediates", None)
    return (
        getattr(network, "cls_token", None) is not None
        and not isinstance(getattr(network, "norm", None), (nn.Identity, type(None)))
        and hasattr(getattr(network, "patch_embed", None), "feat_ratio")
        and layers is not None
        and "return_prefix_tokens" in inspect.signature(layers).parameters
    )
