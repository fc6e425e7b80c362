"""Results as the commands write them, without running any."""

from pathlib import Path
from typing import Any

from dinotools.reproduction.collecting import Found

VITS16 = {"source": "dino_vits16", "sha256": "ab" * 32, "arch": "vit_small", "patch_size": 16, "training": None}
PAPERS_RUN = {"epochs": 300, "epoch": 300, "batch_size": 1024, "n_images": 1281167, "teacher": "momentum"}
PAPERS_RUN |= {"loss": "ce", "centering": "center", "optimizer": "adamw", "lr": 0.0005, "crops": None}


def knn(top1: float, *, written: float = 1.0, folder: str = "knn", images: int = 1281167, **changes: Any) -> Found:
    """A k-NN of the released ViT-S/16 on ImageNet, as in the paper but for the changes."""
    details = {
        "checkpoint": VITS16 | changes.pop("checkpoint", {}),
        "features": {"resize_size": 256, "crop_size": 224, "pooling": "cls"} | changes.pop("features", {}),
        "data": {"train": {"images": images}, "val": {"images": 50000}, "classes": changes.pop("classes", 1000)},
        "device_name": "NVIDIA H100",
        "precision": changes.pop("precision", "fp32"),
    }
    document = {
        "command": "dinotools knn",
        "metrics": {"k10": {"top1": 1.0}, "k20": {"top1": top1, "top5": 90.0}, "per_class": {"k": 20}},
        "details": details,
        "config": {"temperature": 0.07, "seed": 0, "data": "/data/imagenet", **changes},
        "versions": {"dinotools": "0.1.0", "torch": "2.14.1"},
        "wall_time_s": 12.5,
    }
    return Found(document, Path(folder), written)


def trained(top1: float, row: str, **options: Any) -> Found:
    """A k-NN of a network that was trained here, for a row of the ablations."""
    checkpoint = {"source": "runs/a/checkpoint.pth", "training": PAPERS_RUN | options}
    return knn(top1, paper_row=row, checkpoint=checkpoint)
