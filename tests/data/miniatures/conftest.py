from pathlib import Path

import pytest

from dinotools.configs.data_sets import DataSampleConfig
from dinotools.data.miniatures.command import MINIATURES, run

LIKE = {"cifar100": "cifar10", **dict.fromkeys(("flowers102", "inat18", "inat19", "places205"), "cars")}


@pytest.fixture(scope="session")
def miniatures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with miniatures under their names: all but some of the labelled ones, which are like others."""
    root = tmp_path_factory.mktemp("miniatures")
    for name in MINIATURES.keys() - LIKE.keys():
        run(DataSampleConfig(name=name, to=root / name))
    return root
