from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dinotools.models.blocks import DropPath
from dinotools.models.vit import VisionTransformer, build_vit
from tests.golden import official

MODELS = {"vit_tiny16": ("vit_tiny", 16), "vit_small8": ("vit_small", 8)}
INPUTS = {
    "a224": (101, (2, 3, 224, 224)),
    "b96": (102, (2, 3, 96, 96)),
    "c272x480": (103, (1, 3, 272, 480)),
    "d64x96": (104, (2, 3, 64, 96)),
    "e75x100": (105, (1, 3, 75, 100)),
    "f230x230": (106, (1, 3, 230, 230)),
    "g224x230": (107, (1, 3, 224, 230)),
}
GOLDEN = official.arrays("vit")


@cache
def filled(tag: str, dtype: torch.dtype = torch.float32) -> VisionTransformer:
    arch, patch_size = MODELS[tag]
    return official.fill(build_vit(arch, patch_size)).to(dtype).eval()


def assert_close(actual: torch.Tensor, recorded: np.ndarray, **tolerance: float) -> None:
    np.testing.assert_allclose(actual.detach().numpy(), recorded, **{"rtol": 0, **tolerance})


@pytest.mark.parametrize("name", official.keys()["vit"])
def test_names_shapes_and_parameter_count_are_official(name):
    recorded = official.keys()["vit"][name]
    arch, patch_size = name.split("/")
    with torch.device("meta"):
        model = build_vit(arch, int(patch_size))
    assert [[key, list(value.shape)] for key, value in model.state_dict().items()] == recorded["state_dict"]
    assert sum(p.numel() for p in model.parameters()) == recorded["n_parameters"]
    assert model.embed_dim == recorded["embed_dim"]
    assert len(model.blocks) == recorded["depth"]
    assert {block.attn.num_heads for block in model.blocks} == {recorded["num_heads"]}


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("tag", MODELS)
@torch.no_grad()
def test_tokens_agree_with_the_official_run(tag, name):
    x = official.normal(*INPUTS[name])
    assert_close(filled(tag)(x), GOLDEN[f"{tag}/{name}/cls"], atol=3e-5)

    layers = filled(tag).get_intermediate_layers(x, n=4)
    assert len(layers) == 4
    for i, tokens in enumerate(layers):
        patches = tokens[:, 1:]
        assert_close(tokens[:, 0], GOLDEN[f"{tag}/{name}/inter{i}/cls"], atol=3e-5)
        assert_close(patches.mean(dim=1), GOLDEN[f"{tag}/{name}/inter{i}/patch_mean"], atol=3e-5)
        assert_close(patches.std(dim=1, correction=0), GOLDEN[f"{tag}/{name}/inter{i}/patch_std"], atol=3e-5)
    assert_close(layers[3][:, 1:, :8], GOLDEN[f"{tag}/{name}/inter3/patch_first8"], atol=3e-5)


@pytest.mark.parametrize(
    ("tag", "name"),
    [("vit_tiny16", name) for name in INPUTS] + [("vit_small8", name) for name in ("b96", "d64x96", "e75x100")],
)
@torch.no_grad()
def test_float64_agrees_to_rounding(tag, name):
    x = official.normal(*INPUTS[name]).double()
    features = filled(tag, torch.float64)(x)
    assert_close(features, GOLDEN[f"{tag}/{name}/cls_f64"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("tag", "name"), [("vit_tiny16", "b96"), ("vit_small8", "d64x96")])
@torch.no_grad()
def test_last_selfattention_agrees_with_the_official_run(tag, name):
    x = official.normal(*INPUTS[name])
    attention = filled(tag).get_last_selfattention(x)
    assert_close(attention, GOLDEN[f"{tag}/{name}/last_selfattention"], atol=5e-6)
    torch.testing.assert_close(filled(tag).get_cls_attention(x), attention[:, :, 0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("key", [key.removesuffix("/official_sum") for key in GOLDEN if key.endswith("/official_sum")])
@torch.no_grad()
def test_positional_encodings_agree_with_the_official_run(key):
    tag, _, size = key.split("/")
    height, width = map(int, size.split("x"))
    patch_size = MODELS[tag][1]
    encodings = filled(tag).interpolate_pos_encoding(height, width)
    rows = 1 + (height // patch_size) * (width // patch_size)
    assert encodings.shape == (1, rows, filled(tag).embed_dim)

    if f"{key}/official_first12" in GOLDEN:
        assert_close(encodings[0, :, :12], GOLDEN[f"{key}/official_first12"], atol=5e-5)
    widened = encodings[0].double()
    assert_close(widened.sum(dim=0), GOLDEN[f"{key}/official_sum"], atol=5e-5 * rows**0.5)
    assert_close(widened.square().sum(dim=0), GOLDEN[f"{key}/official_sumsq"], rtol=5e-5)


def test_positional_encodings_are_untouched_only_for_square_images_of_as_many_patches():
    vit = filled("vit_tiny16")
    assert vit.interpolate_pos_encoding(224, 224) is vit.pos_embed
    assert vit.interpolate_pos_encoding(230, 230) is vit.pos_embed
    assert not torch.equal(vit.interpolate_pos_encoding(224, 230), vit.pos_embed)


@cache
def small_vit_of_16_patches() -> VisionTransformer:
    return official.small_vit(img_size=32)


# 4 x 4 patches of 8 pixels are stored; the examples are one patch, one row, one column, and just short of another row.
@settings(max_examples=40)
@given(st.integers(8, 70), st.integers(8, 70))
@example(8, 8)
@example(8, 70)
@example(70, 8)
@example(31, 32)
@torch.no_grad()
def test_any_size_of_at_least_one_patch_works(height, width):
    vit = small_vit_of_16_patches()
    x = torch.zeros(2, 3, height, width)
    tokens = 1 + (height // 8) * (width // 8)
    assert vit(x).shape == (2, 64)
    assert vit.get_intermediate_layers(x)[0].shape == (2, tokens, 64)
    assert vit.get_cls_attention(x).shape == (2, 2, tokens)


@pytest.mark.parametrize(("height", "width"), [(7, 8), (8, 7), (3, 40), (0, 8)])
def test_images_smaller_than_a_patch_are_refused(height, width):
    with pytest.raises(ValueError, match=f"{height}x{width} pixels is smaller than one patch of 8"):
        official.small_vit()(torch.zeros(1, 3, height, width))


@torch.no_grad()
def test_pixels_beyond_the_last_whole_patch_are_dropped():
    vit = official.fill(official.small_vit())
    x = official.normal(1, (2, 3, 31, 45))
    beyond = x.clone()
    beyond[:, :, 24:], beyond[:, :, :, 40:] = 1e3, 1e3
    assert torch.equal(vit(beyond), vit(x))


@torch.no_grad()
def test_as_many_layers_as_are_asked_for():
    vit = official.fill(official.small_vit())
    x = official.normal(2, (1, 3, 64, 64))
    last, both = vit.get_intermediate_layers(x), vit.get_intermediate_layers(x, n=2)
    assert [len(last), len(both), len(vit.get_intermediate_layers(x, n=9))] == [1, 2, 2]
    assert torch.equal(last[0], both[1])
    torch.testing.assert_close(last[0][:, 0], vit(x), rtol=0, atol=1e-6)


def test_attention_without_bias_has_one_cls_row_too():
    vit = VisionTransformer(32, 8, embed_dim=16, depth=1, num_heads=2, qkv_bias=False)
    x = official.normal(3, (2, 3, 32, 40))
    rows = vit.get_last_selfattention(x)
    torch.testing.assert_close(rows.sum(dim=-1), torch.ones(2, 2, 21))
    torch.testing.assert_close(vit.get_cls_attention(x), rows[:, :, 0])


def dinov2_vit(registers: int = 3) -> VisionTransformer:
    """Four by four patches stored; every token and factor is something."""
    vit = VisionTransformer(32, 8, embed_dim=64, depth=2, num_heads=2, registers=registers, layer_scale=True)
    official.fill(vit)
    if vit.register_tokens is not None:
        vit.register_tokens.data = official.normal(6, vit.register_tokens.shape)
    return vit.eval()


@pytest.mark.parametrize(("height", "width"), [(24, 40), (64, 64), (32, 39), (8, 16)])
@torch.no_grad()
def test_positional_encodings_of_networks_with_and_without_registers(height, width):
    for vit in (dinov2_vit(0), dinov2_vit(3)):
        grid = vit.pos_embed[:, 1:].reshape(1, 4, 4, 64).permute(0, 3, 1, 2)
        rows, cols = height // 8, width // 8
        if vit.register_tokens is None:
            expected = F.interpolate(grid, scale_factor=((rows + 0.1) / 4, (cols + 0.1) / 4), mode="bicubic")
        else:
            expected = F.interpolate(grid, size=(rows, cols), mode="bicubic", antialias=True)
        encodings = vit.interpolate_pos_encoding(height, width)
        assert torch.equal(encodings[:, :1], vit.pos_embed[:, :1])
        torch.testing.assert_close(encodings[0, 1:].T.reshape(64, rows, cols), expected[0], rtol=0, atol=1e-6)


@torch.no_grad()
def test_registers_are_read_but_never_returned():
    vit = dinov2_vit()
    x = official.normal(7, (2, 3, 24, 40))
    tokens = vit.prepare_tokens(x)
    assert tokens.shape == (2, 1 + 3 + 15, 64)
    assert torch.equal(tokens[:, 1:4], vit.register_tokens.expand(2, -1, -1))  # no positions
    features, layers = vit(x), vit.get_intermediate_layers(x, n=2)
    assert [tuple(layer.shape) for layer in layers] == [(2, 16, 64)] * 2
    torch.testing.assert_close(layers[1][:, 0], features, rtol=0, atol=1e-6)
    vit.register_tokens.data *= -1
    changed = vit.get_intermediate_layers(x)[0]
    assert ((changed - layers[1]).abs().amax(dim=-1) > 1e-3).all()  # so every token had looked at them


@torch.no_grad()
def test_attention_leaves_the_registers_out_of_rows_and_columns():
    vit = dinov2_vit()
    x = official.normal(8, (2, 3, 24, 40))
    attention, tokens = vit._last_attention(x)
    kept = [0, *range(4, 19)]
    expected = attention.weights(tokens)[:, :, kept][:, :, :, kept]
    assert torch.equal(vit.get_last_selfattention(x), expected)
    torch.testing.assert_close(vit.get_cls_attention(x), expected[:, :, 0], rtol=0, atol=1e-6)
    assert (expected.sum(dim=-1) < 1).all()


@torch.no_grad()
def test_layer_scale_multiplies_each_branch():
    block = dinov2_vit().blocks[0]
    x = official.normal(9, (2, 5, 64))
    middle = x + block.attn(block.norm1(x)) * block.ls1.gamma
    expected = middle + block.mlp(block.norm2(middle)) * block.ls2.gamma
    torch.testing.assert_close(block(x), expected)


def test_initial_weights():
    torch.manual_seed(0)
    vit = build_vit("vit_tiny")
    for name, parameter in vit.named_parameters():
        values = parameter.detach()
        if name.startswith("patch_embed"):
            assert 0 < values.abs().max() <= (3 * 16 * 16) ** -0.5  # PyTorch's uniform default for a convolution
        elif name.endswith("bias"):
            assert not values.any(), name
        elif "norm" in name:
            assert (values == 1).all(), name
        else:
            assert 0.015 < values.std() < 0.025, name


def test_stochastic_depth_drops_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    rate, n = 0.3, 20_000
    x = 1 + official.normal(4, (n, 2, 3)).abs()
    out = DropPath(rate).train()(x)
    kept = out[:, 0, 0] != 0
    torch.testing.assert_close(out[kept], x[kept] / (1 - rate))
    assert not out[~kept].any()
    deviations = (kept.float().mean() - (1 - rate)) / (rate * (1 - rate) / n) ** 0.5
    assert deviations.abs() < 4
    assert DropPath(rate).eval()(x) is x
    assert DropPath(0.0).train()(x) is x


def test_stochastic_depth_grows_linearly_over_the_blocks():
    rates = [block.drop_path.rate for block in build_vit("vit_tiny", drop_path_rate=0.1).blocks]
    np.testing.assert_allclose(rates, np.linspace(0, 0.1, 12))


def test_both_branches_of_a_block_drop():
    vit = official.fill(official.small_vit())
    block = vit.blocks[0].train()
    x = official.normal(5, (64, 3, 64))
    block.drop_path.rate = 0.5
    torch.manual_seed(0)
    out = block(x)
    attention = block.attn(block.norm1(x))
    candidates = [
        y + mlp * block.mlp(block.norm2(y)) for y in (x, x + 2 * attention) for mlp in (0, 2)
    ]  # neither, second, first, both
    distance = torch.stack([(out - c).abs().amax(dim=(1, 2)) for c in candidates])
    assert (distance.amin(dim=0) < 1e-5).all()
    assert set(distance.argmin(dim=0).tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize(("height", "width"), [(224, 224), (75, 100), (16, 33)])
@torch.no_grad()
def test_runs_on_fake_cuda(fake_cuda, height, width):
    with fake_cuda:
        vit = build_vit("vit_tiny", drop_path_rate=0.1).train()
        x = torch.empty(2, 3, height, width)
    outputs = [vit(x), *vit.get_intermediate_layers(x, n=2), vit.get_last_selfattention(x), vit.get_cls_attention(x)]
    assert all(out.device.type == "cuda" for out in outputs)
    assert outputs[0].shape == (2, 192)


@torch.no_grad()
def test_patches_of_five_pixels_leave_the_last_four_of_224():
    vit = official.fill(build_vit("vit_micro", 5)).eval()
    assert vit.pos_embed.shape[1] == 1 + 44**2
    image = official.normal(7, (1, 3, 224, 224))
    (tokens,) = vit.get_intermediate_layers(image)
    assert tokens.shape == (1, 1 + 44**2, 128)
    cut = image.clone()
    cut[..., 220:, :], cut[..., 220:] = 0, 0
    assert torch.equal(vit(image), vit(cut))
    (tokens,) = vit.get_intermediate_layers(official.normal(8, (1, 3, 96, 96)))
    assert tokens.shape == (1, 1 + 19**2, 128)


@pytest.mark.parametrize("in_chans", [1, 6])
def test_images_of_other_channels(in_chans):
    vit = build_vit("vit_micro", 8, 16, in_chans=in_chans)
    assert vit(torch.zeros(2, in_chans, 16, 16)).shape == (2, 128)


def test_more_heads_share_the_same_tensors_out_differently():
    own, eight = (official.fill(build_vit("vit_micro", 8, 16, num_heads=heads)).eval() for heads in (None, 8))
    image = official.normal(9, (1, 3, 16, 16))
    assert [vit.get_cls_attention(image).shape[1] for vit in (own, eight)] == [4, 8]
    assert {n: t.shape for n, t in own.state_dict().items()} == {n: t.shape for n, t in eight.state_dict().items()}


def test_activations_computed_again_give_the_same_loss_and_gradients():
    def run(again: bool) -> tuple[torch.Tensor, list[torch.Tensor], int]:
        vit = official.fill(build_vit("vit_micro", 8, 16, drop_path_rate=0.5, checkpoint_activations=again)).train()
        calls = []
        vit.blocks[1].register_forward_pre_hook(lambda *_: calls.append(1))
        torch.manual_seed(3)
        loss = (vit(official.normal(10, (8, 3, 16, 16))) * official.normal(11, (8, 128))).sum()
        loss.backward()
        return loss.detach(), [p.grad for p in vit.parameters()], len(calls)

    (loss, gradients, once), (loss_again, gradients_again, twice) = run(False), run(True)
    assert (once, twice) == (1, 2)
    assert torch.equal(loss, loss_again)
    assert all(torch.equal(one, other) for one, other in zip(gradients, gradients_again, strict=True))


@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_nothing_is_computed_again_without_gradients(monkeypatch, training):
    monkeypatch.setattr("dinotools.models.vit.checkpoint", None)
    vit = build_vit("vit_micro", 8, 16, checkpoint_activations=True).train(training)
    assert vit(torch.zeros(1, 3, 16, 16)).shape == (1, 128)


@pytest.mark.parametrize("qkv_bias", [True, False])
def test_the_feature_and_its_gradients_are_those_of_a_last_block_of_all_tokens(qkv_bias):
    model = VisionTransformer(32, 8, embed_dim=24, depth=3, num_heads=3, qkv_bias=qkv_bias, drop_path_rate=0.5).double()
    images = official.normal(1, (6, 3, 32, 40)).double()

    def gradients(feature: Callable[[torch.Tensor], torch.Tensor]) -> tuple[torch.Tensor, ...]:
        torch.manual_seed(0)  # the same samples lose their branches
        return torch.autograd.grad(feature(images).square().sum(), list(model.parameters()))

    expected = gradients(lambda x: model.get_intermediate_layers(x)[0][:, 0])
    assert any(torch.count_nonzero(gradient) for gradient in expected)
    torch.testing.assert_close(gradients(model), expected)
