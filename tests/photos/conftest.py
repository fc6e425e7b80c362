"""Photos of coloured noise and a small random network."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dinotools.models.zoo import build_backbone

SIZES: dict[str, Any] = {"imsize": 32, "workers": 0, "device": "cpu"}
RANDOM: dict[str, Any] = {"ckpt": "random", "arch": "vit_micro", "patch_size": 8, **SIZES}


def coloured_noise(seed: int, width: int = 96, height: int = 80) -> Image.Image:
    """Soft patches of colour, different for every seed."""
    random = np.random.RandomState(seed)
    small = random.randint(0, 256, size=(4, 5, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """30 photos, 10 of them in a folder within."""
    root = tmp_path / "photos"
    (root / "trip").mkdir(parents=True)
    for seed in range(30):
        coloured_noise(seed).save(root / ("trip" if seed >= 20 else "") / f"{seed:02d}.png")
    return root


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were decoded, as it goes on."""
    from dinotools.data import images

    seen: list[str] = []
    load = images.ImageFiles.load

    def noted(source: images.ImageFiles, index: int) -> Image.Image:
        seen.append(Path(source.name(index)).name)
        return load(source, index)

    monkeypatch.setattr(images.ImageFiles, "load", noted)
    return seen


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A file of weights."""
    path = tmp_path / "weights.pth"
    save_weights(path, seed=0)
    return path


def save_weights(path: Path, seed: int) -> None:
    """A backbone's state dict."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, _ = build_backbone("vit_micro", 8, 32)
    torch.save(model.state_dict(), path)
