"""Many linear classifiers on the same features, trained at the same time in batched matrix products.

For a batch X (B, D) with one-hot labels Y and heads l = 1 ... L of learning rates r_l, the step of every head is::

    E_l = (softmax(W_l X^T + b_l) - Y) / B       # gradient of the mean cross-entropy by the logits: (C, B)
    V_l = 0.9 V_l + E_l X                        # momentum
    W_l = W_l - r_l decay(epoch) V_l                # decay: half a cosine from 1 to 0

The W_l stand one below the other in a single matrix, so that one product makes the logits of all heads and one their
gradients; the features are gathered once. A head whose rate is too high ends in NaN and touches no other row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dinotools.evaluation.linear.classifier import CHUNK, initial_weight
from dinotools.evaluation.linear.training import MOMENTUM
from dinotools.runtime.console import track
from dinotools.runtime.schedule import cosine_schedule

# smaller errors count as none: they change no weight, but their products are denormal, which slows a CPU down
NEGLIGIBLE = 1e-20
ON_DEVICE = 4 << 30  # bytes of features that an accelerator keeps; more of them are sent batch by batch


class Heads:
    """Linear classifiers that read the same columns of a feature and differ in their learning rate.

    Args:
        columns: which columns, consecutive ones.
        n_classes: how many classes C.
        lrs: effective learning rates, one per head.
        seed: of the initial weights, which are the same for all heads.
        device: where they are trained.
    """

    def __init__(
        self, columns: slice, n_classes: int, lrs: Sequence[float], seed: int, device: torch.device | str = "cpu"
    ) -> None:
        self.columns = columns
        self.shape = (len(lrs), n_classes, -1)
        weight = initial_weight(columns.stop - columns.start, n_classes, seed)
        self.weight = weight.to(device).repeat(len(lrs), 1)  # (L * C, D)
        self.bias = self.weight.new_zeros(len(self.weight), 1)  # (L * C, 1)
        self.velocities = torch.zeros_like(self.weight), torch.zeros_like(self.bias)
        self.lrs = torch.tensor(lrs, device=device).repeat_interleave(n_classes)[:, None]  # (L * C, 1)

    def logits(self, rows: Tensor) -> Tensor:
        """Features with all columns (B, width) -> logits (L, C, B)."""
        return torch.addmm(self.bias, self.weight, rows[:, self.columns].T).view(self.shape)

    def step(self, rows: Tensor, labels: Tensor, decay: float) -> None:
        """One step of SGD of every head.

        Args:
            rows: features with all columns (B, width), of the weights' dtype and device.
            labels: (B,) int64, there too.
            decay: what the learning rates are multiplied with in this epoch.
        """
        error = self.logits(rows).softmax(dim=1)
        error.scatter_add_(1, labels.expand(self.shape[0], 1, -1), error.new_full((1,), -1.0).expand_as(error))
        error = F.hardshrink(error, NEGLIGIBLE).flatten(0, 1)
        weight_velocity, bias_velocity = self.velocities
        weight_velocity.addmm_(error, rows[:, self.columns], beta=MOMENTUM, alpha=1 / len(labels))
        bias_velocity.mul_(MOMENTUM).add_(error.sum(dim=1, keepdim=True), alpha=1 / len(labels))
        self.weight.addcmul_(self.lrs, weight_velocity, value=-decay)
        self.bias.addcmul_(self.lrs, bias_velocity, value=-decay)

    def head(self, index: int) -> tuple[Tensor, Tensor]:
        """Weight (C, D) and bias (C,) of one head."""
        return self.weight.view(self.shape)[index], self.bias.view(self.shape[:2])[index]

    def diverged(self) -> list[bool]:
        """Of every head, whether a weight is not finite."""
        finite = self.weight.isfinite().all(dim=1) & self.bias.isfinite().all(dim=1)
        return (~finite.view(self.shape[:2]).all(dim=1)).tolist()

    def accuracies(self, features: Tensor, labels: Tensor) -> list[float]:
        """Top-1 of every head in percent; features (N, width) and labels (N,) may lie elsewhere."""
        hits = torch.zeros(self.shape[0], dtype=torch.int64, device=self.weight.device)
        for rows, wanted in zip(features.split(CHUNK), labels.split(CHUNK), strict=True):
            predicted = self.logits(rows.to(self.weight)).argmax(dim=1)
            hits += (predicted == wanted.to(hits.device)).sum(dim=1)
        return (100 * hits.double() / len(labels)).tolist()


def batches(positions: Tensor, batch_size: int, seed: int, epoch: int) -> tuple[Tensor, ...]:
    """The positions (N,) in an epoch's random order, cut into batches, of which the last may be smaller."""
    order = torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(len(positions)))
    return positions[order].split(batch_size)


def train(
    settings: Sequence[Heads],
    features: Tensor,
    labels: Tensor,
    positions: Tensor,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
) -> None:
    """Trains the heads of all feature settings on the same batches.

    Args:
        settings: the heads, on one device; changed in place.
        features: (N, width) float32, anywhere.
        labels: (N,) int64, there too.
        positions: (n,) int64, the rows that are trained on.
        epochs: passes over them.
        batch_size: features per step.
        seed: of their order.
    """
    weight = settings[0].weight
    if features.nbytes <= ON_DEVICE:
        features, labels = features.to(weight.device), labels.to(weight.device)
    n_heads = sum(heads.shape[0] for heads in settings)
    decays = cosine_schedule(1.0, 0.0, epochs, steps_per_epoch=1)
    for epoch in track(range(epochs), f"training {n_heads} classifiers", epochs):
        for chosen in batches(positions, batch_size, seed, epoch):
            chosen = chosen.to(features.device)
            rows, wanted = features.index_select(0, chosen).to(weight.device), labels[chosen].to(weight.device)
            for heads in settings:
                heads.step(rows, wanted, float(decays[epoch]))
