"""Multi-scale features: the official numbers, and every image for itself."""

import pytest
import torch
import torch.nn.functional as F

from dinotools.features.scales import SCALES, MultiScale
from dinotools.models.vit import build_vit
from tests.golden.official import arrays, fill, normal

SHAPES = {821: (1, 3, 176, 224), 822: (1, 3, 250, 187), 823: (2, 3, 160, 160)}


@pytest.fixture(scope="module")
def vit():
    return fill(build_vit("vit_tiny", patch_size=16)).eval()


@pytest.mark.parametrize("seed", SHAPES)
@torch.no_grad()
def test_the_official_features_at_three_scales(vit, seed):
    found = MultiScale(vit)(normal(seed, SHAPES[seed]))
    official = torch.from_numpy(arrays("retrieval")[f"multiscale/{seed}/feature"])
    assert official.norm() == pytest.approx(1, abs=1e-5)  # of the whole batch: its rows are shorter
    torch.testing.assert_close(found, F.normalize(official, dim=1), atol=3e-6, rtol=0)


@torch.no_grad()
def test_each_image_is_normalised_for_itself(vit):
    images = normal(1, (3, 3, 64, 48)) * torch.tensor([0.1, 1.0, 3.0])[:, None, None, None]
    together = MultiScale(vit)(images)
    alone = torch.cat([MultiScale(vit)(image[None]) for image in images])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(3))


def test_sizes_are_rounded_down():
    seen = []
    network = torch.nn.Module()
    network.forward = lambda images: seen.append(tuple(images.shape[-2:])) or images.mean(dim=(2, 3))
    MultiScale(network)(normal(0, (1, 3, 250, 187)))
    assert seen == [(250, 187), (176, 132), (125, 93)] and len(SCALES) == 3
