"""Two solvers of one problem: the minimum they find is scikit-learn's, from whichever side one looks at it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from dinotools.features import logistic
from dinotools.features.logistic import LinearClassifier, choose_solver, fit, objective

COSTS = (1.0, 30.0, 1000.0)


def task(n_classes, n, width=24, seed=0):
    """Unit features (n, width) that crowd around a common direction, as a network's do, with labels 3, 5, 7, ..."""
    state = np.random.RandomState(seed)
    centres = np.random.RandomState(1).standard_normal((n_classes, width))
    y = np.arange(n) % n_classes
    x = 4 + 0.8 * centres[y] + np.linspace(2, 0.1, width) * state.standard_normal((n, width))
    return F.normalize(torch.from_numpy(x.astype(np.float32)), dim=1), torch.from_numpy(2 * y + 3)


def theta(classifier):
    return torch.cat([classifier.weight, classifier.bias[:, None]], dim=1).double()


@pytest.mark.parametrize("chunk", [logistic.CHUNK, 10])
def test_the_objective_and_its_gradient_are_those_of_the_formula(monkeypatch, chunk):
    monkeypatch.setattr(logistic, "CHUNK", chunk)
    x, labels = task(3, 40)
    x, targets = x.double(), (labels - 3) // 2
    at = torch.randn(3, 25, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    weight, bias = at[:, :-1], at[:, -1]
    plain = 7 * F.cross_entropy(x @ weight.T + bias, targets, reduction="sum") + weight.square().sum() / 2
    value, gradient = objective(at.detach(), x, targets, 7.0)
    assert value.item() * 7 * 40 == pytest.approx(plain.item(), rel=1e-12)
    torch.testing.assert_close(gradient * 7 * 40, torch.autograd.grad(plain, at)[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("solver", ["sklearn", "lbfgs"])
@pytest.mark.parametrize(("n_classes", "n"), [(2, 300), (5, 400), (12, 60)])
def test_finds_the_minimum_of_scikit_learn_on_the_plain_features(solver, n_classes, n):
    x, labels = task(n_classes, n)
    test_x, _ = task(n_classes, 200, seed=9)
    for cost, found in zip(COSTS, fit(x, labels, COSTS, solver), strict=True):
        # of two classes it fits one vector w = W_1 - W_0, whose square is twice that of W: hence 2 C
        c = 2 * cost if n_classes == 2 else cost
        exact = LogisticRegression(C=c, tol=1e-9, max_iter=10_000, solver="newton-cg")
        exact.fit(x.double().numpy(), labels.numpy())
        assert found.classes.tolist() == exact.classes_.tolist() and found.converged
        expected = exact.predict_proba(test_x.double().numpy())
        scores = test_x.double() @ found.weight.double().T + found.bias.double()
        np.testing.assert_allclose(scores.softmax(dim=1).numpy(), expected, atol=2e-3)
        value, gradient = objective(theta(found), x.double(), (labels - 3) // 2, cost)
        at_zero = objective(torch.zeros(n_classes, 25).double(), x.double(), (labels - 3) // 2, cost)[1]
        assert gradient.abs().max() < 3e-3 * at_zero.abs().max()
        if n_classes > 2:
            least = theta(LinearClassifier(*map(torch.from_numpy, (exact.coef_, exact.intercept_)), found.classes, 1))
            assert value.item() == pytest.approx(
                objective(least, x.double(), (labels - 3) // 2, cost)[0].item(), abs=1e-7
            )


def test_both_solvers_have_the_same_accuracy_on_the_same_task():
    x, labels = task(10, 1500)
    test_x, test_labels = task(10, 4000, seed=9)
    for a, b in zip(*(fit(x, labels, COSTS, solver) for solver in ("sklearn", "lbfgs")), strict=True):
        accuracies = [(found.predict(test_x, 1)[:, 0] == test_labels).double().mean().item() for found in (a, b)]
        assert 0.3 < accuracies[0] < 0.99  # no task that anything solves, and none that nothing does
        assert accuracies[0] == pytest.approx(accuracies[1], abs=1e-3)
        assert a.loss(test_x, test_labels) == pytest.approx(b.loss(test_x, test_labels), abs=1e-4)


def test_the_change_of_coordinates_shortens_the_way_to_the_same_minimum(monkeypatch):
    x, labels = task(10, 1500)
    changed = list(fit(x, labels, COSTS, "lbfgs"))
    minimise = logistic._minimise
    monkeypatch.setattr(logistic, "_minimise", lambda *args, scale: minimise(*args, scale=torch.ones_like(scale)))
    plain = list(fit(x, labels, COSTS, "lbfgs"))
    assert 2 * sum(found.iterations for found in changed) < sum(found.iterations for found in plain)
    for cost, *both in zip(COSTS, changed, plain, strict=True):
        values = [objective(theta(found), x.double(), (labels - 3) // 2, cost)[0].item() for found in both]
        assert values[0] == pytest.approx(values[1], abs=1e-6)


def test_a_warm_start_changes_no_minimum():
    x, labels = task(5, 400)
    *_, warm = fit(x, labels, COSTS, "lbfgs")
    (cold,) = fit(x, labels, COSTS[-1:], "lbfgs")
    values = [objective(theta(found), x.double(), (labels - 3) // 2, COSTS[-1])[0].item() for found in (warm, cold)]
    assert values[0] == pytest.approx(values[1], abs=1e-7)


def test_predictions_are_labels_best_first_and_the_loss_is_their_cross_entropy(monkeypatch):
    found = LinearClassifier(torch.eye(3), torch.tensor([0.0, 0.0, 0.5]), torch.tensor([3, 4, 9]), 1)
    x = torch.tensor([[1.0, 0, 0], [0, 2, 0], [0, 0, 0]])
    monkeypatch.setattr(logistic, "CHUNK", 3)
    assert found.predict(x, 2).tolist() == [[3, 9], [4, 9], [9, 3]]
    assert found.predict(x, 5).shape == (3, 3)
    scores = x + torch.tensor([0, 0, 0.5])
    assert found.loss(x, torch.tensor([9, 4, 3])) == pytest.approx(
        F.cross_entropy(scores, torch.tensor([2, 1, 0])).item()
    )


@pytest.mark.parametrize("solver", ["sklearn", "lbfgs"])
def test_a_fit_that_ran_out_of_iterations_says_so(monkeypatch, solver):
    monkeypatch.setattr(logistic, "MAX_ITERATIONS", 3)
    x, labels = task(5, 400)
    (found,) = fit(x, labels, (1000.0,), solver)
    assert (found.iterations, found.converged) == (3, False)


@pytest.mark.parametrize("solver", ["sklearn", "lbfgs"])
def test_features_that_are_all_alike_teach_the_frequencies(solver):
    labels = torch.tensor([0, 0, 0, 1])
    (found,) = fit(torch.ones(4, 3), labels, (10.0,), solver)
    assert found.loss(torch.ones(4, 3), labels) == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)), abs=1e-3)


@pytest.mark.parametrize("solver", ["sklearn", "lbfgs"])
def test_features_that_are_not_finite_and_a_single_class_are_refused(solver):
    x, labels = task(3, 30)
    with pytest.raises(ValueError, match="two classes"):
        next(fit(x, torch.zeros_like(labels), (1.0,), solver))
    x[4, 5] = float("nan")
    with pytest.raises(ValueError, match="finite"):
        next(fit(x, labels, (1.0,), solver))


def test_small_problems_on_a_cpu_go_to_scikit_learn(fake_cuda):
    assert choose_solver(torch.empty(100, 128), 10) == "sklearn"
    assert choose_solver(torch.empty(1000, 128), 10) == "lbfgs"
    with fake_cuda:
        assert choose_solver(torch.empty(100, 128), 10) == "lbfgs"


def test_the_objective_stays_on_the_device_of_the_features(fake_cuda):
    with fake_cuda:
        at, x, targets = torch.zeros(4, 9), torch.randn(30, 8), torch.zeros(30, dtype=torch.int64)
    value, gradient = objective(at, x, targets, 1.0)
    assert (value.dtype, value.device.type) == (torch.float64, "cuda")
    assert (gradient.shape, gradient.device.type) == ((4, 9), "cuda")
