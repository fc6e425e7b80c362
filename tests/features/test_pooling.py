"""Pooling: words, their parts, and the values of each part."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from dinotools.features.pooling import PooledBackbone, Pooling, gem, rmac, rmac_regions
from dinotools.models.convnets import build_convnet
from dinotools.models.vit import build_vit
from dinotools.runtime.errors import DinotoolsError
from tests.golden import official


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(0)
    return build_vit("vit_micro", patch_size=8, img_size=32).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return build_convnet("resnet18")[0].eval()


WORDS = ["cls", "cls4", "avg", "gem", "gem3", "rmac", "cls+avg", "cls4+avg", "cls+gem", "avg+gem2.5", "cls2+gem+rmac"]


@pytest.mark.parametrize("word", WORDS)
def test_a_word_reads_back(word):
    assert str(Pooling.parse(word)) == word
    assert Pooling.parse(word.upper()) == Pooling.parse(word)


@pytest.mark.parametrize(
    "word", ["", "cls0", "mean", "cls+cls4", "avg4", "gem0", "cls+", "cls avg", "gem+gem3", "rmac3", "rmac+rmac"]
)
def test_what_is_no_pooling_is_refused(word):
    with pytest.raises(DinotoolsError, match="is no pooling"):
        Pooling.parse(word)


def test_parts_hold_what_their_names_say(vit):
    images = torch.randn(2, 3, 32, 40)
    layers = vit.get_intermediate_layers(images, 4)
    patches = layers[-1][:, 1:].double()
    pooled = PooledBackbone(vit, Pooling.parse("cls4+avg+gem"))(images)
    assert pooled.shape == (2, 6 * 128)
    for i, tokens in enumerate(layers):
        torch.testing.assert_close(pooled[:, i * 128 : (i + 1) * 128], tokens[:, 0])
    expected = torch.stack([torch.stack([row.sum(dim=0) / len(row)]) for row in patches])[:, 0]
    torch.testing.assert_close(pooled[:, 512:640].double(), expected, atol=1e-6, rtol=1e-5)
    by_hand = torch.tensor(
        [[(sum(max(float(v), 1e-6) ** 4 for v in row[:, c]) / len(row)) ** 0.25 for c in range(3)] for row in patches]
    )
    torch.testing.assert_close(pooled[:, 640:643], by_hand, atol=1e-6, rtol=1e-5)
    assert torch.equal(PooledBackbone(vit, Pooling.parse("cls"))(images), vit(images))
    torch.testing.assert_close(PooledBackbone(vit, Pooling.parse("cls1"))(images), layers[-1][:, 0])


def test_a_narrower_pooling_is_found_in_a_wider_one(vit):
    images = torch.randn(3, 3, 32, 32)
    wide = Pooling.parse("cls4+avg")
    features = PooledBackbone(vit, wide)(images)
    for word in ("cls", "cls2", "avg", "cls+avg", "cls3+avg"):
        columns = wide.columns(Pooling.parse(word), features.shape[1])
        torch.testing.assert_close(features[:, columns], PooledBackbone(vit, Pooling.parse(word))(images))
    assert wide.columns(Pooling.parse("gem"), features.shape[1]) is None
    assert wide.columns(Pooling.parse("rmac"), features.shape[1]) is None
    assert Pooling.parse("cls+gem+rmac").columns(Pooling.parse("rmac"), 9).tolist() == [6, 7, 8]
    assert Pooling.parse("cls").columns(Pooling.parse("cls2"), 128) is None


class Pooled(nn.Module):
    def forward(self, images):
        return images.mean(dim=(2, 3))


def test_a_network_without_tokens_has_its_own_feature_only():
    images = torch.randn(2, 3, 8, 8)
    for word in ("cls", "avg"):
        assert torch.equal(PooledBackbone(Pooled(), Pooling.parse(word))(images), images.mean(dim=(2, 3)))
    with pytest.raises(DinotoolsError, match=r"gem needs a feature map, and Pooled shows none.*Use cls"):
        PooledBackbone(Pooled(), Pooling.parse("gem"))


@pytest.mark.parametrize("word", ["cls2", "cls+avg", "cls4+gem"])
def test_a_convolutional_network_has_no_more_than_one_average(resnet, word):
    with pytest.raises(DinotoolsError, match=r"needs the tokens of a ViT.*cls, gem, rmac"):
        PooledBackbone(resnet, Pooling.parse(word))


@torch.no_grad()
def test_the_cells_of_a_feature_map_are_pooled_like_patches(resnet):
    images = torch.randn(2, 3, 64, 160)
    cells = nn.Sequential(*list(resnet.children())[:-2])(images)  # all but the pool and what was the classifier
    assert cells.shape == (2, 512, 2, 5)
    patches = cells.permute(0, 2, 3, 1).reshape(2, 10, 512)
    expected = {"cls": resnet(images), "gem3": gem(patches, 3.0), "rmac": rmac(patches, (2, 5))}
    expected["avg"] = expected["cls"]
    for word in ("cls", "avg", "gem3", "rmac", "avg+rmac", "cls+gem3+rmac"):
        pooled = PooledBackbone(resnet, Pooling.parse(word))(images)
        torch.testing.assert_close(pooled, torch.cat([expected[part] for part in word.split("+")], dim=1))


def test_more_blocks_than_there_are_is_an_error(vit):
    with pytest.raises(DinotoolsError, match=r"network of 4 blocks.*cls4"):
        PooledBackbone(vit, Pooling.parse("cls5"))


def test_gem_of_power_one_is_the_mean():
    patches = torch.rand(2, 5, 3) + 0.1
    torch.testing.assert_close(gem(patches, 1.0), patches.mean(dim=1))


@torch.no_grad()
def test_the_official_copy_detection_descriptor():
    """[CLS] and GeM of patch tokens as the official code makes them of images that are already tensors."""
    golden = official.arrays("copydays")
    network = official.fill(build_vit("vit_tiny", 16)).eval()
    images = official.normal(861, (2, 3, 96, 64))
    descriptor = PooledBackbone(network, Pooling.parse("cls+gem"))
    np.testing.assert_allclose(descriptor(images), golden["descriptor_tensor/features"], rtol=0, atol=3e-5)
    exact = descriptor.double()(images.double())
    np.testing.assert_allclose(exact, golden["descriptor_tensor/features_f64"], rtol=1e-9)


# -- R-MAC

GRIDS = [
    (1, 1),
    (1, 5),
    (5, 1),
    (2, 3),
    (3, 3),
    (4, 4),
    (7, 7),
    (14, 14),
    (9, 10),
    (21, 28),
    (28, 21),
    (30, 52),
    (6, 40),
]


def regions_by_hand(height, width):
    """The paper's definition: every number of regions along the longer side is tried."""
    short, long = sorted((height, width))
    m = 1
    if long > short:
        overlaps = {m: 1 - Fraction(long - short, (m - 1) * short) for m in range(2, 200)}
        m = min(overlaps, key=lambda m: abs(overlaps[m] - Fraction(2, 5)))
    regions = []
    for level in (1, 2, 3):
        side = max(1, int(Fraction(2 * short, level + 1)))
        counts = {short: level, long: level + m - 1}
        places = []
        for length in (height, width):
            step = Fraction(length - side, counts[length] - 1) if counts[length] > 1 else 0
            places.append([int(i * step) for i in range(counts[length])])
        regions += sorted({(top, left, side) for top in places[0] for left in places[1]})
    return regions


@pytest.mark.parametrize("grid", GRIDS)
def test_regions_are_those_of_the_definition(grid):
    regions = rmac_regions(*grid)
    assert regions == regions_by_hand(*grid)
    covered = torch.zeros(grid)
    for top, left, side in regions:
        assert top >= 0 and left >= 0 and top + side <= grid[0] and left + side <= grid[1]
        covered[top : top + side, left : left + side] += 1
    assert covered.min() > 0
    assert sorted((left, top, side) for top, left, side in regions) == sorted(rmac_regions(*grid[::-1]))


@pytest.mark.parametrize(("grid", "counts"), [((12, 12), [1, 4, 9]), ((12, 16), [2, 6, 12]), ((24, 12), [3, 8, 15])])
def test_numbers_of_regions_that_the_paper_implies(grid, counts):
    """An overlap of 40 % means steps of 60 %: two regions along 4:3, three along 2:1 (which overlap by half)."""
    sides = [side for _, _, side in rmac_regions(*grid)]
    assert [sides.count(side) for side in (12, 8, 6)] == counts


@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (5, 4), (7, 7)])
def test_rmac_equals_regions_pooled_one_by_one(grid):
    patches = torch.randn(2, grid[0] * grid[1], 6, dtype=torch.float64)
    for row, found in zip(patches.tolist(), rmac(patches, grid), strict=True):
        total = [0.0] * 6
        for top, left, side in regions_by_hand(*grid):
            cells = [row[y * grid[1] + x] for y in range(top, top + side) for x in range(left, left + side)]
            maxima = [max(cell[c] for cell in cells) for c in range(6)]
            length = sum(value**2 for value in maxima) ** 0.5
            total = [so_far + value / length for so_far, value in zip(total, maxima, strict=True)]
        torch.testing.assert_close(found, torch.tensor(total, dtype=torch.float64))


def test_the_grid_of_a_vit_leaves_out_what_fills_no_patch(vit):
    images = torch.randn(2, 3, 31, 47)
    patches = vit.get_intermediate_layers(images, 1)[0][:, 1:]
    assert torch.equal(PooledBackbone(vit, Pooling.parse("rmac"))(images), rmac(patches, (3, 5)))


@pytest.mark.parametrize("training", [True, False])
def test_pooling_keeps_the_mode_of_the_backbone(training):
    backbone = nn.Sequential(nn.BatchNorm2d(3), Pooled()).train(training)
    pooled = PooledBackbone(backbone, Pooling())
    assert (pooled.training, backbone[0].training) == (training, training)
