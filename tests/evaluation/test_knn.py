"""k-NN votes against the official numbers and a plain loop."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from dinotools.configs.classification import KnnConfig
from dinotools.evaluation import knn
from dinotools.evaluation.knn import check_neighbours, knn_predict, paper_top1
from dinotools.metrics.classification import top_accuracy
from dinotools.runtime.errors import DinotoolsError
from tests.golden import official

GOLDEN = official.arrays("knn")


@pytest.fixture(scope="module")
def task():
    """Features and labels as tests/golden/README.md makes them."""
    import numpy as np

    def state(seed):
        return np.random.RandomState(seed)

    centres = state(600).standard_normal((20, 64))

    def split(label_seed, noise_seed, n):
        y = state(label_seed).randint(0, 20, n)
        x = (0.38 * centres[y] + state(noise_seed).standard_normal((n, 64))).astype(np.float32)
        return F.normalize(torch.from_numpy(x), dim=1), torch.from_numpy(y)

    return *split(601, 602, 2000), *split(603, 604, 500)


CASES = sorted(name.removesuffix("/top1") for name in GOLDEN if name.endswith("/top1"))


@pytest.mark.parametrize("case", CASES)
def test_equals_the_official_numbers(task, case):
    train_x, train_y, test_x, test_y = task
    temperature, k = float(case.split("/")[0][1:]), int(case.split("/k")[1])
    ranking = knn_predict(train_x, train_y, test_x, (k,), temperature, 20)[k]
    assert ranking[:, 0].tolist() == GOLDEN[f"{case}/prediction"].tolist()
    assert top_accuracy(ranking, test_y, 1) == pytest.approx(float(GOLDEN[f"{case}/top1"]), abs=1e-9)
    top5 = top_accuracy(ranking, test_y, min(5, k))
    # the official top-5 leaves classes without votes to an unstable sort: only its bounds are defined
    assert float(GOLDEN[f"{case}/top5_only_voted"]) - 1e-9 <= top5 <= float(GOLDEN[f"{case}/top5_upper"]) + 1e-9
    assert top5 == pytest.approx(float(GOLDEN[f"{case}/top5_stable"]), abs=1e-9)


def test_one_pass_over_all_k_equals_one_pass_each(task):
    train_x, train_y, test_x, _ = task
    together = knn_predict(train_x, train_y, test_x, (5, 20, 100), 0.07, 20)
    for k in (5, 20, 100):
        assert torch.equal(together[k], knn_predict(train_x, train_y, test_x, (k,), 0.07, 20)[k])


@settings(max_examples=40, deadline=None)
@given(
    n_train=st.integers(1, 30), n_test=st.integers(1, 12), n_classes=st.integers(1, 8), seed=st.integers(0, 10**6),
    data=st.data(),
)  # fmt: skip
def test_equals_a_plain_vote(n_train, n_test, n_classes, seed, data):
    k = data.draw(st.integers(1, n_train))
    generator = torch.Generator().manual_seed(seed)
    train_x, test_x = (torch.randn(n, 5, generator=generator, dtype=torch.float64) for n in (n_train, n_test))
    train_y = torch.randint(n_classes, (n_train,), generator=generator)
    ranking = knn_predict(train_x, train_y, test_x, (k,), 0.07, n_classes)[k]
    assert ranking.shape == (n_test, min(5, n_classes))
    for sample, ranked in zip(test_x, ranking.tolist(), strict=True):
        similarity = [float(F.cosine_similarity(sample, other, dim=0)) for other in train_x]
        votes = [0.0] * n_classes
        for i in sorted(range(n_train), key=lambda i: -similarity[i])[:k]:
            votes[int(train_y[i])] += math.exp(similarity[i] / 0.07)
        assert ranked == sorted(range(n_classes), key=lambda c: (-votes[c], c))[:5]


@pytest.mark.parametrize("lot", [4096, 7])
def test_shards_in_half_precision_vote_as_one_database_in_single(task, lot, monkeypatch):
    monkeypatch.setattr(knn, "QUERIES", lot)
    monkeypatch.setattr(knn, "VOTE_CHUNK", 3)
    train_x, train_y, test_x, _ = task
    half = (30 * train_x).half()  # neither normalised nor single
    whole = knn_predict(half.float(), train_y, test_x[:50], (100, 5), 0.07, 1000)
    shards = knn_predict(half.split([900, 1, 1099]), train_y, test_x[:50], (100, 5), 0.07, 1000)
    assert list(shards) == [100, 5]
    for k in (100, 5):
        similarity, rows = (test_x[:50] @ F.normalize(half.float(), dim=1).T).sort(descending=True)
        votes = torch.zeros(50, 1000).scatter_add_(1, train_y[rows[:, :k]], (similarity[:, :k] / 0.07).exp())
        ranking = votes.sort(dim=1, descending=True, stable=True).indices[:, :5]
        assert torch.equal(shards[k], whole[k])
        assert torch.equal(shards[k], ranking)


def test_a_rank_without_test_images_has_no_answers():
    found = knn_predict(torch.randn(3000, 4), torch.zeros(3000, dtype=torch.int64), torch.randn(0, 4), (3,), 0.07, 9)
    assert found[3].shape == (0, 5)


@pytest.mark.parametrize(
    ("k", "n_train", "n_classes", "words"),
    [
        ((10, 200), 150, 3, "200 neighbours of only 150 training images. Use --k 10"),
        ((20,), 15, 3, "Use --k 15"),
        ((0,), 15, 3, "no list of neighbours"),
        ((), 15, 3, "no list of neighbours"),
        ((5,), 15, 1, "one class"),
    ],
)
def test_settings_without_meaning_are_refused(k, n_train, n_classes, words):
    with pytest.raises(DinotoolsError) as error:
        check_neighbours(k, n_train, n_classes)
    assert words in str(error.value)


def test_a_low_temperature_does_not_overflow(task):
    train_x, train_y, test_x, _ = task
    nearest_only = train_y[(test_x @ train_x.T).argmax(dim=1)]
    assert torch.equal(knn_predict(train_x, train_y, test_x, (20,), 1e-4, 20)[20][:, 0], nearest_only)


def test_runs_on_the_device_of_its_features(fake_cuda):
    with fake_cuda:
        train, labels, test = torch.randn(50, 8), torch.zeros(50, dtype=torch.int64), torch.randn(9, 8)
    ranking = knn_predict(train, labels, test, (5, 10), 0.07, 12)[10]
    assert (ranking.shape, ranking.device.type) == ((9, 5), "cuda")


@pytest.mark.parametrize(
    ("changes", "counts", "shown"),
    [
        ({}, (1000, 50_000), 74.5),
        ({}, (100, 5_000), None),
        ({"ckpt": "random"}, (1000, 50_000), None),
        ({"crop_size": 192}, (1000, 50_000), None),
        ({"temperature": 0.1}, (1000, 50_000), None),
        ({"pooling": "avg"}, (1000, 50_000), None),
    ],
)
def test_the_papers_number_stands_only_beside_the_papers_setting(changes, counts, shown):
    config = KnnConfig(**{"ckpt": "dino_vits16", **changes})
    settings = {"resize_size": config.resize_size, "crop_size": config.crop_size}
    splits = SimpleNamespace(
        checkpoint={"source": config.ckpt}, settings=settings, classes=range(counts[0]), n_val=counts[1]
    )
    assert paper_top1(config, splits) == shown


def test_top_accuracy_by_hand():
    ranking = torch.tensor([[2, 0, 1], [1, 2, 0]])
    labels = torch.tensor([0, 1])
    assert [top_accuracy(ranking, labels, n) for n in (1, 2)] == [50.0, 100.0]
