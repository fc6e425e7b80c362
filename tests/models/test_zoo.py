import pytest
import torch

from dinotools.configs.normalization import IMAGENET_MEAN, IMAGENET_STD
from dinotools.models.zoo import ZOO, build_backbone, convnet_names, normalization_of, set_normalization
from dinotools.runtime.errors import DinotoolsError

RELEASES = "https://dl.fbaipublicfiles.com/dino"

# As the official hubconf.py, eval_image_retrieval.py, visualize_attention.py and README spell them.
OFFICIAL_FILES = {
    "dino_vits16": "dino_deitsmall16_pretrain/dino_deitsmall16_pretrain.pth",
    "dino_vits8": "dino_deitsmall8_pretrain/dino_deitsmall8_pretrain.pth",
    "dino_vitb16": "dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth",
    "dino_vitb8": "dino_vitbase8_pretrain/dino_vitbase8_pretrain.pth",
    "dino_resnet50": "dino_resnet50_pretrain/dino_resnet50_pretrain.pth",
    "dino_vits16_gldv2": "dino_vitsmall16_googlelandmark_pretrain/dino_vitsmall16_googlelandmark_pretrain.pth",
    "dino_vits8_300ep": "dino_deitsmall8_300ep_pretrain/dino_deitsmall8_300ep_pretrain.pth",
    "dino_vits16_full": "dino_deitsmall16_pretrain/dino_deitsmall16_pretrain_full_checkpoint.pth",
    "dino_vits8_full": "dino_deitsmall8_pretrain/dino_deitsmall8_pretrain_full_checkpoint.pth",
    "dino_vitb16_full": "dino_vitbase16_pretrain/dino_vitbase16_pretrain_full_checkpoint.pth",
    "dino_vitb8_full": "dino_vitbase8_pretrain/dino_vitbase8_pretrain_full_checkpoint.pth",
    "dino_resnet50_full": "dino_resnet50_pretrain/dino_resnet50_pretrain_full_checkpoint.pth",
}
EMBED_DIMS = {"vit_small": 384, "vit_base": 768, "resnet50": 2048}


def test_urls_are_the_official_ones():
    assert {name: network.url for name, network in ZOO.items() if network.url} == {
        name: f"{RELEASES}/{file}" for name, file in OFFICIAL_FILES.items()
    }


def test_accuracies_are_those_of_table_2():
    assert {name: (network.knn_top1, network.linear_top1) for name, network in ZOO.items() if network.knn_top1} == {
        "dino_vits16": (74.5, 77.0),
        "dino_vits8": (78.3, 79.7),
        "dino_vitb16": (76.1, 78.2),
        "dino_vitb8": (77.4, 80.1),
        "dino_resnet50": (67.5, 75.3),
    }


@pytest.mark.parametrize("name", OFFICIAL_FILES)
def test_every_released_network_can_be_built(name):
    network = ZOO[name]
    with torch.device("meta"):
        model, embed_dim = build_backbone(network.arch, network.patch_size)
    assert embed_dim == EMBED_DIMS[network.arch]
    assert getattr(model, "patch_size", None) == network.patch_size


@pytest.mark.parametrize(
    ("arch", "patch_size", "img_size"), [("vit_micro", 4, 32), ("vit_tiny", 16, 48), ("resnet18", None, 64)]
)
def test_feature_is_as_wide_as_told(arch, patch_size, img_size):
    model, embed_dim = build_backbone(arch, patch_size, img_size)
    with torch.no_grad():
        assert model.eval()(torch.zeros(2, 3, img_size, img_size)).shape == (2, embed_dim)


def test_drop_path_reaches_the_vit():
    model, _ = build_backbone("vit_micro", 4, 32, drop_path_rate=0.25)
    assert [block.drop_path.rate for block in model.blocks] == pytest.approx([0, 1 / 12, 1 / 6, 1 / 4])


@pytest.mark.parametrize(("wrong", "right"), [("vit_smal", "vit_small"), ("resnet5", "resnet50")])
def test_unknown_arch_is_answered_with_the_nearest(wrong, right):
    with pytest.raises(DinotoolsError, match=f"no such architecture: {wrong}.*Did you mean .*{right}") as error:
        build_backbone(wrong, 16)
    assert "timm:NAME" in str(error.value)


def test_a_network_without_a_feature_vector_is_refused():
    with pytest.raises(DinotoolsError, match=r"--arch convnext_tiny: cannot serve as a backbone.*timm:convnext_tiny"):
        build_backbone("convnext_tiny", None)


def test_registers_and_layer_scale_reach_the_vit():
    model, _ = build_backbone("vit_micro", 4, 32, registers=3, layer_scale=True)
    assert model.register_tokens.shape == (1, 3, 128)
    assert sum(name.endswith(".gamma") for name in model.state_dict()) == 2 * 4


@pytest.mark.parametrize("patch_size", [None, 0, 33])
def test_impossible_patch_size(patch_size):
    with pytest.raises(DinotoolsError, match="patch size between 1 and the image's 32 pixels"):
        build_backbone("vit_micro", patch_size, 32)


def test_only_classifiers_are_convnets():
    names = convnet_names()
    assert "resnet50" in names
    assert not any("fasterrcnn" in name or "deeplab" in name for name in names)


def test_a_network_without_a_normalisation_of_its_own_has_imagenets():
    vit, _ = build_backbone("vit_micro", 16, 32)
    assert normalization_of(vit) == (IMAGENET_MEAN, IMAGENET_STD)
    vit.mean, vit.std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    assert normalization_of(vit) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def test_a_normalisation_can_be_given():
    vit, _ = build_backbone("vit_micro", 16, 32, in_chans=2)
    set_normalization(vit, [0.5, 0.25], [0.1, 0.2])
    assert normalization_of(vit) == ((0.5, 0.25), (0.1, 0.2))


@pytest.mark.parametrize("heads", [6, 8, 12, 16])
def test_the_heads_of_the_appendix_fit_the_small_vit(heads):
    with torch.device("meta"):
        model, _ = build_backbone("vit_small", 16, num_heads=heads)
    assert {block.attn.num_heads for block in model.blocks} == {heads}


@pytest.mark.parametrize("heads", [0, -1, 5])
def test_heads_that_do_not_divide_the_width(heads):
    with pytest.raises(DinotoolsError, match=r"--num-heads: the 384 channels of vit_small .* 1, 2, 3, 4, 6, 8, 12, 16"):
        build_backbone("vit_small", 16, num_heads=heads)


@pytest.mark.parametrize("arch", ["resnet18", "timm:test_vit"])
def test_only_our_vits_have_heads_to_choose(arch):
    with pytest.raises(DinotoolsError, match="--num-heads"):
        build_backbone(arch, 16, num_heads=4)


def test_a_torchvision_network_keeps_its_activations():
    with pytest.raises(DinotoolsError, match=r"--checkpoint-activations: resnet18 cannot.*timm:resnet18"):
        build_backbone("resnet18", None, checkpoint_activations=True)
    with pytest.raises(DinotoolsError, match="no such architecture"):
        build_backbone("resnet19", None, checkpoint_activations=True)


@pytest.mark.parametrize("arch", ["vit_micro", "resnet18", "timm:test_convnext"])
def test_channels_reach_every_kind_of_network(arch):
    if arch.startswith("timm:"):
        pytest.importorskip("timm")
    model, embed_dim = build_backbone(arch, 16, 32, in_chans=2)
    with torch.no_grad():
        assert model.eval()(torch.zeros(1, 2, 32, 32)).shape == (1, embed_dim)
