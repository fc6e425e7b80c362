"""The official linear evaluation, step by step: features, losses, rates, norms, weights, validation."""

import numpy as np
import pytest
import torch
from torch import nn

from dinotools.evaluation.linear.classifier import build_classifier, score
from dinotools.evaluation.linear.inputs import ProbedBackbone
from dinotools.evaluation.linear.training import TrainingState, effective_lr, end_epoch, train_step
from dinotools.features.pooling import Pooling
from dinotools.models.vit import build_vit
from tests.golden import official

GOLDEN = official.arrays("linear")
CASES = {
    "n4": (Pooling(4), 0.3),
    "n1_avg": (Pooling(1, avg=True), 0.5),
    "n1": (Pooling(1), 0.1),
}
EPOCHS, STEPS, BATCH, CLASSES = 5, 2, 16, 10


@pytest.fixture(scope="module", params=["float32", "float64"])
def network(request):
    return official.fill(build_vit("vit_tiny", 16)).eval().to(getattr(torch, request.param))


@pytest.mark.parametrize("case", CASES)
def test_equals_the_official_run(case, network):
    pooling, lr = CASES[case]
    dtype = network.pos_embed.dtype
    double = dtype == torch.float64
    suffix, rtol = ("_f64", 1e-9) if double else ("", 1e-5)

    def recorded(name):
        return GOLDEN[f"{case}/{name}{suffix}"]

    probed = ProbedBackbone(network, pooling)
    with torch.no_grad():
        features = [probed(official.normal(880 + i, (BATCH, 3, 64, 64)).to(dtype)) for i in range(STEPS)]
    labels = [torch.from_numpy(np.random.RandomState(930 + i).randint(0, CLASSES, BATCH)) for i in range(STEPS)]
    np.testing.assert_allclose(features[0][:4], GOLDEN[f"{case}/feature_first_batch"], atol=3e-5, rtol=0)

    classifier = build_classifier(features[0].shape[1], CLASSES, seed=0)
    official.fill(nn.ModuleDict({"linear": classifier}))
    state = TrainingState.of(classifier.to(dtype), effective_lr(lr, BATCH), EPOCHS)
    with torch.no_grad():
        np.testing.assert_allclose(classifier(features[0]), GOLDEN[f"{case}/logits_first_batch"], atol=3e-5, rtol=0)

    seen = {"loss": [], "lr": [], "weight_norm": [], "bias_norm": []}
    for _ in range(EPOCHS):
        for x, y in zip(features, labels, strict=True):
            seen["lr"].append(state.optimizer.param_groups[0]["lr"])
            seen["loss"].append(train_step(state, x, y).item())
            seen["weight_norm"].append(classifier.weight.norm().item())
            seen["bias_norm"].append(classifier.bias.norm().item())
        scored = score(classifier, torch.cat(features), torch.cat(labels))
        end_epoch(state, seen["loss"][-1], scored)
    for name, values in seen.items():
        np.testing.assert_allclose(values, recorded(name), rtol=rtol, err_msg=name)
    weight, bias = classifier.weight.detach(), classifier.bias.detach()
    np.testing.assert_allclose(weight[:, :8], GOLDEN[f"{case}/final_weight_first8cols"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(bias, GOLDEN[f"{case}/final_bias"], rtol=1e-5, atol=1e-6)
    assert scored.loss == pytest.approx(float(GOLDEN[f"{case}/val_loss"]), rel=1e-5)
    assert (scored.top1, scored.top5) == (GOLDEN[f"{case}/val_acc1"], GOLDEN[f"{case}/val_acc5"])
