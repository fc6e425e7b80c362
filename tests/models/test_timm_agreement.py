from functools import cache

import pytest
import torch

from dinotools.models.checkpoints import load_backbone
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


@cache
def dinov2_file(registers: int, img_size: int) -> dict[str, torch.Tensor]:
    """What a released DINOv2 ViT-S/14 holds, with random values: mask token and all."""
    vit = official.fill(build_vit("vit_small", 14, img_size, registers=registers, layer_scale=True))
    tokens = {"mask_token": official.normal(11, (1, 384))}
    if registers:
        tokens["register_tokens"] = official.normal(12, (1, registers, 384))
    return vit.state_dict() | tokens


def timms(state: dict[str, torch.Tensor], img_size: int) -> torch.nn.Module:
    """timm's network with the same weights, in timm's own conversion."""
    from timm.models.vision_transformer import checkpoint_filter_fn

    name = "vit_small_patch14_reg4_dinov2" if "register_tokens" in state else "vit_small_patch14_dinov2"
    model = timm.create_model(name, pretrained=False, num_classes=0, img_size=img_size, dynamic_img_size=True)
    model.load_state_dict(checkpoint_filter_fn(dict(state), model))
    return model.eval()


def assert_agree(ours: torch.nn.Module, theirs: torch.nn.Module, x: torch.Tensor, n: int) -> None:
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-4)
    layers = theirs.forward_intermediates(
        x, indices=n, return_prefix_tokens=True, norm=True, output_fmt="NLC", intermediates_only=True
    )
    for tokens, (patches, prefix) in zip(ours.get_intermediate_layers(x, n), layers, strict=True):
        torch.testing.assert_close(tokens[:, 0], prefix[:, 0], rtol=0, atol=1e-4)
        torch.testing.assert_close(tokens[:, 1:], patches, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("registers", "img_size"), [(0, 98), (4, 98), (4, 518)])
@torch.no_grad()
def test_a_dinov2_file_loads_and_agrees_with_timm(tmp_path, registers, img_size):
    state = dinov2_file(registers, img_size)
    torch.save(state, tmp_path / "dinov2.pth")
    loaded = load_backbone(str(tmp_path / "dinov2.pth"))
    assert (loaded.arch, loaded.patch_size, loaded.img_size, loaded.embed_dim) == ("vit_small", 14, img_size, 384)
    assert loaded.dropped == ("mask_token",)
    x = official.normal(13, (1, 3, img_size, img_size))
    assert_agree(loaded.model, timms(state, img_size), x, n=4 if img_size < 518 else 1)


@pytest.mark.parametrize("registers", [0, 4])
@torch.no_grad()
def test_a_file_in_timms_layout_loads_into_our_vit(tmp_path, registers):
    theirs = timms(dinov2_file(registers, 98), 98)
    torch.save(theirs.state_dict(), tmp_path / "dinov2.pth")
    loaded = load_backbone(str(tmp_path / "dinov2.pth"))
    assert loaded.dropped == ()
    assert_agree(loaded.model, theirs, official.normal(15, (2, 3, 98, 98)), n=2)


@torch.no_grad()
def test_with_registers_other_sizes_agree_too(tmp_path):
    state = dinov2_file(4, 98)
    torch.save(state, tmp_path / "dinov2.pth")
    ours, theirs = load_backbone(str(tmp_path / "dinov2.pth")).model, timms(state, 98)
    for height, width in ((70, 126), (112, 56)):
        assert_agree(ours, theirs, official.normal(14, (1, 3, height, width)), n=1)


def test_the_large_one_has_as_many_parameters_as_timms():
    with torch.device("meta"):
        ours = build_vit("vit_large", 14, 518, registers=4, layer_scale=True)
        theirs = timm.create_model("vit_large_patch14_reg4_dinov2", num_classes=0)
    counts = [sum(parameter.numel() for parameter in model.parameters()) for model in (ours, theirs)]
    assert counts[0] == counts[1] + 1024  # timm has no position for [CLS]
