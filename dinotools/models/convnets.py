"""Convolutional backbones: any torchvision classifier with its classifier removed."""

from __future__ import annotations

import torch
import torchvision
from torch import nn

CLASSIFIERS = ("fc", "classifier", "head", "heads")  # where torchvision's models keep their last layer


def build_convnet(name: str) -> tuple[nn.Module, int]:
    """A randomly initialised torchvision model that returns pooled features.

    Args:
        name: a name that ``torchvision.models.get_model`` knows, such as ``resnet50``.

    Returns:
        The backbone, mapping (B, 3, H, W) to (B, D), and D (2048 for ``resnet50``).

    Raises:
        ValueError: the model has no classifier attribute that we know how to remove.
    """
    model = torchvision.models.get_model(name)
    attribute = next((a for a in CLASSIFIERS if isinstance(getattr(model, a, None), nn.Module)), None)
    if attribute is None:
        raise ValueError(f"torchvision's {name} has none of the classifiers {', '.join(CLASSIFIERS)}")
    setattr(model, attribute, nn.Identity())
    return model, _feature_dim(model)


def _feature_dim(model: nn.Module) -> int:
    was_training = model.training
    model.eval()
    with torch.no_grad():
        features = model(torch.zeros(1, 3, 224, 224))
    model.train(was_training)
    return features.shape[-1]
