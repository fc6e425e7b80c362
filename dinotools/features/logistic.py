"""Multinomial logistic regression on features, for a whole sweep of regularisations, by either of two solvers.

Both minimise, over weights W (K, D) and biases b (K,), scikit-learn's multinomial objective, for two classes as well:

    C * sum_i cross_entropy(W x_i + b, y_i) + ||W||^2 / 2

and stop when the largest entry of the gradient has shrunk to TOLERANCE of what it was at W = b = 0, each in its own
coordinates. ``sklearn`` is scikit-learn's L-BFGS, in float64 on the CPU: the reference, for small problems.
``lbfgs`` is PyTorch's, in float32 on the device of the features.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Solver = Literal["sklearn", "lbfgs"]

TOLERANCE = 1e-5  # at 1e-4 the two solvers still differ in one test image of a thousand
MAX_ITERATIONS = 5000  # per C; lbfgs takes tens, scikit-learn up to thousands
HISTORY = 20  # steps that stand for the curvature
CHUNK = 2**26  # scores held at once: 256 MiB in float32
# N * D * K up to which scikit-learn is the faster on a CPU. benchmarks/lowshot.py, CIFAR-10 features of width 128, 13
# values of C, one thread: 100 images take it 0.6 s (lbfgs 0.8), 200 images 0.9 s (1.1), 1,000 images 5.8 s (0.8)
SMALL = 250_000


@dataclass(frozen=True)
class LinearClassifier:
    """A fitted classifier.

    Args:
        weight: W (K, D).
        bias: b (K,).
        classes: the K labels that occurred in training, ascending (K,) int64.
        iterations: of the solver.
    """

    weight: Tensor
    bias: Tensor
    classes: Tensor
    iterations: int

    @property
    def converged(self) -> bool:
        """Whether the solver met its tolerance, or could not move any more, before the iterations ran out."""
        return self.iterations < MAX_ITERATIONS

    def predict(self, features: Tensor, n: int) -> Tensor:
        """The best classes of every row of (Q, D), best first: (Q, min(n, K)) int64."""
        n = min(n, len(self.classes))
        best = [self._scores(rows).topk(n).indices for rows in _chunks(features, len(self.classes))]
        return self.classes[torch.cat(best)]

    def loss(self, features: Tensor, labels: Tensor) -> float:
        """Mean cross entropy of (Q, D) features with labels (Q,), all of which occurred in training."""
        targets = torch.searchsorted(self.classes, labels)
        parts = zip(_chunks(features, len(self.classes)), _chunks(targets, len(self.classes)), strict=True)
        return sum(F.cross_entropy(self._scores(x), y, reduction="sum").item() for x, y in parts) / len(labels)

    def _scores(self, features: Tensor) -> Tensor:
        return torch.addmm(self.bias, features.to(self.weight.dtype), self.weight.T)


def choose_solver(features: Tensor, n_classes: int) -> Solver:
    """The faster solver for features (N, D) of so many classes, on the device where they lie."""
    small = features.device.type == "cpu" and features.numel() * n_classes <= SMALL
    return "sklearn" if small else "lbfgs"


def fit(features: Tensor, labels: Tensor, costs: Sequence[float], solver: Solver) -> Iterator[LinearClassifier]:
    """Yields one classifier per C; each fit starts where the one before ended.

    Args:
        features: (N, D) floats.
        labels: (N,) int64 on the same device; at least two different ones.
        costs: values of C, above 0; ascending is fastest, since a strongly regularised problem is an easy one.
        solver: which.

    Raises:
        ValueError: a feature is not finite, or there are not two classes.
    """
    classes, targets = labels.unique(return_inverse=True)
    if len(classes) < 2 or not features.isfinite().all():
        raise ValueError("logistic regression needs two classes, and finite features")
    solve = _solve_sklearn if solver == "sklearn" else _solve_lbfgs
    yield from solve(features, targets, classes, costs)


def objective(theta: Tensor, x: Tensor, targets: Tensor, cost: float) -> tuple[Tensor, Tensor]:
    """The function to minimise, divided by C * N, and its gradient.

    ::

        p = softmax(x @ W.T + b)
        loss = -log(p[i, y_i]).mean() + ||W||^2 / (2 C N)
        dW, db = (p - onehot(y)).T @ [x, 1] / N + [W, 0] / (C N)

    Args:
        theta: W and, as its last column, b: (K, D + 1).
        x: features (N, D).
        targets: (N,) int64 below K.
        cost: C.

    Returns:
        The value, summed in float64 where the device has it, and the gradient (K, D + 1).
    """
    weight, bias = theta[:, :-1], theta[:, -1]
    exact = torch.float32 if x.device.type == "mps" else torch.float64
    decay = weight / (cost * len(x))
    value = (weight * decay).sum(dtype=exact) / 2
    gradient = torch.cat([decay, torch.zeros_like(bias)[:, None]], dim=1)
    for rows, wanted in zip(_chunks(x, len(theta)), _chunks(targets, len(theta)), strict=True):
        log_p = torch.addmm(bias, rows, weight.T).log_softmax(dim=1)
        value -= log_p.gather(1, wanted[:, None]).sum(dtype=exact) / len(x)
        error = log_p.exp_()
        error[torch.arange(len(wanted), device=x.device), wanted] -= 1
        gradient[:, :-1].addmm_(error.T, rows, alpha=1 / len(x))
        gradient[:, -1] += error.sum(dim=0) / len(x)
    return value, gradient


def _chunks(rows: Tensor, n_classes: int) -> tuple[Tensor, ...]:
    return rows.split(max(1, CHUNK // n_classes))


@torch.no_grad()
def _solve_lbfgs(
    features: Tensor, targets: Tensor, classes: Tensor, costs: Sequence[float]
) -> Iterator[LinearClassifier]:
    """L-BFGS in coordinates in which the curvature at zero is about 1 in every direction.

    At W = b = 0 the Hessian of one class is (1 / K)(1 - 1 / K) times the features' covariance, plus the decay
    1 / (C N). So the features are centred (which the free biases make up for) and turned to the covariance's axes, and
    L-BFGS walks over theta / scale. The minimum stays where it is, but the way there is short: 35 iterations in place
    of 991 for 1,000 images of CIFAR-10 (width 128) with C = 1000.
    """
    n_classes, centre = len(classes), features.float().mean(dim=0)
    x = features.float() - centre
    variances, axes = (found.to(x) for found in torch.linalg.eigh((x.T @ x / len(x)).cpu().double()))
    x = x @ axes
    curvature = torch.cat([variances.clamp(min=0), variances.new_ones(1)]) * (1 - 1 / n_classes) / n_classes
    theta = x.new_zeros(n_classes, x.shape[1] + 1)
    for cost in costs:
        decay = torch.full_like(curvature, 1 / (cost * len(x)))
        decay[-1] = 0
        theta, iterations = _minimise(theta, x, targets, cost, scale=(curvature + decay).rsqrt())
        weight = theta[:, :-1] @ axes.T
        yield LinearClassifier(weight, theta[:, -1] - weight @ centre, classes, iterations)


def _minimise(theta: Tensor, x: Tensor, targets: Tensor, cost: float, scale: Tensor) -> tuple[Tensor, int]:
    """Walks from theta to the minimum of the objective over theta / scale; returns it and the iterations."""

    def closure() -> float:
        value, gradient = objective(walked * scale, x, targets, cost)
        walked.grad = gradient * scale
        return value.item()

    at_zero = objective(torch.zeros_like(theta), x, targets, cost)[1] * scale
    walked = theta / scale
    optimizer = torch.optim.LBFGS(
        [walked],
        max_iter=MAX_ITERATIONS,
        max_eval=100 * MAX_ITERATIONS,  # never reached
        tolerance_grad=TOLERANCE * at_zero.abs().max().item(),
        tolerance_change=1e-9,  # in float32 it cannot be told from none
        history_size=HISTORY,
        line_search_fn="strong_wolfe",
    )
    optimizer.step(torch.no_grad()(closure))
    return walked * scale, optimizer.state[walked]["n_iter"]


def _solve_sklearn(
    features: Tensor, targets: Tensor, classes: Tensor, costs: Sequence[float]
) -> Iterator[LinearClassifier]:
    """scikit-learn, on features that are centred and scaled to a mean square of 1: the same minimum, sooner."""
    from sklearn.exceptions import ConvergenceWarning  # takes a second
    from sklearn.linear_model import LogisticRegression

    x, y = features.cpu().double(), targets.cpu()
    centre = x.mean(dim=0)
    unit = (x - centre).square().mean().sqrt().clamp(min=1e-12).item()
    x = (x - centre) / unit
    at_zero = objective(x.new_zeros(len(classes), x.shape[1] + 1), x, y, 1.0)[1]
    model = LogisticRegression(tol=TOLERANCE * at_zero.abs().max().item(), max_iter=MAX_ITERATIONS, warm_start=True)
    binary = len(classes) == 2
    for cost in costs:
        # of two classes it fits but the difference w of their weights, and ||w||^2 is twice ||W||^2
        model.set_params(C=cost * unit**2 * (2 if binary else 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # LinearClassifier.converged tells
            model.fit(x.numpy(), y.numpy())
        weight, bias = (torch.from_numpy(fitted.copy()) for fitted in (model.coef_ / unit, model.intercept_))
        if binary:
            weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
        yield LinearClassifier(weight, bias - weight @ centre, classes.cpu(), int(model.n_iter_[0]))
