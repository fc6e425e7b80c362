"""Features of a folder: complete, in order, and the same however they are batched."""

import numpy as np
import pytest
import torch
from PIL import Image

from dinotools.data.images import ImageFiles
from dinotools.data.transforms import EvalTransform, normalize
from dinotools.features.extraction import View, extract, forward
from dinotools.models.vit import build_vit
from dinotools.runtime.device import prepare
from dinotools.runtime.errors import DinotoolsError

VIEW = View(EvalTransform(36, 32))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_vit("vit_micro", patch_size=16, img_size=32, drop_path_rate=0.5).train()


def test_features_are_those_of_each_image_alone(model, image_folder):
    images = ImageFiles.in_folder(image_folder / "train")
    found = extract(model, images, prepare("cpu", "auto", 0, 0), VIEW, batch_size=5)
    assert found.tensor().shape == (24, 128) and found.tensor().dtype == torch.float32
    assert found.labels.tolist() == list(images.labels)
    assert found.indices.tolist() == list(range(24))
    view = EvalTransform(36, 32)
    model.eval()
    with torch.no_grad():
        alone = torch.cat([model(normalize(view(images.load(i)))[None]) for i in range(24)])
    model.train()
    torch.testing.assert_close(found.tensor(), alone, atol=1e-5, rtol=1e-5)


def test_readers_change_nothing_and_the_mode_comes_back(model, image_folder):
    images = ImageFiles.in_folder(image_folder / "val")
    one = extract(model, images, prepare("cpu", "auto", 0, 0), VIEW)
    two = extract(model, images, prepare("cpu", "auto", 2, 0), VIEW)
    assert torch.equal(one.tensor(), two.tensor())
    assert model.training


def test_unreadable_images_are_left_out_and_named(model, tmp_path):
    for i in range(10):
        Image.fromarray(np.full((20, 20, 3), 20 * i, np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "3.png").write_bytes(b"broken")
    images = ImageFiles.in_folder(tmp_path)
    runtime = prepare("cpu", "auto", 0, 0)
    found = extract(model, images, runtime, VIEW, batch_size=1, max_bad=0.1)
    assert found.indices.tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert found.labels.tolist() == [-1] * 9
    assert [name.endswith("3.png") for name in found.skipped] == [True]
    with pytest.raises(DinotoolsError, match="--max-bad"):
        extract(model, images, runtime, VIEW, max_bad=0.05)


def test_passes_of_any_size_give_the_same_features(model):
    images = torch.randint(0, 256, (7, 3, 32, 32), dtype=torch.uint8)
    runtime = prepare("cpu", "auto", 0, 0)
    model.eval()
    seen = []
    hook = model.register_forward_hook(lambda module, args, output: seen.append(len(output)))
    with torch.no_grad():
        whole = forward(model, images, VIEW, runtime, at_once=7)
        parts = forward(model, images, VIEW, runtime, at_once=3)
    hook.remove()
    model.train()
    assert seen == [7, 3, 3, 1]
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-5)
