"""Ranking metrics, against the official numbers and against writing the whole ranking out."""

import json
import math
import os
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dinotools.metrics import ranking
from dinotools.metrics.ranking import (
    ABSENT,
    BEYOND,
    COPYDAYS_DEPTH,
    NO_ROW,
    average_precision,
    padded,
    precision_at,
    ranks,
    revisited,
    without_junk,
)
from tests.golden.official import HERE, arrays

GROUND_TRUTHS = os.environ.get("DINOTOOLS_GND")  # a folder with gnd_roxford5k.json
COPYDAYS = json.loads((HERE / "copydays.json").read_text())
RETRIEVAL = json.loads((HERE / "retrieval_gnd.json").read_text())
AT = (1, 5, 10)


def close(measured, expected):
    np.testing.assert_allclose(np.asarray(measured), expected, rtol=0, atol=1e-12)  # a NaN equals only a NaN


# -- the official numbers


def agrees_with_official(scores, case):
    for letter, protocol in {"E": "easy", "M": "medium", "H": "hard"}.items():
        expected = {
            name: arrays("retrieval")[f"{case}/{letter}/{name}"] for name in ("aps", "prs", "mAP", "mP_at_1_5_10")
        }
        found = scores[protocol]
        close(found.average_precision, expected["aps"])
        close(torch.stack([found.precision[k] for k in AT], dim=1), expected["prs"])
        close(found.mean_average_precision, expected["mAP"])
        close([found.mean_precision[k] for k in AT], expected["mP_at_1_5_10"])
        assert found.without_positives == np.isnan(expected["aps"]).sum()


def test_the_official_scores_of_synthetic_rankings():
    order = torch.from_numpy(arrays("retrieval")["synthetic/ranks"].astype(np.int64))  # (database, queries), best first
    similarity = torch.empty(order.T.shape).scatter_(1, order.T, -torch.arange(500.0).expand(30, 500))
    scores = revisited(RETRIEVAL["synthetic_gnd"], similarity, at=AT)
    agrees_with_official(scores, "synthetic")
    assert [scores[protocol].without_positives for protocol in ("easy", "medium", "hard")] == [4, 1, 5]


@pytest.mark.skipif(GROUND_TRUTHS is None, reason="DINOTOOLS_GND names no folder with gnd_roxford5k.json")
def test_the_official_scores_on_the_ground_truth_of_revisited_oxford():
    content = json.loads(Path(GROUND_TRUTHS, "gnd_roxford5k.json").read_text())
    shape = (len(content["imlist"]), len(content["gnd"]))
    similarity = np.random.RandomState(802).standard_normal(shape)
    for query, lists in enumerate(content["gnd"]):
        for name, bonus in {"easy": 2.5, "hard": 1.2, "junk": 1.5}.items():
            similarity[lists[name], query] += bonus
    agrees_with_official(revisited(content["gnd"], torch.from_numpy(similarity).T, at=AT), "roxford5k")


@pytest.mark.parametrize("case", RETRIEVAL["hand_cases"])
def test_rankings_small_enough_to_check_by_hand(case):
    place = {row: rank for rank, row in enumerate(case["ranking"])}  # a positive that no rank is given comes far behind
    positions = without_junk(
        torch.tensor([[place.get(row, 1000) for row in case["ok"]]]),
        torch.tensor([[place[row] for row in case["junk"]]], dtype=torch.int64),
    )
    close(average_precision(positions, depth=len(case["ranking"])), [case["ap"]])
    found = positions[positions < len(case["ranking"])][None]
    close([precision_at(found, k).item() for k in AT], case["precision_at_1_5_10"])


@pytest.mark.parametrize("case", COPYDAYS["score_ap_from_ranks_1"])
def test_the_official_average_precision_of_copydays(case):
    missed = [COPYDAYS_DEPTH + i for i in range(case["nres"] - len(case["ranks"]))] or [ABSENT]
    close(average_precision(torch.tensor([[*case["ranks"], *missed]]), COPYDAYS_DEPTH), [case["ap"]])


def test_copydays_block_by_block():
    golden = arrays("copydays")
    originals, distractors = (
        np.random.RandomState(seed).standard_normal((n, 48)) for seed, n in ((8600, 157), (8601, 300))
    )

    def unit(features):
        return torch.nn.functional.normalize(torch.from_numpy(features.astype(np.float32)), dim=1)

    for block, noise in enumerate(COPYDAYS["run"]["noise"]):
        strong = COPYDAYS["run"]["block_names"][block] == "strong"
        source = golden["run/strong_to_original"] if strong else np.arange(157)
        clean = originals[source]
        queries = unit(clean + noise * np.random.RandomState(8610 + block).standard_normal(clean.shape))
        positives = padded([[row] for row in source.tolist()])
        found = ranks(positives, queries @ unit(originals).T, [queries @ unit(distractors).T])
        top20 = average_precision(found, COPYDAYS_DEPTH)
        close(top20.mean(), golden["run/block_mAP_top20"][block])
        close(average_precision(found).mean(), golden["run/block_mAP_full_ranking"][block])
        if strong:
            close(top20, golden["run/ap_strong_top20"])


# -- the slow way


def slow_average_precision(found, n_positives):
    area = 0.0
    for j, rank in enumerate(sorted(found)):
        before = 1.0 if rank == 0 else j / rank
        area += (before + (j + 1) / (rank + 1)) / 2
    return area / n_positives if n_positives else math.nan


def slow_precision_at(found, k):
    if not found:
        return math.nan
    k = min(k, max(found) + 1)
    return sum(rank < k for rank in found) / k


def slow_positions(similarities, positives, junk):
    order = [row for row in np.argsort(-np.array(similarities), kind="stable").tolist() if row not in junk]
    return [rank for rank, row in enumerate(order) if row in positives]


@st.composite
def rankings(draw):
    """Ground truth and similarities (many of them equal) of a few queries to a database and blocks of distractors."""
    n_queries, n = draw(st.integers(1, 3)), draw(st.integers(1, 12))
    blocks = [n, *draw(st.lists(st.integers(1, 9), max_size=2))]
    ground_truth, similarity = [], []
    for _ in range(n_queries):
        kinds = draw(st.lists(st.sampled_from(["easy", "hard", "junk", "other"]), min_size=n, max_size=n))
        rows = draw(st.permutations(range(n)))
        lists = {name: [row for row in rows if kinds[row] == name] for name in ("easy", "hard", "junk")}
        ground_truth.append(lists)
        similarity.append(draw(st.lists(st.integers(-3, 3), min_size=sum(blocks), max_size=sum(blocks))))
    return ground_truth, torch.tensor(similarity) / 4, blocks


@given(rankings(), st.integers(1, 6), st.integers(1, 12))
def test_scores_equal_those_of_the_ranking_written_out(case, columns, k):
    ground_truth, similarity, blocks = case
    database, *distractors = similarity.split(blocks, dim=1)
    with mock.patch.object(ranking, "COLUMNS", columns):
        scores = revisited(ground_truth, database, distractors, at=[k])
    roles = {
        "easy": lambda lists: (lists["easy"], lists["hard"] + lists["junk"]),
        "medium": lambda lists: (lists["easy"] + lists["hard"], lists["junk"]),
        "hard": lambda lists: (lists["hard"], lists["easy"] + lists["junk"]),
    }
    for protocol, role in roles.items():
        positions = [
            slow_positions(row.tolist(), *role(lists)) for row, lists in zip(similarity, ground_truth, strict=True)
        ]
        expected = [slow_average_precision(found, len(found)) for found in positions]
        close(scores[protocol].average_precision, expected)
        close(scores[protocol].precision[k], [slow_precision_at(found, k) for found in positions])
        counted = [value for value in expected if not math.isnan(value)]
        assert scores[protocol].without_positives == len(expected) - len(counted)
        close(scores[protocol].mean_average_precision, sum(counted) / len(counted) if counted else math.nan)


@given(st.lists(st.sets(st.integers(0, 40), max_size=8), min_size=1, max_size=4), st.integers(1, 41))
def test_average_precision_of_the_first_ranks_only(lists, depth):
    expected = [slow_average_precision([r for r in found if r < depth], len(found)) for found in lists]
    found = padded([list(found) for found in lists])
    close(average_precision(found.masked_fill(found == NO_ROW, ABSENT), depth), expected)


def test_a_backbone_that_says_the_same_of_every_image_earns_no_more_than_the_order_of_rows():
    found = ranks(torch.tensor([[700, 2, NO_ROW]]), torch.ones(1, 1000))  # so many that an unstable sort mixes them
    assert found.tolist() == [[700, 2, ABSENT]]


# -- distractors known only down to a similarity


def best_distractors(similarity, k):
    """The k best similarities of every query, as an index gives them, -inf filling up, and the horizon."""
    filled = torch.cat([similarity, torch.full((len(similarity), k), -math.inf)], dim=1)
    found = filled.sort(dim=1, descending=True).values[:, :k]
    return found, found[:, -1]


@given(rankings(), st.integers(1, 20), st.integers(1, 12))
def test_what_scores_below_the_horizon_is_a_positive_that_is_not_found(case, known, k):
    ground_truth, similarity, (n, *_) = case
    database, distractors = similarity[:, :n], similarity[:, n:]
    found, horizon = best_distractors(distractors, known)
    everything = revisited(ground_truth, database, [distractors], at=[k])
    some = revisited(ground_truth, database, [found], at=[k], horizon=horizon)
    if known > distractors.shape[1]:
        for protocol, scores in everything.items():
            close(some[protocol].average_precision, scores.average_precision)
            close(some[protocol].precision[k], scores.precision[k])
    for query, (lists, row) in enumerate(zip(ground_truth, similarity.tolist(), strict=True)):
        positions = slow_positions(row, lists["easy"] + lists["hard"], lists["junk"])
        seen = [row[i] for i in lists["easy"] + lists["hard"] if row[i] >= horizon[query]]
        area = slow_average_precision(positions[: len(seen)], len(positions))
        close(some["medium"].average_precision[query], area)
        until = min(k, max(positions[: len(seen)], default=0) + 1) if len(seen) == len(positions) else k
        expected = sum(place < k for place in positions[: len(seen)]) / until if positions else math.nan
        close(some["medium"].precision[k][query], expected)


def test_a_rank_beyond_the_horizon_is_none():
    similarity = torch.tensor([[0.9, 0.5, 0.4, 0.1]])
    rows = torch.tensor([[0, 1, 2, 3, NO_ROW]])
    known = torch.tensor([[0.95, 0.4]])
    assert ranks(rows, similarity, [known], horizon=torch.tensor([0.4])).tolist() == [[1, 2, 3, BEYOND, ABSENT]]
    tight = revisited([{"easy": [0, 3], "hard": [], "junk": []}], similarity, [known], at=[1, 2], horizon=known[:, -1])
    close(tight["easy"].average_precision, [(0 + 1 / 2) / 2 / 2])  # the one at rank 1, of two positives
    close(tight["easy"].precision[2], [1 / 2])
    nothing = revisited([{"easy": [3], "hard": [], "junk": []}], similarity, horizon=torch.tensor([0.5]))
    close(nothing["easy"].average_precision, [0])
    assert nothing["easy"].without_positives == 0


# -- what cannot be ranked


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [([[0, 4]], "outside the 4 rows"), ([[0, -2]], "outside the 4 rows"), ([[3, 0, 3]], "query 0 lists row 3 twice")],
)
def test_rows_that_are_not_there_or_there_twice_are_refused(rows, complaint):
    with pytest.raises(ValueError, match=complaint):
        ranks(torch.tensor(rows), torch.zeros(1, 4))


def test_lists_for_another_number_of_queries_are_refused():
    with pytest.raises(ValueError, match="2 queries have lists of rows and 1 have similarities"):
        ranks(torch.tensor([[0], [1]]), torch.zeros(1, 4))
