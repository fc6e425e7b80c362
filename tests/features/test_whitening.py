"""Whitening: the official components and Copydays scores, scikit-learn's PCA, shards, and what cannot be learned."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA

from dinotools.features import whitening
from dinotools.features.whitening import FLOOR, learn
from dinotools.metrics.ranking import COPYDAYS_DEPTH, average_precision, padded, ranks
from dinotools.runtime.errors import DinotoolsError
from tests.golden.official import HERE, arrays, normal

D = 32
CASES = {"full": (D, 0.5), "reduced": (D // 2, 0.5), "whit1": (D // 4, 1.0), "rank_deficient": (D, 0.5)}
NOISE = json.loads((HERE / "copydays.json").read_text())["run"]["noise"]


def drawn(seed, *shape):
    return np.random.RandomState(seed).standard_normal(shape)


def single(array):
    return torch.from_numpy(array.astype(np.float32))


def features_of(case):
    """What the official components were learned on, and what was whitened."""
    mixing = drawn(810, D, D) / np.sqrt(D)
    learned_on = drawn(811, 400, D) @ mixing + 0.3
    if case == "rank_deficient":
        learned_on = drawn(814, 400, D // 2) @ drawn(813, D // 2, D) / np.sqrt(D)
    return single(learned_on), single(drawn(812, 20, D) @ mixing)


# -- the official numbers


@pytest.mark.parametrize("case", CASES)
def test_the_official_components(case):
    golden = {name: arrays("retrieval")[f"pca/{case}/{name}"] for name in ("gram", "cosine", "eigvals_f64")}
    dim, power = CASES[case]
    learned_on, features = features_of(case)
    learned = learn([learned_on[:150], learned_on[150:]], dim, power)
    applied = (features @ learned.projection.T).double()  # the record was made without subtracting the mean
    np.testing.assert_allclose(applied @ applied.T, golden["gram"], rtol=0, atol=2e-4 * golden["gram"].max())
    unit = dataclasses.replace(learned, mean=torch.zeros(D))(features)
    np.testing.assert_allclose(unit @ unit.T, golden["cosine"], rtol=0, atol=2e-4)
    values = learned.projection.norm(dim=1) ** (-1 / power)
    recorded = golden["eigvals_f64"][::-1][:dim]
    np.testing.assert_allclose(values, recorded.clip(FLOOR * recorded[0]), rtol=2e-4)
    torch.testing.assert_close(learned.mean, learned_on.mean(dim=0))


@pytest.mark.parametrize("case", ["full", "reduced", "whit1"])
def test_single_components_are_official_up_to_their_sign(case):
    recorded = torch.from_numpy(arrays("retrieval")[f"pca/{case}/dvt"])
    learned = learn([features_of(case)[0]], *CASES[case]).projection
    signs = (learned * recorded).sum(dim=1, keepdim=True).sign()
    torch.testing.assert_close(learned * signs, recorded, atol=2e-4 * recorded.abs().max().item(), rtol=0)
    assert (learned.gather(1, learned.abs().argmax(dim=1, keepdim=True)) > 0).all()


def test_copydays_after_whitening():
    golden = arrays("copydays")
    mixing = np.eye(48) + 0.5 * drawn(8603, 48, 48) / np.sqrt(48)
    whiten = learn([single(drawn(8602, 600, 48) @ mixing + 0.2)])
    originals = drawn(8600, 157, 48)
    database = whiten(single(np.concatenate([originals, drawn(8601, 300, 48)])))
    for block, noise in enumerate(NOISE):
        source = golden["run/strong_to_original"] if block == 1 else np.arange(157)
        clean = originals[source]
        similarity = whiten(single(clean + noise * drawn(8610 + block, *clean.shape))) @ database.T
        found = ranks(padded([[row] for row in source.tolist()]), similarity)
        score = average_precision(found, COPYDAYS_DEPTH).mean()
        np.testing.assert_allclose(score, golden["whitened/block_mAP_top20"][block], rtol=0, atol=1e-12)
        if block == 1:
            np.testing.assert_allclose(similarity[:5, :10], golden["whitened/similarity_first5x10"], rtol=0, atol=2e-5)


# -- the usual PCA


@pytest.mark.parametrize("dim", [5, 12])
def test_centred_is_the_whitening_of_scikit_learn(dim):
    learned_on = normal(1, (300, 12)) @ normal(2, (12, 12)) + 3
    features = normal(3, (20, 12))
    expected = PCA(dim, whiten=True).fit(learned_on.double().numpy()).transform(features.double().numpy())
    expected = F.normalize(torch.from_numpy(expected), dim=1)
    found = learn(learned_on.split(70), dim, covariance="centred")(features).double()
    torch.testing.assert_close(found @ found.T, expected @ expected.T, atol=1e-5, rtol=0)
    assert found.shape == (20, dim)


@pytest.mark.parametrize("covariance", ["official", "centred"])
def test_a_far_mean_and_a_narrow_direction_are_not_lost_to_rounding(covariance):
    scales = torch.tensor([1.0, 0.1, 0.01])
    features = normal(4, (5000, 3)) * scales + torch.tensor([0.0, 0.0, 30.0 if covariance == "centred" else 0.0])
    whitened = (features - features.mean(dim=0)) @ learn([features], covariance=covariance).projection.T
    torch.testing.assert_close(whitened.T.cov(), torch.eye(3), atol=2e-3, rtol=0)


def test_the_two_differ_where_the_mean_is_not_zero():
    features = normal(5, (100, 4)) + 1
    official, centred = (learn([features], covariance=covariance) for covariance in ("official", "centred"))
    assert torch.equal(official.mean, centred.mean)
    assert (official(features) - centred(features)).abs().max() > 0.1


# -- shards


def test_shards_of_any_size_and_precision_count_as_one(monkeypatch, tmp_path):
    monkeypatch.setattr(whitening, "ROWS", 7)
    features = normal(6, (60, 5)).half()
    np.save(tmp_path / "a.npy", features[:33].numpy())
    mapped = torch.from_numpy(np.load(tmp_path / "a.npy", mmap_mode="c"))
    whole, parts = learn([features.float()]), learn([mapped, features[33:33], features[33:].float()])
    torch.testing.assert_close(parts.projection, whole.projection)
    torch.testing.assert_close(parts.mean, whole.mean)
    assert torch.equal(parts(features), parts(features.float()))


def test_no_more_than_a_chunk_is_ever_widened(monkeypatch):
    monkeypatch.setattr(whitening, "ROWS", 16)
    widened, to = [], torch.Tensor.to

    def recording(tensor, *args, **kwargs):
        if torch.float64 in args:
            widened.append(len(tensor))
        return to(tensor, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", recording)
    learn(normal(7, (100, 3)).split(40))
    assert sum(widened) == 100 and max(widened) == 16


def test_what_equals_the_mean_is_similar_to_nothing():
    features = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    assert learn([features])(torch.zeros(1, 2)).tolist() == [[0.0, 0.0]]


# -- what cannot be learned


@pytest.mark.parametrize(
    ("features", "dim", "complaint"),
    [
        (normal(8, (9, 4)), 0, "0 components of features of 4 values.*1 to 4"),
        (normal(8, (9, 4)), 5, "5 components of features of 4 values.*1 to 4"),
        (normal(8, (3, 4)), 4, "3 features have no 4 components.*at most 3"),
        (normal(8, (1, 4)), 1, "at least two features to learn from, and there are 1.*more images"),
        (torch.zeros(0, 4), None, "at least two features to learn from, and there are 0.*more images"),
        (torch.full((50, 4), 0.1).cumsum(dim=1), None, "are all equal.*other images"),
        (torch.zeros(50, 4), 2, "are all equal.*other images"),
        (normal(8, (9, 4)).index_fill(0, torch.tensor([5]), torch.nan), None, "not finite.*anew"),
        (normal(8, (9, 4)).index_fill(0, torch.tensor([5]), torch.inf), None, "not finite.*anew"),
    ],
)
@pytest.mark.parametrize("covariance", ["official", "centred"])
def test_what_no_whitening_can_be_learned_from(features, dim, complaint, covariance):
    with pytest.raises(DinotoolsError, match=f"--whiten: .*{complaint}"):
        learn(features.split(20), dim, covariance=covariance)


def test_no_shard_at_all():
    with pytest.raises(DinotoolsError, match="there are 0"):
        learn([])


def test_features_of_another_width_are_refused():
    with pytest.raises(DinotoolsError, match=r"learned on features of 4 values, but these have 3.*same network"):
        learn([normal(9, (9, 4))])(torch.zeros(2, 3))
