"""Pooling: words, their parts, and the values of each part."""

import pytest
import torch
from torch import nn

from dinotools.features.pooling import PooledBackbone, Pooling, gem
from dinotools.models.vit import build_vit
from dinotools.runtime.errors import DinotoolsError


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(0)
    return build_vit("vit_micro", patch_size=8, img_size=32).eval().requires_grad_(False)


@pytest.mark.parametrize("word", ["cls", "cls4", "avg", "gem", "gem3", "cls+avg", "cls4+avg", "cls+gem", "avg+gem2.5"])
def test_a_word_reads_back(word):
    assert str(Pooling.parse(word)) == word
    assert Pooling.parse(word.upper()) == Pooling.parse(word)


@pytest.mark.parametrize("word", ["", "cls0", "mean", "cls+cls4", "avg4", "gem0", "cls+", "cls avg", "gem+gem3"])
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
    assert Pooling.parse("cls").columns(Pooling.parse("cls2"), 128) is None


class Pooled(nn.Module):
    def forward(self, images):
        return images.mean(dim=(2, 3))


def test_a_network_without_tokens_has_its_own_feature_only():
    images = torch.randn(2, 3, 8, 8)
    for word in ("cls", "avg"):
        assert torch.equal(PooledBackbone(Pooled(), Pooling.parse(word))(images), images.mean(dim=(2, 3)))
    with pytest.raises(DinotoolsError, match="needs the tokens of a ViT"):
        PooledBackbone(Pooled(), Pooling.parse("gem"))


def test_more_blocks_than_there_are_is_an_error(vit):
    with pytest.raises(DinotoolsError, match=r"network of 4 blocks.*cls4"):
        PooledBackbone(vit, Pooling.parse("cls5"))


def test_gem_of_power_one_is_the_mean():
    patches = torch.rand(2, 5, 3) + 0.1
    torch.testing.assert_close(gem(patches, 1.0), patches.mean(dim=1))


@pytest.mark.parametrize("training", [True, False])
def test_pooling_keeps_the_mode_of_the_backbone(training):
    backbone = nn.Sequential(nn.BatchNorm2d(3), Pooled()).train(training)
    pooled = PooledBackbone(backbone, Pooling())
    assert (pooled.training, backbone[0].training) == (training, training)
