import numpy as np
import pytest
import torch
from torch import nn

from dinotools.models.head import DINOHead
from dinotools.models.multicrop import MultiCropWrapper
from tests.golden import official

GOLDEN = official.arrays("head")
CROPS = [(301, 64), (302, 64), (303, 32), (304, 32), (305, 32)]


def crops() -> list[torch.Tensor]:
    return [official.normal(seed, (4, 3, side, side)) for seed, side in CROPS]


def network() -> MultiCropWrapper:
    return official.fill(official.small_network())


def assert_recorded(out: torch.Tensor, name: str) -> None:
    np.testing.assert_allclose(out.detach(), GOLDEN[f"wrapper/{name}"], rtol=0, atol=2e-6)


class Recorder(nn.Module):
    """A backbone that remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(x.shape))
        return x.mean(dim=(2, 3))


def test_names_are_official():
    assert list(official.small_network().state_dict()) == GOLDEN["wrapper/state_dict_keys"].tolist()


@torch.no_grad()
def test_outputs_agree_with_the_official_run():
    model, views = network(), crops()
    assert_recorded(model(views), "out")
    assert_recorded(model(views[:2]), "out_two_global")
    assert_recorded(model(views[0]), "out_single_tensor")
    assert_recorded(model([views[i] for i in (2, 0, 3, 1)]), "out_interleaved_order_2031")
    assert_recorded(torch.cat([model.backbone(view) for view in views]), "backbone_features")


@torch.no_grad()
def test_features_are_what_the_head_reads():
    model, views = network(), crops()
    features = model.features(views)
    torch.testing.assert_close(features, torch.cat([model.backbone(view) for view in views]), rtol=0, atol=2e-6)
    assert torch.equal(model.head(features), model(views))
    assert torch.equal(model.features(views[0]), model.backbone(views[0]))


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (2, 0, 3, 1, 4), (0, 2, 4, 1, 3), (3,)])
@torch.no_grad()
def test_equals_each_crop_alone(order):
    model, views = network(), [crops()[i] for i in order]
    alone = [model.head(model.backbone(view)) for view in views]
    torch.testing.assert_close(model(views), torch.cat(alone), rtol=0, atol=2e-6)


def test_runs_the_backbone_once_per_run_of_equal_widths():
    sizes = [(8, 8), (8, 8), (4, 4), (4, 6), (4, 6), (8, 8)]
    model = MultiCropWrapper(Recorder(), nn.Identity())
    out = model([torch.full((2, 3, height, width), float(i)) for i, (height, width) in enumerate(sizes)])
    assert model.backbone.shapes == [(4, 3, 8, 8), (2, 3, 4, 4), (4, 3, 4, 6), (2, 3, 8, 8)]
    assert out[::2, 0].tolist() == [0, 1, 2, 3, 4, 5]  # crop after crop, in the order of the list


def test_runs_on_fake_cuda(fake_cuda):
    with fake_cuda:
        model = MultiCropWrapper(official.small_vit(), DINOHead(64, 128, hidden_dim=32, bottleneck_dim=16))
        crops = [torch.empty(2, 3, side, side) for side in (64, 64, 32, 32, 24)]
    out = model(crops)
    assert (out.device.type, out.shape) == ("cuda", (10, 128))
