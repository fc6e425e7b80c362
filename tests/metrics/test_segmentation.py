"""J and F against the official numbers, and against loops over pixels."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as drawn

from dinotools.metrics.segmentation import (
    TOLERANCE,
    contour,
    contour_accuracy,
    matching_radius,
    region_similarity,
    score_objects,
    statistics,
    summary,
    widened,
)
from tests.golden.official import HERE, arrays

OFFICIAL = json.loads((HERE / "davis_metrics.json").read_text())
SEQUENCES = OFFICIAL["sequences"]
masks = drawn(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def golden(name):
    return arrays("davis_metrics")[name]


def scored(sequence):
    """Scores (objects, 2, frames) of all but the first and the last frame."""
    truth, prediction = (golden(f"masks/{sequence}/{name}")[1:-1] for name in ("ground_truth", "prediction"))
    n = SEQUENCES[sequence]["n_objects"]
    return np.stack([score_objects(*pair, n).T for pair in zip(truth, prediction, strict=True)], axis=2)


@pytest.fixture(scope="module")
def scores():
    return {sequence: scored(sequence) for sequence in SEQUENCES}


def close(measured, expected):
    np.testing.assert_allclose(measured, expected, rtol=0, atol=1e-12)  # a NaN equals only a NaN


# -- the official numbers


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_the_official_scores_of_every_frame(scores, sequence):
    close(scores[sequence][:, 0], golden(f"per_frame/{sequence}/J"))
    close(scores[sequence][:, 1], golden(f"per_frame/{sequence}/F"))


def test_the_official_numbers_of_every_object(scores):
    found = {f"{name}_{i + 1}": summary([object_]) for name, of in scores.items() for i, object_ in enumerate(of)}
    assert list(found) == list(OFFICIAL["per_object"])
    for name, expected in OFFICIAL["per_object"].items():
        close([found[name][key] for key in expected], list(expected.values()))
    rows = [f"{name},{of['J-Mean']:.3f},{of['F-Mean']:.3f}" for name, of in found.items()]
    assert rows == OFFICIAL["per_sequence_csv_rounded_3"][1:]


def test_the_official_numbers_of_all_objects(scores):
    found = summary([object_ for of in scores.values() for object_ in of])
    assert list(found) == list(OFFICIAL["global"])
    close(list(found.values()), list(OFFICIAL["global"].values()))
    rounded = ",".join(f"{value:.3f}" for value in found.values())
    assert [",".join(found), rounded] == OFFICIAL["global_csv_rounded_3"]


def test_the_official_scores_with_void_and_other_tolerances():
    truth, prediction = (golden(f"masks/blackswan/{name}") == 1 for name in ("ground_truth", "prediction"))
    for t, (y0, y1, x0, x1) in enumerate(golden("void/rect_y0_y1_x0_x1")):
        void = np.zeros_like(truth[t])
        void[y0:y1, x0:x1] = True
        pair = truth[t], prediction[t]
        close(region_similarity(*pair, void), golden("void/J")[t])
        close(contour_accuracy(*pair, void), golden("void/F")[t])
        close(region_similarity(*pair), golden("all_frames/J")[t])
        close(contour_accuracy(*pair), golden("all_frames/F")[t])
        close(region_similarity(*pair), golden("bound_th/J")[t])
        for tolerance in ("0.004", "0.008", "0.02", "3"):
            expected = golden(f"bound_th/F_{tolerance}")[t]
            close(contour_accuracy(*pair, tolerance=float(tolerance)), expected)


@pytest.mark.parametrize("other", "bc")
def test_the_official_scores_of_blobs(other):
    pairs = list(zip(golden("blobs/masks_a"), golden(f"blobs/masks_{other}"), strict=True))
    close([region_similarity(*pair) for pair in pairs], golden(f"blobs/J_a{other}"))
    close([contour_accuracy(*pair) for pair in pairs], golden(f"blobs/F_a{other}"))


NOTHING, HALF, SQUARE = np.s_[:0], np.s_[:, :30], np.s_[:20, :20]
SMALL = {  # what the two masks of 40 x 60 pixels hold
    "both_empty": (NOTHING, NOTHING),
    "gt_empty": (NOTHING, np.s_[10:20, 10:20]),
    "pred_empty": (np.s_[10:20, 10:20], NOTHING),
    "full_both": (np.s_[:], np.s_[:]),
    "full_gt_half_pred": (np.s_[:], HALF),
    "single_pixel": (np.s_[20, 30], np.s_[20, 31]),
    "touch_border": (SQUARE, np.s_[3:23, :20]),
}


@pytest.mark.parametrize("expected", OFFICIAL["small_cases_40x60"], ids=lambda case: case["case"])
def test_the_official_scores_of_small_masks(expected):
    pair = np.zeros((2, 40, 60), bool)
    for mask, where in zip(pair, SMALL[expected["case"]], strict=True):
        mask[where] = True
    assert region_similarity(*pair) == expected["J"]
    assert contour_accuracy(*pair) == expected["F"]


@pytest.mark.parametrize("case", OFFICIAL["statistics"], ids=lambda case: len(case["values"]))
def test_the_official_statistics(case):
    values = np.array(case["values"], dtype=float)  # None is NaN
    found = statistics(values)
    close(found[:2], [case["mean"], case["recall"]])
    if len(values) < 256:
        close(found.decay, case["decay"])
    else:  # the official frame numbers overflow, and nothing comes of it; quarters are shared at their edges
        assert case["decay"] is None
        assert len(values) == 300
        close(found.decay, values[:76].mean() - values[224:].mean())


def test_statistics_of_few_frames():
    assert statistics([0.75]) == (0.75, 1.0, 0.0)
    assert statistics([0.75, 0.25]) == (0.5, 0.5, 0.5)  # the quarters are frames 0..0, 0..1, 1..1, 1..1
    assert statistics([1, 0.5, 0.25]).decay == 0.5  # 0..1 (a half is rounded up), 1..1, 1..2, 2..2
    assert statistics([math.nan, 1, 0.25, 0.5, 0.5]).decay == 0.5  # 0..1, 1..2, 2..3, 3..4


# -- loops over pixels


def plain_contour(mask):
    height, width = mask.shape
    edge = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            neighbours = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            inside = [mask[there] for there in neighbours if there[0] < height and there[1] < width]
            edge[y, x] = any(value != mask[y, x] for value in inside)
    return edge


def plain_accuracy(truth, prediction, radius):
    """F from the distances between all pixels of two contours."""
    true, predicted = np.argwhere(plain_contour(truth)), np.argwhere(plain_contour(prediction))
    if not len(true) or not len(predicted):
        return float(len(true) == len(predicted))
    near = ((predicted[:, None] - true) ** 2).sum(axis=2) <= radius**2
    precision, recall = near.any(axis=1).mean(), near.any(axis=0).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@given(masks)
def test_a_contour_by_its_rule(mask):
    np.testing.assert_array_equal(contour(mask), plain_contour(mask))


@given(masks, st.sampled_from([0, 1, 1.5, 2, 2.9, 3, 5, 8, 20]))
def test_widened_is_a_dilation_by_a_disk(mask, radius):
    places = np.argwhere(mask)
    grid = np.stack(np.indices(mask.shape), axis=-1)
    distances = ((grid[:, :, None] - places) ** 2).sum(axis=-1)
    np.testing.assert_array_equal(widened(mask, radius), (distances <= radius**2).any(axis=-1))


@given(st.data(), st.sampled_from([TOLERANCE, 0.1, 0.5, 1, 2.5, 4]))
def test_accuracy_is_that_of_all_distances(data, tolerance):
    truth = data.draw(masks)
    prediction = data.draw(drawn(bool, truth.shape))
    expected = plain_accuracy(truth, prediction, matching_radius(truth.shape, tolerance))
    close(contour_accuracy(truth, prediction, tolerance=tolerance), expected)


@pytest.mark.parametrize("corner", [(0, 0), (0, 70), (50, 0), (50, 70), (25, 35)])
def test_accuracy_of_objects_at_every_border(corner):
    truth, prediction = np.zeros((2, 60, 80), bool)
    y, x = corner
    truth[y : y + 10, x : x + 10] = True
    prediction[max(y - 2, 0) : y + 7, x : x + 9] = True
    for tolerance in (0.02, 0.05, 1):
        expected = plain_accuracy(truth, prediction, matching_radius(truth.shape, tolerance))
        assert 0 < expected <= 1
        close(contour_accuracy(truth, prediction, tolerance=tolerance), expected)


def test_the_radius_is_a_share_of_the_diagonal_or_pixels():
    assert matching_radius((480, 854)) == 8
    assert matching_radius((600, 800)) == 8  # exactly 0.008 x 1000
    assert matching_radius((480, 854), 0.02) == math.ceil(0.02 * math.hypot(480, 854)) == 20
    assert [matching_radius((480, 854), tolerance) for tolerance in (1, 3)] == [1, 3]


# -- the objects of a frame


def test_objects_that_a_prediction_lacks_are_empty():
    truth = np.zeros((20, 30), np.uint8)
    truth[2:9, 3:12], truth[12:18, 14:25] = 1, 3
    close(score_objects(truth, np.where(truth == 3, truth, 0), 3), [[0, 1, 1], [0, 1, 1]])  # nobody has object 2


def test_void_and_later_objects_of_an_annotation_are_background():
    prediction = np.zeros((20, 30), np.uint8)
    prediction[2:9, 3:12] = 1
    truth = prediction.copy()
    truth[12:18, 14:25], truth[5] = 2, 255
    np.testing.assert_array_equal(
        score_objects(truth, prediction, 1), score_objects(truth * (truth == 1), prediction, 1)
    )
    assert score_objects(truth, prediction, 1)[0, 0] < 1


def test_objects_that_there_cannot_be_are_named():
    prediction = np.array([[0, 1, 5], [5, 255, 2]], np.uint8)
    with pytest.raises(ValueError, match=r"holds object 5, 255, but the objects of the sequence go up to 2"):
        score_objects(np.ones((2, 3), np.uint8), prediction, 2)


def test_sizes_must_agree():
    with pytest.raises(ValueError, match=r"is 3 x 2 pixels, the annotation 2 x 3"):
        score_objects(np.ones((3, 2), np.uint8), np.ones((2, 3), np.uint8), 1)
