"""Optimizers of DINO, their two parameter groups, and what happens to gradients before a step.

Source: official ``main_dino.py``, ``utils.get_params_groups``, ``utils.clip_gradients``,
``utils.cancel_gradients_last_layer`` and ``utils.LARS``.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

OptimizerName = Literal["adamw", "sgd", "lars"]


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Two groups: weights that decay, and biases and 1-D parameters that never do. Frozen ones are in neither.

    ``cls_token``, ``pos_embed`` and the prototypes decay, as officially.
    """
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (plain if name.endswith(".bias") or parameter.ndim == 1 else decayed).append(parameter)
    return [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]


def build_optimizer(name: OptimizerName, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer over ``parameter_groups(model)``; rates and decay are set before every step (``set_rates``)."""
    groups = parameter_groups(model)
    if name == "adamw":
        return torch.optim.AdamW(groups, fused=True)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=0.9)
    return LARS(groups)


def set_rates(optimizer: torch.optim.Optimizer, lr: float, weight_decay: float) -> None:
    """Sets the learning rate of both groups and the weight decay of the first."""
    for group in optimizer.param_groups:
        group["lr"] = float(lr)  # a NumPy scalar in the optimizer's state could not be loaded as plain data
    optimizer.param_groups[0]["weight_decay"] = float(weight_decay)


@torch.no_grad()
def clip_gradients(model: nn.Module, max_norm: float) -> None:
    """Clips each parameter's gradient by its own L2 norm, without leaving the device. 0 does nothing.

    The factor is max_norm / (norm + 1e-6) where that is below 1 (official ``clip_gradients``).
    """
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    if max_norm <= 0 or not gradients:
        return
    factors = torch.stack(torch._foreach_norm(gradients)).add_(1e-6).reciprocal_().mul_(max_norm).clamp_(max=1.0)
    torch._foreach_mul_(gradients, list(factors.unbind()))


def cancel_last_layer_gradients(model: nn.Module) -> None:
    """Freezes the prototypes for this step: no gradient, hence no decay and no optimizer state either."""
    for name, parameter in model.named_parameters():
        if "last_layer" in name:
            parameter.grad = None


class LARS(torch.optim.Optimizer):
    """SGD with momentum whose rate is scaled per matrix by a trust ratio.

    Source: You et al. 2017 (arXiv 1708.03888), as in the official file: eta 0.001, momentum 0.9; 1-D parameters have
    neither decay nor trust ratio.
    """

    def __init__(self, params: Any, lr: float = 0.0, weight_decay: float = 0.0, momentum: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "eta": 0.001})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                update = parameter.grad
                if parameter.ndim != 1:
                    update = update.add(parameter, alpha=group["weight_decay"])
                    update = update * _trust_ratio(parameter, update, group["eta"])
                state = self.state[parameter]
                if not state:
                    state["mu"] = torch.zeros_like(parameter)
                buffer = state["mu"]
                buffer.mul_(group["momentum"]).add_(update)
                parameter.add_(buffer, alpha=-group["lr"])


def _trust_ratio(parameter: Tensor, update: Tensor, eta: float) -> Tensor:
    """The ratio eta ||p|| / ||update||, or 1 where either norm is 0; a scalar on the parameter's device."""
    size, change = parameter.norm(), update.norm()
    return torch.where((size > 0) & (change > 0), eta * size / change, torch.ones_like(size))
