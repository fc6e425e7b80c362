"""Convolutional backbones: any torchvision classifier with its classifier removed."""

from __future__ import annotations

import torch
import torchvision
from torch import nn

CLASSIFIERS = ("fc", "classifier", "head", "heads")  # where torchvision's models keep their last layer


def build_convnet(name: str, in_chans: int = 3) -> tuple[nn.Module, int]:
    """A randomly initialised torchvision model that returns pooled features.

    Args:
        name: a name that ``torchvision.models.get_model`` knows, such as ``resnet50``.
        in_chans: channels of the images.

    Returns:
        The backbone, mapping (B, in_chans, H, W) to (B, D), and D (2048 for ``resnet50``).

    Raises:
        ValueError: the model has no classifier that we know how to remove, or pools inside it (ConvNeXt, SqueezeNet).
    """
    model = torchvision.models.get_model(name)
    attribute = next((a for a in CLASSIFIERS if isinstance(getattr(model, a, None), nn.Module)), None)
    if attribute is None:
        raise ValueError(f"torchvision's {name} has none of the classifiers {', '.join(CLASSIFIERS)}")
    classifier = nn.Identity()
    setattr(model, attribute, classifier)
    if in_chans != 3:
        _replace_first_layer(model, in_chans)
    shape = _input_shape(classifier, model, in_chans)
    if len(shape) != 2:
        raise ValueError(f"torchvision's {name} pools inside its {attribute}: without it there is no feature vector")
    return model, shape[-1]


def has_feature_map(convnet: nn.Module) -> bool:
    """Whether a network averages a feature map and does nothing more, as torchvision's ResNets do.

    So do its RegNets, EfficientNets and MobileNetV3s. Those that pool with a function instead of a module (DenseNet,
    MobileNetV2, ShuffleNet) or into several cells (VGG) do not show such a map.
    """
    pool = getattr(convnet, "avgpool", None)
    return isinstance(pool, nn.AdaptiveAvgPool2d) and pool.output_size in (1, (1, 1))


def last_feature_map(convnet: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What the average pool of a network averages: (B, 3, H, W) -> (B, D, h, w); of a ResNet, h is H / 32, rounded up.

    Args:
        convnet: a network that ``has_feature_map``.
        images: normalised.
    """
    maps: list[torch.Tensor] = []
    hook = convnet.get_submodule("avgpool").register_forward_pre_hook(lambda module, args: maps.append(args[0]))
    try:
        convnet(images)
    finally:
        hook.remove()
    return maps[0]


def _replace_first_layer(model: nn.Module, in_chans: int) -> None:
    """Puts a convolution of as many channels in the place of the first, with the random weights of ResNets."""
    name, first = next((name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d))
    layer = nn.Conv2d(
        in_chans,
        first.out_channels,
        first.kernel_size,  # type: ignore[arg-type]
        first.stride,  # type: ignore[arg-type]
        first.padding,  # type: ignore[arg-type]
        bias=first.bias is not None,
    )
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, layer)


def _input_shape(layer: nn.Identity, model: nn.Module, in_chans: int) -> torch.Size:
    """What one 224x224 image has become when it reaches a layer of the model."""
    shapes: list[torch.Size] = []
    hook = layer.register_forward_hook(lambda module, args, output: shapes.append(output.shape))
    was_training = model.training
    model.eval()
    with torch.no_grad():
        model(torch.zeros(1, in_chans, 224, 224))
    model.train(was_training)
    hook.remove()
    return shapes[0]
