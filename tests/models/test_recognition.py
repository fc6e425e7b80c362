import pytest
import torch

from dinotools.models.recognition import RESNETS, Architecture, recognise
from dinotools.models.vit import SIZES
from dinotools.models.zoo import build_backbone
from dinotools.runtime.errors import DinotoolsError


def shapes_of(arch, patch_size=None, img_size=224):
    with torch.device("meta"):
        return build_backbone(arch, patch_size, img_size)[0].state_dict()


@pytest.mark.parametrize("arch", SIZES)
@pytest.mark.parametrize(("patch_size", "img_size"), [(4, 32), (8, 224), (16, 224), (14, 98), (16, 16)])
def test_a_vit_tells_all_about_itself(arch, patch_size, img_size):
    assert recognise(shapes_of(arch, patch_size, img_size), None, "here") == Architecture(arch, patch_size, img_size)


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
