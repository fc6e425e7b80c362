from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image
from torch._subclasses.fake_tensor import FakeTensorMode

torch.set_num_threads(1)  # many tiny tensors: more threads would mostly wait for one another

# The same examples on every run: a failure that a colleague sees is a failure that you see.
settings.register_profile("dinotools", deadline=None, derandomize=True)
settings.load_profile("dinotools")


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """Tensors of the test have shapes and devices but no values, and a mix-up of devices raises.

    Build modules and inputs in ``with fake_cuda:`` and run them outside, where what names no device lies on the CPU.
    """
    monkeypatch.setattr(torch.nn.init, "trunc_normal_", lambda tensor, **_: tensor)  # it would look at its values
    with FakeTensorMode():
        yield torch.device("cuda")


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ and val/ with three classes of small pictures: 8 + 4 of each, told apart by colour."""
    root = tmp_path_factory.mktemp("images")
    random = np.random.RandomState(0)
    for split, count in (("train", 8), ("val", 4)):
        for channel, name in enumerate(("red", "green", "blue")):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = random.randint(0, 120, size=(40, 48, 3)).astype(np.uint8)
                pixels[..., channel] += 100
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root
