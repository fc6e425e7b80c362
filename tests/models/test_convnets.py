from functools import cache

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from dinotools.models.convnets import build_convnet, has_feature_map, last_feature_map
from dinotools.models.head import DINOHead
from dinotools.models.multicrop import MultiCropWrapper
from tests.golden import official

GOLDEN = official.arrays("resnet50")


@cache
def resnet50() -> nn.Module:
    return official.fill(build_convnet("resnet50")[0]).eval()


def test_names_shapes_and_parameter_count_are_official():
    recorded = official.keys()["resnet50"]
    state = [[key, list(value.shape)] for key, value in resnet50().state_dict().items()]
    assert state == recorded["state_dict"]
    assert len(state) == recorded["n_keys_without_fc"]
    assert sum(p.numel() for p in resnet50().parameters()) == recorded["n_parameters_without_fc"]


@pytest.mark.parametrize(("seed", "shape"), [(890, (2, 3, 224, 224)), (891, (1, 3, 160, 192)), (892, (1, 3, 96, 96))])
@torch.no_grad()
def test_features_agree_with_the_official_run(seed, shape):
    features = resnet50()(official.normal(seed, shape))
    np.testing.assert_allclose(features, GOLDEN[f"{seed}/feature"], rtol=0, atol=2e-5)


@torch.no_grad()
def test_batch_norm_inside_the_multi_crop_wrapper_agrees_with_the_official_run():
    head = DINOHead(2048, 128, use_bn=True, hidden_dim=64, bottleneck_dim=32)
    model = official.fill(MultiCropWrapper(build_convnet("resnet50")[0], head)).train()
    crops = [official.normal(seed, (4, 3, side, side)) for seed, side in [(895, 96), (896, 96), (897, 64)]]
    out = model(crops)
    np.testing.assert_allclose(out, GOLDEN["train_mode_wrapper/out"], rtol=0, atol=2e-3)

    buffers = dict(model.named_buffers())
    recorded = [key for key in GOLDEN if "running" in key]
    assert len(recorded) == 6
    for key in recorded:
        np.testing.assert_allclose(buffers[key.split("/")[1]], GOLDEN[key], rtol=0, atol=2e-3)
    assert buffers["backbone.bn1.num_batches_tracked"] == 2  # one pass per resolution
    assert buffers["head.mlp.1.num_batches_tracked"] == 1


@pytest.mark.parametrize(("name", "dim"), [("resnet18", 512), ("mobilenet_v3_small", 576), ("vit_b_32", 768)])
@torch.no_grad()
def test_the_stated_width_is_that_of_the_feature(name, dim):
    model, stated = build_convnet(name)
    assert stated == dim
    assert model.training
    assert model.eval()(torch.zeros(2, 3, 224, 224)).shape == (2, dim)


@pytest.mark.parametrize("name", ["convnext_tiny", "squeezenet1_1"])
def test_a_model_that_pools_inside_its_classifier_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} pools inside its classifier"):
        build_convnet(name)


def test_a_model_without_a_known_classifier_is_refused(monkeypatch):
    monkeypatch.setattr("torchvision.models.get_model", lambda name: nn.Sequential())
    with pytest.raises(ValueError, match="acme has none of the classifiers"):
        build_convnet("acme")


@pytest.mark.parametrize("name", ["resnet18", "regnet_y_400mf", "efficientnet_b0", "mobilenet_v3_small"])
@torch.no_grad()
def test_the_feature_is_the_average_of_the_last_feature_map(name):
    model = build_convnet(name)[0].eval()
    images = official.normal(893, (2, 3, 64, 96))
    assert has_feature_map(model)
    feature_map = last_feature_map(model, images)
    assert feature_map.shape[2:] == (2, 3)
    torch.testing.assert_close(feature_map.mean(dim=(2, 3)), model(images), atol=1e-6, rtol=1e-5)
    assert not model.get_submodule("avgpool")._forward_pre_hooks


@pytest.mark.parametrize("name", ["vgg11", "densenet121", "mobilenet_v2", "vit_b_32"])
def test_a_network_that_shows_no_feature_map_says_so(name):
    with torch.device("meta"):
        assert not has_feature_map(getattr(torchvision.models, name)())


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "vgg11", "vit_b_32"])
def test_the_first_layer_takes_as_many_channels_as_the_images_have(name):
    with torch.device("meta"):
        usual = getattr(torchvision.models, name)().state_dict()
    model, dim = build_convnet(name, in_chans=5)
    with torch.no_grad():
        assert model.eval()(torch.zeros(1, 5, 224, 224)).shape == (1, dim)
    changed = {key for key, value in model.state_dict().items() if value.shape != usual[key].shape}
    assert changed == {next(key for key, value in usual.items() if value.ndim == 4)}
