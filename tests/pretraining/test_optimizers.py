import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dinotools.models.head import DINOHead
from dinotools.models.multicrop import MultiCropWrapper
from dinotools.models.vit import build_vit
from dinotools.pretraining.optimizers import (
    LARS,
    build_optimizer,
    cancel_last_layer_gradients,
    clip_gradients,
    parameter_groups,
    set_rates,
    step_unless,
)
from tests.golden import official


class Bag(nn.Module):
    """Loose parameters of given shapes."""

    def __init__(self, *values: Tensor) -> None:
        super().__init__()
        self.values = nn.ParameterList(values)


class LoopLARS:
    """LARS one parameter and one number at a time, in float64."""

    def __init__(self, parameters: list[Tensor]) -> None:
        self.values = [p.detach().double().numpy().copy() for p in parameters]
        self.velocities = [np.zeros_like(v) for v in self.values]

    def step(self, gradients: list[Tensor | None], lr: float, weight_decay: float) -> None:
        for value, velocity, gradient in zip(self.values, self.velocities, gradients, strict=True):
            if gradient is None:
                continue
            update = gradient.double().numpy()
            if value.ndim > 1:
                update = update + weight_decay * value
                size, change = np.linalg.norm(value), np.linalg.norm(update)
                if size > 0 and change > 0:
                    update = update * 0.001 * size / change
            velocity *= 0.9
            velocity += update
            value -= lr * velocity


@pytest.mark.parametrize("layout", ["vit_no_bn", "head_with_bn"])
def test_group_sizes_are_those_of_an_official_checkpoint(layout):
    recorded = official.keys()["training_checkpoint"][layout]
    with torch.device("meta"):
        head = DINOHead(192, 64, use_bn=recorded["has_batchnorm"])
        model = MultiCropWrapper(build_vit("vit_tiny"), head)
    decayed, plain = parameter_groups(model)
    assert len(decayed["params"]) == recorded["n_regularized"]
    assert len(plain["params"]) == recorded["n_not_regularized"]
    assert plain["weight_decay"] == 0.0


def test_frozen_parameters_are_in_no_group_and_prototype_norms_decay_when_trained():
    for norm_last_layer in (False, True):
        head = DINOHead(8, 6, norm_last_layer=norm_last_layer, hidden_dim=4, bottleneck_dim=4)
        decayed, plain = ({id(p) for p in group["params"]} for group in parameter_groups(head))
        assert (id(head.last_layer.weight_g) in decayed) is not norm_last_layer
        assert id(head.last_layer.weight_g) not in plain
        assert id(head.last_layer.weight_v) in decayed


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_rates_reach_both_groups_and_decay_only_the_first(name):
    optimizer = build_optimizer(name, nn.Linear(3, 2))
    set_rates(optimizer, lr=0.25, weight_decay=0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0]


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_decay_alone_shrinks_weights_and_leaves_biases(name):
    model = official.fill(nn.Linear(3, 2))
    weight, bias = model.weight.detach().clone(), model.bias.detach().clone()
    optimizer = build_optimizer(name, model)
    set_rates(optimizer, lr=0.1, weight_decay=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    rate = 0.1 * 0.001 if name == "lars" else 0.1 * 0.5  # the trust ratio makes the step eta ||p||, whatever the decay
    torch.testing.assert_close(model.weight.detach(), (1 - rate) * weight)
    assert torch.equal(model.bias.detach(), bias)


@settings(max_examples=50)
@given(
    shapes=st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=3), min_size=1, max_size=6),
    max_norm=st.floats(0.01, 5),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 1e3]),
)
def test_each_gradient_is_clipped_by_its_own_norm(shapes, max_norm, scale):
    model = Bag(*(torch.zeros(shape, dtype=torch.float64) for shape in shapes))
    for i, parameter in enumerate(model.values[1:] if len(shapes) > 2 else model.values):  # one without a gradient
        parameter.grad = scale * official.normal(i, parameter.shape).double()
    before = [None if p.grad is None else p.grad.clone() for p in model.values]
    clip_gradients(model, max_norm)
    for parameter, gradient in zip(model.values, before, strict=True):
        if gradient is None:
            assert parameter.grad is None
            continue
        norm = float(np.sqrt(sum(x * x for x in gradient.flatten().tolist())))
        factor = min(1.0, max_norm / (norm + 1e-6))
        torch.testing.assert_close(parameter.grad, factor * gradient, rtol=1e-12, atol=0)
        if factor == 1.0:
            assert torch.equal(parameter.grad, gradient)


def test_a_norm_of_zero_turns_clipping_off():
    model = Bag(torch.zeros(3))
    model.values[0].grad = torch.full((3,), 1e6)
    clip_gradients(model, 0.0)
    assert (model.values[0].grad == 1e6).all()
    clip_gradients(nn.Linear(2, 2), 3.0)  # no gradient anywhere is fine too


def test_a_frozen_last_layer_gets_no_step_no_decay_and_no_state():
    model = official.fill(official.small_network(norm_last_layer=False))
    before = copy.deepcopy(model.state_dict())
    optimizer = build_optimizer("adamw", model)
    set_rates(optimizer, lr=0.1, weight_decay=0.5)
    model(official.normal(1, (2, 3, 64, 64))).square().sum().backward()
    cancel_last_layer_gradients(model)
    optimizer.step()
    unmoved = {name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])}
    assert unmoved == {"head.last_layer.weight_g", "head.last_layer.weight_v"}
    stateless = {name for name, parameter in model.named_parameters() if parameter not in optimizer.state}
    assert stateless == unmoved


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_lars_equals_the_loop(weight_decay):
    shapes = [(4, 3), (5,), (2, 3, 2, 2), (3, 1), (2, 2), (6, 2)]
    model = Bag(*(official.normal(i, shape) for i, shape in enumerate(shapes)))
    with torch.no_grad():
        model.values[4].zero_()  # no size: no trust ratio
    # one group here, to see that 1-D parameters are spared even where decay is set
    optimizer, loop = LARS(model.parameters(), weight_decay=weight_decay), LoopLARS(list(model.values))
    for step in range(5):
        gradients: list[Tensor | None] = [official.normal(100 + 10 * step + i, s) for i, s in enumerate(shapes)]
        gradients[0] = torch.zeros(4, 3) if step == 1 else gradients[0]
        gradients[5] = None if step in (0, 3) else gradients[5]
        for parameter, gradient in zip(model.values, gradients, strict=True):
            parameter.grad = None if gradient is None else gradient.clone()
        optimizer.param_groups[0]["lr"] = lr = 10.0 * (step + 1)
        optimizer.step()
        loop.step(gradients, lr, weight_decay)
        for parameter, value in zip(model.values, loop.values, strict=True):
            np.testing.assert_allclose(parameter.detach(), value, rtol=2e-5, atol=1e-6)


def test_lars_leaves_the_gradients_alone():
    model = official.fill(nn.Linear(4, 3))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer = build_optimizer("lars", model)
    set_rates(optimizer, lr=1.0, weight_decay=0.1)
    optimizer.step()
    assert all((p.grad == 1).all() for p in model.parameters())


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_a_restored_optimizer_goes_on_bit_for_bit(name):
    def build() -> tuple[nn.Module, torch.optim.Optimizer]:
        model = official.fill(nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 3)))
        return model, build_optimizer(name, model)

    def advance(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            set_rates(optimizer, lr=0.1, weight_decay=0.1)
            optimizer.zero_grad()
            model(official.normal(step, (6, 4))).square().sum().backward()
            optimizer.step()

    straight, optimizer = build()
    advance(straight, optimizer, range(6))
    first, optimizer = build()
    advance(first, optimizer, range(3))
    resumed, fresh = build()
    resumed.load_state_dict(first.state_dict())
    fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    advance(resumed, fresh, range(3, 6))
    for ours, theirs in zip(resumed.parameters(), straight.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def trained(name: str, steps: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A network after some steps, with the gradients of the next."""
    model = official.fill(nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 3)))
    optimizer = build_optimizer(name, model)
    set_rates(optimizer, lr=0.1, weight_decay=0.1)
    for step in range(steps + 1):
        if step:
            optimizer.step()
        optimizer.zero_grad()
        model(official.normal(step, (6, 4))).square().sum().backward()
    return model, optimizer


def everything(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    states = [optimizer.state[p] for p in model.parameters()]
    return [t.clone() for t in (*model.parameters(), *(t for state in states for _, t in sorted(state.items())))]


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1.0])
def test_a_bad_step_changes_no_bit(name, value):
    model, optimizer = trained(name, steps=2)
    before = everything(model, optimizer)
    model[0].weight.grad[1, 2] = value
    step_unless(optimizer, torch.tensor(1.0))
    after = everything(model, optimizer)
    assert len(after) == len(before) == 4 + 4 * {"adamw": 3, "sgd": 1, "lars": 1}[name]
    assert all(torch.equal(now, then) for now, then in zip(after, before, strict=True))


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
@pytest.mark.parametrize("steps", [0, 2])
def test_a_good_step_is_a_plain_step(name, steps):
    (ours, optimizer), (theirs, plain) = trained(name, steps), trained(name, steps)
    start = copy.deepcopy(ours.state_dict())
    step_unless(optimizer, torch.tensor(0.0))
    plain.step()
    for now, then in zip(everything(ours, optimizer), everything(theirs, plain), strict=True):
        assert torch.equal(now, then)
    assert not any(torch.equal(value, start[key]) for key, value in ours.state_dict().items())
    assert not hasattr(optimizer, "found_inf") and not hasattr(optimizer, "grad_scale")


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_a_bad_first_step_is_as_none_at_all(name):
    (ours, optimizer), (theirs, plain) = trained(name, 0), trained(name, 0)
    good = [p.grad.clone() for p in ours.parameters()]
    for parameter in ours.parameters():
        parameter.grad.fill_(float("nan"))
    step_unless(optimizer, torch.tensor(1.0))
    for parameter, gradient in zip(ours.parameters(), good, strict=True):
        parameter.grad = gradient
    step_unless(optimizer, torch.tensor(0.0))
    plain.step()
    for now, then in zip(everything(ours, optimizer), everything(theirs, plain), strict=True):
        assert torch.equal(now, then)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_a_parameter_may_begin_later_than_the_others(name):
    model = official.fill(nn.Linear(4, 3))
    optimizer = build_optimizer(name, model)
    set_rates(optimizer, lr=0.1, weight_decay=0.1)
    bias = model.bias.detach().clone()
    for step in range(3):
        model.weight.grad = torch.ones_like(model.weight)
        model.bias.grad = torch.ones_like(model.bias) if step else None
        optimizer.step()
        assert torch.equal(model.bias, bias) is (step == 0)


def test_sgd_is_sgd_with_momentum():
    model, optimizer = trained("sgd", 0)
    twin = copy.deepcopy(model)
    plain = torch.optim.SGD(parameter_groups(twin), lr=0.1, momentum=0.9, weight_decay=0.1, foreach=False)
    set_rates(optimizer, lr=0.1, weight_decay=0.1)
    set_rates(plain, lr=0.1, weight_decay=0.1)
    for step in range(4):
        for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
            ours.grad = official.normal(step, ours.shape)
            theirs.grad = ours.grad.clone()
        optimizer.step()
        plain.step()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
@pytest.mark.parametrize("overflow", [False, True])
def test_an_overflow_in_half_precision_is_skipped_and_lowers_the_scale(name, overflow):
    (ours, optimizer), (theirs, plain) = trained(name, 1), trained(name, 1)
    before = everything(ours, optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer.zero_grad()
    scaler.scale(ours(official.normal(1, (6, 4))).square().sum()).backward()
    if overflow:
        ours[2].weight.grad[0, 0] = float("inf")
    scaler.unscale_(optimizer)
    norm = clip_gradients(ours, 3.0)
    clip_gradients(theirs, 3.0)
    step_unless(optimizer, (~norm.isfinite()).float())
    scaler.update()
    assert scaler.get_scale() == (512.0 if overflow else 1024.0)
    if not overflow:
        plain.step()
    expected = before if overflow else everything(theirs, plain)
    for now, then in zip(everything(ours, optimizer), expected, strict=True):
        torch.testing.assert_close(now, then, rtol=0 if overflow else 1e-6, atol=0 if overflow else 1e-7)


@pytest.mark.parametrize("max_norm", [0.0, 0.5])
def test_the_norm_of_all_gradients_before_clipping_is_told(max_norm):
    model, _ = trained("adamw", 0)
    together = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    torch.testing.assert_close(clip_gradients(model, max_norm), together)
    model[0].bias.grad[0] = float("nan")
    assert not clip_gradients(model, max_norm).isfinite()
    model.zero_grad()
    assert clip_gradients(model, max_norm) == 0


def test_a_head_without_prototypes_has_none_to_freeze():
    head = DINOHead(8, 6, nlayers=2, hidden_dim=4, bottleneck_dim=0)
    head(torch.ones(2, 8)).sum().backward()
    cancel_last_layer_gradients(head)
    assert all(p.grad is not None for p in head.parameters())


# torch knows no fake version of its fused SGD
@pytest.mark.parametrize("name", ["adamw", "lars"])
def test_clipping_and_steps_run_on_fake_cuda(fake_cuda, name):
    with fake_cuda:
        model, bad = nn.Linear(4, 3), torch.empty(())
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter)
    assert clip_gradients(model, 3.0).device.type == "cuda"
    optimizer = build_optimizer(name, model)
    set_rates(optimizer, lr=0.1, weight_decay=0.1)
    step_unless(optimizer, bad)
    optimizer.step()
    assert model.weight.grad.device.type == "cuda"


def test_hooks_of_a_step_are_called_once():
    """Also where torch's own SGD has been used before in the same process, which wraps its step."""
    torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    for name in ("adamw", "sgd", "lars"):
        optimizer, calls = build_optimizer(name, nn.Linear(2, 2)), []
        optimizer.register_step_pre_hook(lambda *_, calls=calls: calls.append(1))
        optimizer.step()
        assert calls == [1]
