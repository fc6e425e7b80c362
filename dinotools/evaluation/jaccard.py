"""Jaccard index between attention and objects: does a head of the last block look at each object as a whole?

Every image at its own size; each head keeps the patches that hold 60 % (or 80 %) of the attention of the [CLS] token;
the Jaccard index of an object is that of the best head, intersection over union of pixels; the mean over the objects
of an image, then over images. Void pixels belong to nobody. Figure 4 says 60 %, appendix D 80 %, of the same numbers;
neither says the size of images, nor whether masks are of objects or of classes.
Paper: section 4.2.2, Figure 4. PASCAL VOC 2012 val: DINO ViT-S/16 45.9, ViT-S/8 44.7; random 22.0 and 21.8.

    dinotools jaccard --ckpt dino_vits16 --data /datasets/VOCdevkit/VOC2012
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from dinotools.configs import files
from dinotools.configs.attention import JaccardConfig
from dinotools.data.masks import VOID
from dinotools.data.voc import CLASSES, VocImages, open_voc
from dinotools.features.attention_maps import AttentionNetwork, keep_mass, open_attention
from dinotools.models.checkpoints import RANDOM
from dinotools.reporting import paper
from dinotools.runtime import device, run_directory
from dinotools.runtime.console import track
from dinotools.runtime.errors import DinotoolsError, RunFailed, require
from dinotools.runtime.results import Result

COLUMN = "Jaccard, 60 % of the attention"  # of Fig. 4
PAPER_IMAGES = 1449  # VOC 2012 val


def run(config: JaccardConfig) -> Result:
    """Opens data and network, and compares every object with every head.

    Raises:
        DinotoolsError: the checkpoint, the data or an option cannot be used.
        RunFailed: no image has an object.
    """
    for threshold in config.threshold:
        require(0 < threshold <= 1, f"is {threshold:g}", "threshold", "It must be above 0 and at most 1.")
    require(bool(config.threshold), "is empty", "threshold", "Give 0.6, say.")
    require(config.imsize is None or config.imsize > 0, f"is {config.imsize}", "imsize", "It must be above 0.")
    images = open_voc(config.data, config.split, config.masks)
    runtime = device.prepare(config.device, config.precision, config.workers, config.seed)
    network = open_attention(config, config.fit, config.imsize, runtime, config.seed)
    if config.out is not None:
        inputs = (config.ckpt, config.data)
        run_directory.claim(config.out, files.dump(config), overwrite=config.overwrite, inputs=inputs)
    found = measure(images, network, config.threshold)
    if not found:
        raise RunFailed("marks no object in any image", config.data, "Give another split.")
    means = [100 * statistics.fmean(of[i].mean().item() for of in found) for i in range(len(config.threshold))]
    n_objects = sum(of.shape[1] for of in found)
    papers = paper_number(config, network, images)
    return Result(
        title=f"Jaccard · {network.backbone.source} · {config.data}, {config.split}",
        rows=[
            {"attention kept %": round(100 * threshold, 6), "Jaccard %": mean} | ({"paper %": papers} if papers else {})
            for threshold, mean in zip(config.threshold, means, strict=True)
        ],
        metrics={"jaccard": {f"{threshold:g}": mean for threshold, mean in zip(config.threshold, means, strict=True)}},
        details={
            "checkpoint": network.backbone.describe(),
            "data": {"images": len(found), "objects": n_objects, "masks": images.kind},
            **runtime.describe(),
        },
        notes=tuple(remarks(images, len(found), n_objects)),
    )


def measure(images: VocImages, network: AttentionNetwork, thresholds: Sequence[float]) -> list[Tensor]:
    """Jaccard index of every object, for every image that has one: (thresholds, objects) float64.

    Raises:
        DinotoolsError: an image or a mask cannot be read.
    """
    loader = DataLoader(images, batch_size=None, num_workers=network.runtime.workers)
    found = []
    for path, sample in zip(images.images, track(loader, "attention", total=len(images)), strict=True):
        if isinstance(sample, DinotoolsError):
            raise sample
        maps = network.maps(sample.image, path)
        of_image = torch.stack([
            best_head(
                network.grid.enlarge(keep_mass(maps, threshold).float(), *sample.mask.shape) > 0, sample.mask
            )
            for threshold in thresholds
        ])  # fmt: skip
        if of_image.shape[1]:
            found.append(of_image)
    return found


def best_head(kept: Tensor, mask: Tensor) -> Tensor:
    """Jaccard index of each object with the head that fits it best.

    ::

        for object in mask:
            max over heads of |object and kept| / |object or kept|, pixels that are void left out

    Args:
        kept: what each head looks at, (heads, H, W) bool.
        mask: (H, W) uint8; 0 is background, 255 is void.

    Returns:
        (objects,) float64, in the order of their numbers.
    """
    sizes = mask.flatten().bincount(minlength=VOID + 1)
    objects = sizes[1:VOID].nonzero().squeeze(1) + 1
    looked_at = kept & (mask != VOID)
    both = torch.stack([mask[of_head].bincount(minlength=VOID + 1) for of_head in looked_at])[:, objects]
    either = sizes[objects] + looked_at.sum((1, 2))[:, None] - both
    return (both.double() / either).amax(0)


def paper_number(config: JaccardConfig, network: AttentionNetwork, images: VocImages) -> float | None:
    """The paper's index in percent, where network and data are those of the paper."""
    if len(images) != PAPER_IMAGES or config.split != "val" or config.imsize is not None:
        return None
    backbone = network.backbone
    if config.ckpt != RANDOM:
        return paper.tables()["fig4"].published(backbone.source, COLUMN)
    known = backbone.arch == "vit_small" and backbone.patch_size in (8, 16)
    return paper.row(f"fig4/random-vits{backbone.patch_size}").values[COLUMN] if known else None


def remarks(images: VocImages, n_images: int, n_objects: int) -> Iterator[str]:
    """What was compared."""
    kind = "all objects of a class as one" if images.kind == CLASSES else "every object by itself"
    yield f"{n_objects:,} masks of {images.kind} ({kind}) in {n_images:,} images."
    if n_images < len(images):
        yield f"Images without any object, left out: {len(images) - n_images:,}."
