import pytest
import torch

from dinotools.models.vit import build_vit
from tests.golden import official

timm = pytest.importorskip("timm")


@torch.no_grad()
def test_our_weights_are_timms_weights():
    ours = official.fill(build_vit("vit_small", 16)).eval()
    theirs = timm.create_model("vit_small_patch16_224", num_classes=0, pretrained=False).eval()
    theirs.load_state_dict(ours.state_dict())
    x = official.normal(10, (2, 3, 224, 224))
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-4)
    torch.testing.assert_close(ours.get_intermediate_layers(x)[0], theirs.forward_features(x), rtol=0, atol=1e-4)
