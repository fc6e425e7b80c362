"""Self-attention of the [CLS] token in the last block: where a network trained with DINO looks.

Paper: Figures 1, 3 and 4, section 4.2.2; official file ``visualize_attention.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from dinotools.configs.attention import Fit
from dinotools.configs.shared import BackboneOptions
from dinotools.data.patch_grid import PatchGrid
from dinotools.data.transforms import normalize
from dinotools.models.checkpoints import LoadedBackbone, load_backbone
from dinotools.models.timm_backbones import is_timm
from dinotools.models.vit import VisionTransformer
from dinotools.runtime.device import Runtime
from dinotools.runtime.errors import DinotoolsError, RunFailed


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


def keep_mass(maps: Tensor, threshold: float) -> Tensor:
    """The patches that receive most attention: as few as hold the given share of it.

    ::

        sort a map's patches from the least attention to the most
        drop them from the beginning while what is dropped is at most 1 - threshold of the whole

    Args:
        maps: (..., rows, columns), not negative.
        threshold: share of the attention to patches that is kept, above 0 and up to 1; in the paper 0.6 or 0.8.

    Returns:
        (..., rows, columns) bool.
    """
    attention = maps.flatten(-2)
    values, order = (attention / attention.sum(-1, keepdim=True)).sort(stable=True)
    kept = values.cumsum(-1) > 1 - threshold
    return torch.zeros_like(kept).scatter(-1, order, kept).unflatten(-1, maps.shape[-2:])


@dataclass(frozen=True)
class AttentionNetwork:
    """A ViT that shows where it looks in an image of any size.

    Args:
        backbone: as it was loaded.
        model: its ViT, on the device.
        grid: how an image becomes patches.
        runtime: where to compute.
    """

    backbone: LoadedBackbone
    model: VisionTransformer
    grid: PatchGrid
    runtime: Runtime

    @property
    def n_heads(self) -> int:
        """Heads of the last block."""
        return self.model.blocks[-1].attn.num_heads  # type: ignore[union-attr,return-value]

    def maps(self, image: Image.Image, name: object) -> Tensor:
        """Attention to the patches of an RGB image: (heads, rows, columns) float32 on the CPU.

        Args:
            image: of any size.
            name: what to call it in a message.

        Raises:
            DinotoolsError: it is smaller than a patch.
            RunFailed: attention is not finite.
        """
        pixels = self.grid(image)
        if pixels.numel() == 0:
            height, width = self.grid.resized(image.height, image.width)
            what = f"{width} x {height} pixels are less than a patch of {self.grid.patch_size}"
            raise DinotoolsError(what, name, "Enlarge it with --imsize, or add --fit pad or --fit resize.")
        pixels = normalize(pixels[None].to(self.runtime.device), self.backbone.mean, self.backbone.std)
        with self.runtime.autocast():
            maps = attention_maps(self.model, pixels)[0].cpu()
        if not maps.isfinite().all():
            raise RunFailed("the attention is not finite", name, "Use --precision fp32, or check the weights.")
        return maps


def open_attention(
    options: BackboneOptions, fit: Fit, imsize: int | None, runtime: Runtime, seed: int
) -> AttentionNetwork:
    """Loads the network that options name.

    Args:
        options: which network.
        fit: how images become whole patches.
        imsize: longer side of an image after resizing; None for its own.
        runtime: where to compute.
        seed: of random weights.

    Raises:
        DinotoolsError: no network is named, it cannot be loaded, or shows no attention.
    """
    if options.ckpt is None:
        raise DinotoolsError("no network whose attention to show", "--ckpt", "Give --ckpt.")
    backbone = load_backbone(
        options.ckpt,
        key=options.key,
        arch=options.arch,
        patch_size=options.patch_size,
        seed=seed,
    )
    model = backbone.model
    if not isinstance(model, VisionTransformer):
        why = "timm's networks do not show theirs" if is_timm(backbone.arch) else "only a ViT has it"
        raise DinotoolsError(
            f"{backbone.arch} has no attention of a [CLS] token to show: {why}", "--ckpt", "Take dino_vits16, say."
        )
    grid = PatchGrid(model.patch_size, fit, imsize)
    return AttentionNetwork(backbone, model.to(runtime.device), grid, runtime)
