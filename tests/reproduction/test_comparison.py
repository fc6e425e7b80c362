from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dinotools.reporting import paper
from dinotools.reproduction.collecting import Found
from dinotools.reproduction.comparison import compare
from dinotools.reproduction.documents import differences, is_of, lookup, main_numbers, matches, names_data, number_at
from tests.reproduction.results import PAPERS_RUN, knn, trained


def cell(comparison, row, column):
    (found,) = [c for t in comparison.tables for c in t.cells if (c.row.path, c.column.name) == (row, column)]
    return found


@pytest.mark.parametrize(
    ("top1", "verdict"),
    [(74.5, "reproduced"), (74.4, "reproduced"), (74.6, "reproduced"), (74.39, "outside the tolerance")],
)
def test_released_weights_are_held_to_a_tenth(top1, verdict):
    found = cell(compare([knn(top1)]), "table2/dino_vits16", "k-NN")
    assert (found.ours, found.paper, found.tolerance, found.differing) == (top1, 74.5, 0.1, ())
    assert found.verdict == verdict
    assert found.difference == pytest.approx(top1 - 74.5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"checkpoint": {"arch": "vit_micro"}}, "arch is vit_micro, not vit_small"),
        ({"checkpoint": {"patch_size": 8}}, "patch size is 8, not 16"),
        ({"images": 1400}, "train images is 1,400, not 1,281,167"),
        ({"temperature": 0.1}, "temperature is 0.1, not 0.07"),
        ({"temperature": None}, "temperature is not told"),
        ({"classes": 10}, "classes is 10, not 1,000"),
        ({"checkpoint": {"key": "student"}}, "key is student"),
        ({"precision": "bf16"}, "precision is bf16, not fp32"),
        ({"features": {"dtype": "float16"}}, "dtype is float16"),
        ({"features": {"precision": "bf16"}}, "precision is bf16"),
        ({"features": {"crop_size": 448}}, "crop size is 448, not 224"),
        ({"features": {"pooling": "avg"}}, "pooling is avg, not cls"),
    ],
)
def test_what_differs_is_said_and_never_reproduced(changes, words):
    found = cell(compare([knn(74.5, paper_row="table2/dino_vits16", **changes)]), "table2/dino_vits16", "k-NN")
    assert found.differing == (words,)
    assert found.verdict == "other conditions"


def test_a_row_that_is_named_is_the_only_one_and_one_that_is_not_is_that_of_the_network():
    everywhere = {c.row.path for t in compare([knn(74.5)]).tables for c in t.measured}
    assert everywhere == {"table2/dino_vits16", "table10/dino_vits16"}
    named = compare([knn(74.5, paper_row="table2/dino_vits16")])
    assert [t.table.name for t in named.tables] == ["table2"]
    assert len(named.tables[0].measured) == 1
    assert len(named.tables[0].cells) == sum(len(row.values) for row in paper.tables()["table2"].rows)


@pytest.mark.parametrize("named", ["table7/dino", "table13/dino", "heads/6"])
def test_a_result_stands_for_all_rows_that_are_the_same_run(named):
    comparison = compare([trained(73.9, named)])
    verdicts = {c.row.path: c.verdict for t in comparison.tables for c in t.measured}
    assert verdicts.keys() == {"table7/dino", "table13/dino", "heads/6", "table2/boosted-300"}
    assert verdicts["table7/dino"] == verdicts["table13/dino"] == "outside the tolerance"
    assert cell(comparison, "heads/6", "k-NN").differing == ("num heads is not told",)  # each table has its conditions


def test_results_of_no_row_stand_by_themselves():
    results = [
        knn(50.0, classes=10),  # a released network on other data, which names no row
        knn(50.0, checkpoint={"source": "runs/a/checkpoint.pth"}),
        knn(50.0, paper_row="table99/gone"),
    ]
    comparison = compare(results)
    assert comparison.tables == ()
    assert list(comparison.others) == results


def test_the_newest_of_several_results_stands_and_that_is_said():
    results = [knn(70.0 + i, folder=f"run{i}", written=float(i)) for i in range(4)]
    comparison = compare(results)
    assert cell(comparison, "table2/dino_vits16", "k-NN").ours == 73.0
    assert (
        "table2/dino_vits16: run3/results.json is taken, as it is newer, not run0/results.json, run1/results.json, "
        "1 more." in comparison.notes
    )


def test_an_older_result_in_which_less_differs_stands():
    first = knn(74.5, folder="papers")
    comparison = compare([first, knn(74.4, folder="warm", temperature=0.1, written=2.0)])
    assert cell(comparison, "table2/dino_vits16", "k-NN").result == first
    assert (
        "table2/dino_vits16: papers/results.json is taken, as fewer conditions differ, not warm/results.json."
        in comparison.notes
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, ()),
        ({"epochs": 100, "epoch": 100}, ("epochs is 100, not 300",)),
        ({"epoch": 120}, ("training ended after 120 of 300 epochs",)),
        ({"n_images": 10_000}, ("n images is 10,000, not 1,281,167",)),
        ({"teacher": "student"}, ("teacher is student, not momentum",)),
    ],
)
def test_networks_trained_anew_are_asked_how(options, words):
    found = cell(compare([trained(72.0, "table7/dino", **options)]), "table7/dino", "k-NN")
    assert found.differing == words
    assert found.tolerance == 1.0
    assert found.verdict == ("other conditions" if words else "reproduced")


def test_pre_training_is_asked_how_it_trained_as_well():
    config = PAPERS_RUN | {"paper_row": "table8/2x96-100", "local_crops_number": 10}
    metrics = {"epoch": 300, "seconds": 15.3 * 3600}
    document = {"command": "dinotools pretrain", "metrics": metrics, "details": {}, "config": config}
    found = cell(compare([Found(document, Path("run"))]), "table8/2x96-100", "time")
    assert found.ours == pytest.approx(15.3)
    assert {"epochs is 300, not 100", "local crops number is 10, not 2"} <= set(found.differing)


def test_a_file_that_does_not_say_how_it_was_trained_is_never_reproduced():
    unknown = knn(74.5, paper_row="table2/dino_vits16", checkpoint={"source": "mine.pth"})
    found = cell(compare([unknown]), "table2/dino_vits16", "k-NN")
    assert found.differing == ("training is not told by the checkpoint",)
    assert found.tolerance == 1.0  # that of networks trained anew


def test_released_weights_are_never_asked_how_they_were_trained():
    """Also of the row whose settings are not published, which nothing stands for without naming it."""
    resnet = {"source": "dino_resnet50", "arch": "resnet50", "patch_size": None}
    assert compare([retrieval(resnet)]).tables == ()
    found = cell(compare([retrieval(resnet, paper_row="table3/dino_resnet50")]), "table3/dino_resnet50", "ROx M")
    assert found.differing == ()
    assert found.tolerance == 0.3


def retrieval(checkpoint, **config):
    protocol = {"name": "dino-paper", "imsize": 224, "scales": [1.0]}
    data = {"queries": {"images": 70}, "database": {"images": 4993}}
    details = {"checkpoint": checkpoint, "protocol": protocol, "data": data, "precision": "fp32"}
    config |= {"dataset": "roxford5k", "pooling": "cls", "query_expansion": 0}
    metrics = {"medium": {"mAP": 35.4}, "hard": {"mAP": 11.1}}
    document = {"command": "dinotools retrieval", "metrics": metrics, "details": details, "config": config}
    return Found(document, Path("retrieval"))


def test_a_point_that_is_only_drawn_has_no_verdict_but_that():
    options = {"arch": "vit_small", "patch_size": 16}
    found = cell(compare([trained(72.0, "fig5/vits16", **options)]), "fig5/vits16", "k-NN")
    assert (found.paper, found.difference, found.verdict) == (None, None, "no published number")


def test_columns_of_several_data_sets_are_told_apart():
    flowers = knn(89.1, classes=102, images=2040, data="/data/flowers102")
    flowers.document["details"]["data"]["val"]["images"] = 6149
    found = cell(compare([flowers]), "table10/dino_vits16", "Flowers k-NN")
    assert found.verdict == "reproduced"
    miniature = knn(30.0, classes=3, images=9, data="/data/flowers102", paper_row="table10/dino_vits16")
    measured = [c.column.name for t in compare([miniature]).tables for c in t.measured]
    assert measured == ["Flowers k-NN"]


def test_percentages_of_a_value_are_tolerances_in_its_unit():
    column = next(c for c in paper.tables()["table1"].columns if c.name == "im/s")
    assert column.tolerance_of(1007, retrained=False) == pytest.approx(100.7)


PLAIN = st.none() | st.booleans() | st.floats() | st.text(max_size=3)
VALUES = (
    PLAIN | st.lists(PLAIN, max_size=2) | st.dictionaries(st.sampled_from(["k20", "top1", "source", "train"]), PLAIN)
)


@settings(max_examples=25)
@given(VALUES)
def test_no_document_breaks_the_comparison(value):
    document = {"command": "dinotools knn", "metrics": {"k20": value}, "details": {"checkpoint": value, "data": value}}
    found = knn(1.0, paper_row="table2/dino_vits16")
    for name in ("metrics", "details"):
        if isinstance(document[name], dict):
            found.document[name] = document[name]
    comparison = compare([found])
    assert len(comparison.others) + sum(len(t.measured) for t in comparison.tables) == 1


def test_paths_may_lead_through_keys_with_dots_and_have_alternatives():
    document = {"metrics": {"jaccard": {"0.6": 45.9}, "1percent.txt": {"top1": 64.5}}, "wall_time_s": 3}
    assert number_at(document, "jaccard.0.6") == 45.9
    assert number_at(document, "1%.top1|1percent.txt.top1") == 64.5
    assert number_at(document, ".wall_time_s") == 3
    assert number_at(document, "jaccard") is None
    assert lookup(document, "metrics.none.of.these") is None
    assert number_at({"metrics": {"a": float("nan")}}, "a") is None


@pytest.mark.parametrize(
    ("found", "wanted", "same"),
    [
        (16, 16, True),
        (True, 1, False),
        ([1.0, 0.5**0.5], [1.0, 0.70710678], True),
        ([1.0], [1.0, 0.5], False),
        ("Tesla V100-SXM2", "*v100*", True),
        (None, "*", False),
        (None, "!*percent*", True),
        ("10percent", "!*percent*", False),
        (None, False, True),
        (0, False, True),
        ([], [], True),
        ([4], [], False),
        ("x", False, False),
    ],
)
def test_what_counts_as_the_same(found, wanted, same):
    assert matches(found, wanted) is same


def test_differences_are_in_words():
    document = {"config": {"whiten": "x", "expansion": 10}, "details": {"device_name": "cpu"}}
    wanted = {"config.whiten": False, "config.expansion": 0, "details.device_name": "*V100*", "config.gone": 1}
    told = ["whiten is x, not unset", "expansion is 10, not 0", "device name is cpu, not V100", "gone is not told"]
    assert differences(document, wanted) == told


def test_small_things_about_documents():
    assert is_of({"command": "python -m dinotools davis"}, "davis")
    assert not is_of({"command": "dinotools davis-score"}, "davis")
    assert names_data({"config": {"data": "/x/flowers102/train"}}, "flowers102")
    assert not names_data({"config": {"data": "/x/cifar100"}}, "cifar10")
    assert main_numbers({"metrics": {"per_class": {"k": 20}, "top1": 3.0, "a": {"b": 1, "c": True}}}) == {
        "top1": 3.0,
        "a b": 1,
    }
