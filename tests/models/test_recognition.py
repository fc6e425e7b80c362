import re

import pytest
import torch

from dinotools.models.recognition import RESNETS, Architecture, recognise, with_our_names
from dinotools.models.vit import SIZES
from dinotools.models.zoo import build_backbone
from dinotools.runtime.errors import DinotoolsError


def shapes_of(arch, patch_size=None, img_size=224, **extras):
    with torch.device("meta"):
        return build_backbone(arch, patch_size, img_size, **extras)[0].state_dict()


@pytest.mark.parametrize("arch", SIZES)
@pytest.mark.parametrize(("patch_size", "img_size"), [(4, 32), (8, 224), (16, 224), (14, 98), (16, 16)])
def test_a_vit_tells_all_about_itself(arch, patch_size, img_size):
    assert recognise(shapes_of(arch, patch_size, img_size), None, "here") == Architecture(arch, patch_size, img_size)


@pytest.mark.parametrize("extras", [{"registers": 4}, {"layer_scale": True}, {"registers": 1, "layer_scale": True}])
def test_a_vit_shows_its_registers_and_layer_scale(extras):
    shapes = shapes_of("vit_small", 14, 518, **extras)
    assert recognise(shapes, None, "here") == Architecture("vit_small", 14, 518, **extras)


def test_the_blocks_of_a_chunked_checkpoint_are_counted_through():
    shapes = shapes_of("vit_micro", 4, 32)
    chunked = {
        re.sub(r"blocks\.(\d)", lambda m: f"blocks.{int(m[1]) // 2}.{m[1]}", name): t for name, t in shapes.items()
    }
    assert "blocks.1.2.norm1.weight" in chunked
    assert with_our_names(chunked).keys() == shapes.keys()


def test_the_layout_of_timm_is_ours_with_a_position_of_zero():
    positions = torch.ones(1, 9, 4)
    timms = {"cls_token": torch.ones(1, 1, 4), "reg_token": torch.ones(1, 2, 4), "pos_embed": positions}
    ours = with_our_names(timms)
    assert ours.keys() == {"cls_token", "register_tokens", "pos_embed"}
    assert torch.equal(ours["pos_embed"], torch.cat([torch.zeros(1, 1, 4), positions], dim=1))
    assert torch.equal(with_our_names(ours)["pos_embed"], ours["pos_embed"])  # which were ours already


def test_the_giant_is_refused_by_name():
    shapes = shapes_of("vit_small", 14) | {"blocks.0.mlp.w12.weight": torch.zeros(1)}
    with pytest.raises(DinotoolsError, match=r"SwiGLU.*timm:vit_giant_patch14_dinov2"):
        recognise(shapes, None, "here")


def test_a_name_of_timm_is_believed():
    assert recognise(shapes_of("vit_small", 16), "timm:acme", "here") == Architecture("timm:acme")


def test_an_image_that_is_no_multiple_of_the_patch_counts_as_its_whole_patches():
    assert recognise(shapes_of("vit_micro", 4, 30), None, "here").img_size == 28


@pytest.mark.parametrize("arch", RESNETS)
def test_a_resnet_tells_its_depth(arch):
    state = shapes_of(arch)
    without_counters = {name: tensor for name, tensor in state.items() if "num_batches" not in name}
    assert recognise(state, "densenet121", "here") == Architecture(arch, None, None)
    assert recognise(without_counters, None, "here").arch == arch


def test_another_convnet_is_believed():
    state = shapes_of("mobilenet_v2")
    assert recognise(state, "mobilenet_v2", "here") == Architecture("mobilenet_v2", None, None)
    for said in (None, "vit_small", "no such name"):
        with pytest.raises(DinotoolsError, match=r"its 312 tensors \(features.0.0.weight.*fit no architecture"):
            recognise(state, said, "here")


def test_a_vit_of_another_size_has_no_name():
    state = {name: tensor for name, tensor in shapes_of("vit_small", 16).items() if "blocks.11." not in name}
    with pytest.raises(DinotoolsError, match=r"width 384 with 11 blocks.*vit_small 384 and 12"):
        recognise(state, None, "here")


@pytest.mark.parametrize("rows", [1, 6, 198])
def test_a_grid_that_is_no_square(rows):
    state = shapes_of("vit_small", 16) | {"pos_embed": torch.zeros(1, rows, 384)}
    with pytest.raises(DinotoolsError, match=f"encodings for {rows - 1} patches"):
        recognise(state, None, "here")


@pytest.mark.parametrize(
    "change", [{"pos_embed": torch.zeros(197, 384)}, {"patch_embed.proj.weight": torch.zeros(384, 768)}]
)
def test_patches_without_a_grid(change):
    with pytest.raises(DinotoolsError, match="not the positional encodings"):
        recognise(shapes_of("vit_small", 16) | change, None, "here")


def test_channels_are_read_off_the_first_layer():
    with torch.device("meta"):
        vit, resnet = (build_backbone(arch, 8, 32, in_chans=2)[0] for arch in ("vit_micro", "resnet34"))
    assert recognise(vit.state_dict(), None, "here") == Architecture("vit_micro", 8, 32, in_chans=2)
    assert recognise(resnet.state_dict(), None, "here") == Architecture("resnet34", in_chans=2)
