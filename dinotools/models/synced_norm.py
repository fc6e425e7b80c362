"""Batch norms whose statistics are those of the whole batch, over all ranks.

torch's own synchronised norm runs on GPUs alone; here is one for gloo on CPUs, so that several ranks with a part of
the batch each compute what one process would. Source: Ioffe & Szegedy 2015 (arXiv 1502.03167).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dinotools.runtime import distributed


def synchronize_norms(module: nn.Module, device: torch.device) -> nn.Module:
    """Replaces every batch norm of a module by one that is synchronised, with the same tensors under the same names.

    Args:
        module: changed in place.
        device: where it will run: torch's synchronised norms are taken on a GPU, ours elsewhere.

    Returns:
        The module, or what replaces it if it is a batch norm itself.
    """
    if device.type != "cuda":
        return _replaced(module)
    if any(isinstance(norm, _BatchNorm) and type(norm).__module__.startswith("timm.") for norm in module.modules()):
        from timm.layers import convert_sync_batchnorm  # keeps the activations that timm's norms contain

        return convert_sync_batchnorm(module)
    return nn.SyncBatchNorm.convert_sync_batchnorm(module)


def _replaced(module: nn.Module) -> nn.Module:
    if isinstance(module, _BatchNorm):
        return SyncedBatchNorm(module)
    for name, child in module.named_children():
        setattr(module, name, _replaced(child))
    return module


class SyncedBatchNorm(_BatchNorm):
    """A batch norm over all ranks, differentiable across them, for inputs (B, C) or (B, C, ...) of any B per rank.

    The running variance is the unbiased one over the global count. In eval mode it is an ordinary batch norm.

    Args:
        norm: what it replaces; parameters and buffers are shared with it. The children that timm's batch norms have
            (dropout and activation, in this order) run after the norm here too.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, affine=False, track_running_stats=False)
        self.affine, self.track_running_stats = norm.affine, norm.track_running_stats
        self.weight, self.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        for name, child in norm.named_children():
            self.add_module(name, child)
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, ...) to the same shape and type."""
        if self.training:
            out = self._normalized_over_ranks(x)
        else:
            of_batch = self.running_mean is None  # without running statistics there is no other choice
            out = F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, training=of_batch, eps=self.eps
            )
        for child in self.children():
            out = child(out)
        return out

    def _normalized_over_ranks(self, x: Tensor) -> Tensor:
        rows = (x if x.dtype == torch.float64 else x.float()).transpose(0, 1).flatten(1)  # (C, values of a channel)
        total = _SumOverRanks.apply(torch.cat([rows.sum(dim=1), rows.new_full((1,), rows.shape[1])]))
        count = total[-1].detach()
        mean = total[:-1] / count
        centred = rows - mean[:, None]  # two passes: the mean of squares less the squared mean would cancel
        var = _SumOverRanks.apply(centred.square().sum(dim=1)) / count
        self._remember(mean.detach(), var.detach(), count)
        out = centred * (var + self.eps).rsqrt()[:, None]
        if self.affine:
            out = out * self.weight[:, None] + self.bias[:, None]
        return out.unflatten(1, (x.shape[0], *x.shape[2:])).transpose(0, 1).to(x.dtype)

    def _remember(self, mean: Tensor, var: Tensor, count: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share: Any = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_((var * count / (count - 1)).to(self.running_var.dtype), share)


class _SumOverRanks(torch.autograd.Function):
    """The sum of a tensor over all ranks; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return distributed.sum_over_ranks(x.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _SumOverRanks.apply(*gradients)
