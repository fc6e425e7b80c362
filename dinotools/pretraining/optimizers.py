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
    return SGD(groups) if name == "sgd" else LARS(groups)


def set_rates(optimizer: torch.optim.Optimizer, lr: float, weight_decay: float) -> None:
    """Sets the learning rate of both groups and the weight decay of the first."""
    for group in optimizer.param_groups:
        group["lr"] = float(lr)  # a NumPy scalar in the optimizer's state could not be loaded as plain data
    optimizer.param_groups[0]["weight_decay"] = float(weight_decay)


@torch.no_grad()
def clip_gradients(model: nn.Module, max_norm: float) -> Tensor:
    """Clips each parameter's gradient by its own L2 norm, without leaving the device.

    The factor is max_norm / (norm + 1e-6) where that is below 1 (official ``clip_gradients``).

    Args:
        model: its gradients are changed in place.
        max_norm: largest norm of a gradient; 0 does not clip.

    Returns:
        The L2 norm of all gradients together before clipping, a scalar on the device; not finite if one of them is not.
    """
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    if not gradients:
        return torch.zeros((), device=next(model.parameters()).device)
    norms = torch.stack(torch._foreach_norm(gradients))
    if max_norm > 0:
        factors = (max_norm / (norms + 1e-6)).clamp_(max=1.0)
        torch._foreach_mul_(gradients, list(factors.unbind()))
    return norms.norm()


def cancel_last_layer_gradients(model: nn.Module) -> None:
    """Freezes the prototypes for this step: no gradient, hence no decay and no optimizer state either."""
    for name, parameter in model.named_parameters():
        if "last_layer" in name:
            parameter.grad = None


def step_unless(optimizer: torch.optim.Optimizer, bad: Tensor) -> None:
    """One step of an optimizer of ``build_optimizer`` where ``bad`` is 0; where it is 1, nothing changes.

    The choice is made on the device: parameters, moments and counters are as they were, and nobody waits for it. In
    fp16 it takes the place of ``GradScaler.step``, between ``unscale_`` and ``update``: gradients that overflowed are
    not finite after ``unscale_``, and so is the norm that ``clip_gradients`` returns.

    Args:
        optimizer: has the parameters' gradients.
        bad: scalar 0 or 1, float32, on the parameters' device.
    """
    stepper: Any = optimizer
    stepper.grad_scale, stepper.found_inf = None, bad  # as GradScaler tells a fused optimizer
    try:
        optimizer.step()
    finally:
        del stepper.grad_scale, stepper.found_inf


class SGD(torch.optim.SGD):
    """torch's fused SGD with momentum 0.9.

    Its momenta are zeros from the beginning, which comes to the same: torch would leave them undefined if a parameter's
    first step is not taken, and cannot begin one of them later than the others.
    """

    def __init__(self, params: Any) -> None:
        super().__init__(params, lr=0.0, momentum=0.9, fused=True)
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


class LARS(torch.optim.Optimizer):
    """SGD with momentum whose rate is scaled per matrix by a trust ratio.

    Source: You et al. 2017 (arXiv 1708.03888), as in the official file: eta 0.001, momentum 0.9; 1-D parameters have
    neither decay nor trust ratio. Like torch's fused optimizers, it heeds ``found_inf`` on the device.
    """

    def __init__(self, params: Any, lr: float = 0.0, weight_decay: float = 0.0, momentum: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "eta": 0.001})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient, unless ``found_inf`` says 1."""
        bad = getattr(self, "found_inf", None)
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            for parameter in parameters:
                if not self.state[parameter]:
                    self.state[parameter]["mu"] = torch.zeros_like(parameter)
            velocities = [self.state[p]["mu"] for p in parameters]
            updates = _scaled_gradients(parameters, group["weight_decay"], group["eta"])
            kept, rate = group["momentum"], -group["lr"]
            if bad is not None:  # velocities times 1 plus 0, parameters plus 0 times them
                updates = [torch.where(bad > 0, 0.0, update) for update in updates]
                dtype = parameters[0].dtype
                kept = torch.where(bad > 0, 1.0, bad.new_full((), kept, dtype=dtype))
                rate = torch.where(bad > 0, 0.0, bad.new_full((), rate, dtype=dtype))
            torch._foreach_mul_(velocities, kept)
            torch._foreach_add_(velocities, updates)
            torch._foreach_add_(parameters, torch._foreach_mul(velocities, rate))


def _scaled_gradients(parameters: list[nn.Parameter], weight_decay: float, eta: float) -> list[Tensor]:
    """Gradients, those of matrices with decay and times eta ||p|| / ||update||, or 1 where either norm is 0."""
    updates = [p.grad for p in parameters if p.grad is not None]
    which = [i for i, p in enumerate(parameters) if p.ndim != 1]
    if not which:
        return updates
    matrices: list[Tensor] = [parameters[i] for i in which]
    decayed = torch._foreach_add([updates[i] for i in which], matrices, alpha=weight_decay)
    size, change = (torch.stack(torch._foreach_norm(tensors)) for tensors in (matrices, decayed))
    ratios = torch.where((size > 0) & (change > 0), eta * size / change, 1.0)
    torch._foreach_mul_(decayed, list(ratios.unbind()))
    for i, update in zip(which, decayed, strict=True):
        updates[i] = update
    return updates
