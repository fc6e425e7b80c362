"""The network that features come from."""

import numpy as np
import pytest
import torch

from dinotools.configs.classification import KnnConfig
from dinotools.configs.features import FeaturesConfig
from dinotools.evaluation import knn
from dinotools.features import command
from dinotools.features.network import in_chans_of
from dinotools.models.zoo import build_backbone


@pytest.mark.parametrize("arch", ["vit_micro", "resnet18"])
def test_a_network_tells_its_channels(arch):
    backbone, _ = build_backbone(arch, patch_size=4, in_chans=5)
    assert in_chans_of(backbone) == 5
    assert in_chans_of(torch.nn.Flatten()) == 3


def test_features_of_five_channels_with_their_own_range(tmp_path):
    mean, std = [1000.0, 2000.0, 3000.0, 4000.0, 5000.0], [100.0, 200.0, 300.0, 400.0, 500.0]
    rng = np.random.RandomState(0)
    for split in ("train", "val"):
        for label, name in enumerate(("dim", "bright")):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(3):
                values = rng.normal(np.array(mean) + (2 * label - 1) * np.array(std), std, (24, 20, 5))
                np.save(tmp_path / split / name / f"{i}.npy", values.clip(0, 65535).astype(np.uint16))
    torch.manual_seed(0)
    backbone, _ = build_backbone("vit_micro", patch_size=8, img_size=16, in_chans=5)
    about = {"arch": "vit_micro", "patch_size": 8, "img_size": 16, "in_chans": 5, "mean": mean, "std": std}
    weights = {f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}
    torch.save({"teacher": weights, "model": about}, tmp_path / "net.pth")
    options = {
        "ckpt": str(tmp_path / "net.pth"),
        "data": str(tmp_path),
        "workers": 0,
        "resize_size": 18,
        "crop_size": 16,
    }
    result = knn.run(KnnConfig(**options, k=(1,)))
    assert result.rows[0]["top-1 %"] == 100.0
    command.run(FeaturesConfig(**options, out=tmp_path / "features"))
    assert knn.run(KnnConfig(features=tmp_path / "features", k=(1,))).rows[0]["top-1 %"] == 100.0
