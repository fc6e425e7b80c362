"""A network that follows the objects of a first mask through a video, a frame at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from dinotools.configs.normalization import IMAGENET_STD
from dinotools.data.transforms import normalize
from dinotools.evaluation.davis.frames import DAVIS_STD, first_labels, full_size_mask
from dinotools.evaluation.davis.propagation import LabelPropagation
from dinotools.models.checkpoints import LoadedBackbone
from dinotools.models.vit import VisionTransformer
from dinotools.runtime.device import Runtime
from dinotools.runtime.errors import DinotoolsError, RunFailed


class Tracker:
    """Frames in, labels out; memory holds the context frames and nothing of the video before them.

    Args:
        backbone: a ViT; where its images are normalised as ImageNet's, frames are as officially (``DAVIS_STD``).
        runtime: where to compute.
        propagation: the method and its numbers.

    Raises:
        DinotoolsError: the network has no patch tokens.
    """

    def __init__(self, backbone: LoadedBackbone, runtime: Runtime, propagation: LabelPropagation) -> None:
        if backbone.patch_size is None or not hasattr(backbone.model, "get_intermediate_layers"):
            raise DinotoolsError(f"{backbone.arch} has no patch tokens", "--ckpt", "Take a ViT.")
        self.patch_size = backbone.patch_size
        self.mean: Sequence[float] = backbone.mean
        self.std: Sequence[float] = DAVIS_STD if tuple(backbone.std) == IMAGENET_STD else backbone.std
        self._model = cast(VisionTransformer, backbone.model.to(runtime.device))
        self._runtime, self._propagation = runtime, propagation

    def start(self, pixels: Tensor, mask: np.ndarray) -> int:
        """Begins a video and forgets the one before.

        Args:
            pixels: the first frame at working size, (3, height, width) uint8.
            mask: its objects, (H, W) uint8 at any size; masks are given back at this one.

        Returns:
            How many classes are followed: the largest number that the patch grid has room for, and the background.
        """
        features = self._features(pixels)
        labels = first_labels(mask, *features.shape[:2])
        self._size = mask.shape
        self._propagation.start(features, labels.to(features.device))
        return len(labels)

    def step(self, pixels: Tensor) -> Tensor:
        """Soft labels (C, h, w) float32 of the next frame, on the device; pixels as in ``start``, of the same size."""
        return self._propagation.step(self._features(pixels))

    def mask(self, labels: Tensor) -> np.ndarray:
        """The mask (H, W) uint8 that soft labels amount to, at the size of the first mask.

        Raises:
            RunFailed: the labels are not finite, since the network's features are not.
        """
        if not labels.isfinite().all():
            raise RunFailed("the network's features of a frame are not finite", "--precision", "Use fp32.")
        height, width = self._size
        return full_size_mask(labels, self.patch_size, height, width)

    @torch.inference_mode()
    def _features(self, pixels: Tensor) -> Tensor:
        """Features of the patches of a frame: (h, w, D)."""
        rows, columns = (side // self.patch_size for side in pixels.shape[1:])
        images = normalize(pixels.to(self._runtime.device), self.mean, self.std)[None]
        with self._runtime.autocast():
            tokens = self._model.get_intermediate_layers(images)[-1][0, 1:]
        return tokens.unflatten(0, (rows, columns))
