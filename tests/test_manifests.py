"""Data manifests agree with what the libraries know."""

import sys
from pathlib import Path

import torchvision

from dinotools.data.sources import TORCHVISION

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parents[1] / "data_manifests"


def test_cifar10():
    manifest = tomllib.loads((FOLDER / "cifar10.toml").read_text())
    assert "cifar10" in TORCHVISION
    assert manifest["archive"]["md5"] == torchvision.datasets.CIFAR10.tgz_md5
    assert manifest["archive"]["url"] == torchvision.datasets.CIFAR10.url
