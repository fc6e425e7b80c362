"""Self-attention of the [CLS] token in the last block: where a network trained with DINO looks.

Paper: Figures 1 and 3, section 4.2.2; official file ``visualize_attention.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dinotools.models.vit import VisionTransformer


@torch.inference_mode()
def attention_maps(model: VisionTransformer, images: Tensor) -> Tensor:
    """Attention of the [CLS] query to every patch, per head.

    Args:
        model: in eval mode.
        images: normalised (B, 3, H, W); rows and columns beyond the last whole patch are not seen.

    Returns:
        (B, heads, H // patch, W // patch) float32; over a map and the [CLS] token itself it sums to 1.
    """
    grid = (images.shape[-2] // model.patch_size, images.shape[-1] // model.patch_size)
    return model.get_cls_attention(images)[:, :, 1:].unflatten(-1, grid).float()
