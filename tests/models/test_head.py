import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dinotools.models.head import DINOHead, WeightNormLinear
from tests.golden import official

GOLDEN = official.arrays("head")
VARIANTS = [(nlayers, use_bn, norm) for nlayers in (1, 3) for use_bn in (False, True) for norm in (False, True)]


def small_head(nlayers: int, use_bn: bool, norm_last_layer: bool) -> DINOHead:
    head = DINOHead(192, 1024, use_bn, norm_last_layer, nlayers, hidden_dim=256, bottleneck_dim=64)
    return official.fill(head)


def tag(nlayers: int, use_bn: bool, norm_last_layer: bool) -> str:
    return f"nl{nlayers}_bn{use_bn:d}_norm{norm_last_layer:d}"


def features() -> torch.Tensor:
    return official.normal(201, (6, 192))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("default", {}),
        ("use_bn", {"use_bn": True}),
        ("norm_last_layer_false", {"norm_last_layer": False}),
        ("nlayers1", {"nlayers": 1}),
        ("nlayers2", {"nlayers": 2}),
    ],
)
def test_names_shapes_and_parameter_counts_are_official(name, options):
    recorded = official.keys()["head"][name]
    with torch.device("meta"):
        head = DINOHead(384, 65536, **options)
    state = [[key, list(v.shape), str(v.dtype).removeprefix("torch.")] for key, v in head.state_dict().items()]
    assert state == recorded["state_dict"]
    assert [n for n, p in head.named_parameters() if p.requires_grad] == recorded["trainable"]
    assert [n for n, p in head.named_parameters() if not p.requires_grad] == recorded["frozen"]
    assert sum(p.numel() for p in head.parameters()) == recorded["n_parameters"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_and_gradients_agree_with_the_official_run(variant):
    recorded = {k.removeprefix(f"{tag(*variant)}/"): v for k, v in GOLDEN.items() if k.startswith(tag(*variant))}
    head, x = small_head(*variant), features().requires_grad_()
    out = head(x)
    out.square().sum().backward()

    np.testing.assert_allclose(out.detach(), recorded["out_train"], rtol=0, atol=2e-6)
    np.testing.assert_allclose(x.grad, recorded["grad_input"], rtol=0, atol=6.5e-6)
    assert [name for name, _ in head.named_parameters()] == recorded["param_names"].tolist()
    norms = np.array([np.nan if p.grad is None else p.grad.double().norm().item() for p in head.parameters()])
    np.testing.assert_array_equal(np.isnan(norms), np.isnan(recorded["grad_norms"]))
    noise = recorded["grad_norms_f64"] < 1e-5  # a bias before a batch norm: its true gradient is 0
    np.testing.assert_allclose(norms[~noise], recorded["grad_norms"][~noise], rtol=1e-5)
    assert (norms[noise] < 1e-5).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_float64_gradients_agree_to_rounding(variant):
    head, x = small_head(*variant).double(), features().double()
    head(x).square().sum().backward()
    norms = np.array([np.nan if p.grad is None else p.grad.norm().item() for p in head.parameters()])
    np.testing.assert_allclose(norms, GOLDEN[f"{tag(*variant)}/grad_norms_f64"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("norm_last_layer", [False, True])
@torch.no_grad()
def test_batch_norm_statistics_agree_after_one_training_forward(norm_last_layer):
    name = tag(3, True, norm_last_layer)
    head = small_head(3, True, norm_last_layer)
    head(features())
    buffers = dict(head.named_buffers())
    assert {f"{name}/buffers/{key}" for key in buffers} == {k for k in GOLDEN if k.startswith(f"{name}/buffers/")}
    for key, value in buffers.items():
        np.testing.assert_allclose(value, GOLDEN[f"{name}/buffers/{key}"], rtol=0, atol=2e-6)
    out = head.eval()(features())
    np.testing.assert_allclose(out, GOLDEN[f"{name}/out_eval_after_one_train_forward"], rtol=0, atol=2e-6)


def test_the_prototypes_of_a_normed_last_layer_keep_norm_one_under_training():
    head = small_head(3, False, norm_last_layer=True)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1, weight_decay=0.1)
    before = head.last_layer.weight_v.detach().clone()
    for _ in range(3):
        optimizer.zero_grad()
        head(features()).square().sum().backward()
        optimizer.step()
    assert head.last_layer.weight_g.grad is None
    assert (head.last_layer.weight_g == 1).all()
    assert not torch.allclose(head.last_layer.weight_v, before)
    prototypes = head.last_layer(torch.eye(64)).T
    torch.testing.assert_close(prototypes.norm(dim=1), torch.ones(1024))


@torch.no_grad()
def test_a_fresh_weight_norm_layer_is_a_scaled_direction_per_row():
    layer = WeightNormLinear(8, 5, fixed_norm=False)
    assert layer.weight_g.requires_grad
    assert (layer.weight_g == 1).all()
    layer.weight_g.copy_(official.normal(1, (5, 1)))
    x = official.normal(2, (3, 8))
    rows = [g * v / v.norm() for g, v in zip(layer.weight_g, layer.weight_v, strict=True)]
    torch.testing.assert_close(layer(x), x @ torch.stack(rows).T)


@torch.no_grad()
def test_logits_do_not_depend_on_the_scale_of_the_bottleneck():
    head = small_head(1, False, True)
    head.mlp.bias.zero_()
    torch.testing.assert_close(head(features()), head(1e3 * features()))
    assert head(features()).abs().max() <= 1  # both sides have norm 1
    assert not head(torch.zeros(2, 192)).any()  # a zero bottleneck stays zero


def test_fewer_than_one_layer_counts_as_one():
    assert isinstance(DINOHead(8, 4, nlayers=0, bottleneck_dim=4).mlp, nn.Linear)


@torch.no_grad()
def test_two_layers_are_linear_gelu_linear():
    head = official.fill(DINOHead(8, 16, nlayers=2, hidden_dim=12, bottleneck_dim=4))
    x = official.normal(3, (5, 8))
    first, gelu, last = head.mlp
    hidden = F.linear(x, first.weight, first.bias)
    hidden = 0.5 * hidden * (1 + torch.erf(hidden / 2**0.5))
    assert isinstance(gelu, nn.GELU)
    z = F.linear(hidden, last.weight, last.bias)
    torch.testing.assert_close(head(x), head.last_layer(z / z.norm(dim=1, keepdim=True)))


def test_initial_weights():
    torch.manual_seed(0)
    head = DINOHead(192, 512, hidden_dim=256, bottleneck_dim=64)
    for layer in head.mlp[::2]:
        assert 0.015 < layer.weight.std() < 0.025
        assert not layer.bias.any()
    assert head.last_layer.weight_v.abs().max() <= 64**-0.5


@pytest.mark.parametrize("use_bn", [False, True])
def test_runs_on_fake_cuda(fake_cuda, use_bn):
    with fake_cuda:
        head = DINOHead(16, 32, use_bn=use_bn, hidden_dim=24, bottleneck_dim=8)
        x = torch.empty(5, 16)
    out = head(x)
    assert (out.device.type, out.shape) == ("cuda", (5, 32))


@pytest.mark.parametrize("nlayers", [1, 2, 3, 4])
@torch.no_grad()
def test_without_bottleneck_the_last_linear_layer_has_the_outputs(nlayers):
    head = official.fill(DINOHead(8, 20, nlayers=nlayers, hidden_dim=12, bottleneck_dim=0))
    linear = [module for module in head.modules() if isinstance(module, nn.Linear)]
    assert [layer.in_features for layer in linear] == [8, 12, 12, 12][:nlayers]
    assert linear[-1].out_features == 20
    assert not any("last_layer" in name for name in head.state_dict())
    x = official.normal(4, (5, 8))
    expected = x
    for layer in linear[:-1]:
        expected = F.gelu(layer(expected))
    expected = linear[-1](expected)
    torch.testing.assert_close(head(x), expected)
    assert head(x).norm(dim=1).std() > 0.01  # nothing is normalised


@torch.no_grad()
def test_the_activation_is_chosen_and_relu_changes_the_outputs():
    gelu, relu = (
        official.fill(DINOHead(8, 16, hidden_dim=12, bottleneck_dim=4, activation=a)) for a in ("gelu", "relu")
    )
    x = official.normal(5, (5, 8))
    assert sum(isinstance(m, nn.ReLU) for m in relu.modules()) == 2 and not any(
        isinstance(m, nn.GELU) for m in relu.modules()
    )
    assert list(gelu.state_dict()) == list(relu.state_dict())
    first, _, second, _, last = relu.mlp
    z = last(second(first(x).clamp(min=0)).clamp(min=0))
    torch.testing.assert_close(relu(x), relu.last_layer(F.normalize(z, dim=1)))
    assert not torch.allclose(relu(x), gelu(x), atol=1e-2)


@pytest.mark.parametrize(("bottleneck_dim", "width"), [(4, 4), (0, 16)])
@pytest.mark.parametrize("use_bn", [False, True])
@torch.no_grad()
def test_the_predictor_stands_before_the_bottleneck_or_at_the_end(bottleneck_dim, width, use_bn):
    options = {"use_bn": use_bn, "hidden_dim": 12, "bottleneck_dim": bottleneck_dim}
    with_it = official.fill(DINOHead(8, 16, predictor=True, **options)).eval()
    without = official.fill(DINOHead(8, 16, **options)).eval()
    added = [name for name in with_it.state_dict() if name not in without.state_dict()]
    assert added and all(name.startswith("predictor.") for name in added)
    first, last = with_it.predictor[0], with_it.predictor[-1]
    assert (first.in_features, first.out_features, last.out_features) == (width, 12, width)
    assert any(isinstance(m, nn.BatchNorm1d) for m in with_it.predictor) is use_bn
    x = official.normal(6, (5, 8))
    z = with_it.predictor(without.mlp(x))
    expected = with_it.last_layer(F.normalize(z, dim=1)) if bottleneck_dim else z
    torch.testing.assert_close(with_it(x), expected)
    assert not torch.allclose(with_it(x), without(x), atol=1e-2)


@pytest.mark.parametrize("options", [{"bottleneck_dim": 0}, {"bottleneck_dim": 8, "predictor": True}])
def test_the_alternatives_run_on_fake_cuda(fake_cuda, options):
    with fake_cuda:
        head = DINOHead(16, 32, use_bn=True, hidden_dim=24, activation="relu", **options)
        x = torch.empty(5, 16)
    assert (head(x).device.type, head(x).shape) == ("cuda", (5, 32))
