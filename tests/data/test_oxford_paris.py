import copy
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dinotools.data import oxford_paris
from dinotools.data.images import UnreadableImage
from dinotools.data.oxford_paris import CroppedFiles, open_retrieval, read_ground_truth
from dinotools.runtime.errors import DinotoolsError

ROOT = Path(__file__).parents[2]
TRUTH = {
    "imlist": ["a", "b", "sub/c", "d.e"],
    "qimlist": ["q0", "q1"],
    "gnd": [
        {"bbx": [2.4, 3.6, 10, 12.0], "easy": [0], "hard": [1, 3], "junk": [2]},
        {"bbx": [-5, 1, 100, 9], "easy": [], "hard": [2], "junk": []},
    ],
}


def make(folder: Path, truth: dict, file: str = "gnd_roxford5k.json") -> Path:
    """A data set of small random pictures; returns the file of its ground truth."""
    random = np.random.RandomState(0)
    for name in [*truth["imlist"], *truth["qimlist"]]:
        path = folder / "jpg" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.randint(0, 256, (16, 20, 3)).astype(np.uint8)).save(path)
    path = folder / file
    path.write_bytes(json.dumps(truth).encode() if file.endswith("json") else pickle.dumps(truth, protocol=2))
    return path


def write(tmp_path: Path, truth: object) -> Path:
    path = tmp_path / "gnd.json"
    path.write_text(json.dumps(truth))
    return path


def test_a_ground_truth_is_read_in_full(tmp_path):
    truth = read_ground_truth(write(tmp_path, TRUTH))
    assert truth.database_names == ("a", "b", "sub/c", "d.e")
    assert truth.query_names == ("q0", "q1")
    assert truth.boxes == ((2.4, 3.6, 10, 12.0), (-5, 1, 100, 9))
    assert (truth.easy, truth.hard, truth.junk) == (((0,), ()), ((1, 3), (2,)), ((2,), ()))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("arrays", [False, True])
def test_a_pickle_says_the_same_as_json(tmp_path, protocol, arrays):
    truth = copy.deepcopy(TRUTH)
    if arrays:
        truth["imlist"] = np.array(truth["imlist"])
        for query in truth["gnd"]:
            query.update({name: np.array(query[name]) for name in query})  # empty lists become float64
    path = tmp_path / "gnd.pkl"
    path.write_bytes(pickle.dumps(truth, protocol=protocol))
    assert read_ground_truth(path) == read_ground_truth(write(tmp_path, TRUTH))


@pytest.mark.parametrize("file", ["gnd_roxford5k.json", "gnd_roxford5k.pkl", "roxford5k/gnd_roxford5k.pkl"])
def test_the_official_layouts_are_found(tmp_path, file):
    path = make((tmp_path / file).parent, TRUTH, Path(file).name)
    data = open_retrieval("roxford5k", tmp_path)
    assert (data.name, data.file) == ("roxford5k", path)
    assert [data.database.name(i) for i in range(4)] == [
        str(path.parent / "jpg" / f"{name}.jpg") for name in TRUTH["imlist"]
    ]
    assert len(data.queries) == 2
    assert data.queries.name(1) == str(path.parent / "jpg" / "q1.jpg")
    assert data.database.labels is None
    assert data.queries.load(0).size == (20, 16)


def test_the_images_may_lie_elsewhere(tmp_path):
    make(tmp_path / "images", TRUTH)
    path = write(tmp_path, TRUTH)
    assert open_retrieval(path, tmp_path / "images").database.load(3).size == (20, 16)
    with pytest.raises(DinotoolsError, match="no such folder"):
        open_retrieval(path)


def test_queries_are_cropped_to_their_boxes(tmp_path):
    path = make(tmp_path, TRUTH)
    whole, cropped = open_retrieval(path).queries, open_retrieval(path, crop_queries=True).queries
    first, second = (np.asarray(whole.load(i)) for i in range(2))
    assert np.array_equal(np.asarray(cropped.load(0)), first[4:12, 2:10])
    assert np.array_equal(np.asarray(cropped.load(1)), second[1:9])  # clamped to the width


@pytest.mark.parametrize("box", [[20, 1, 30, 9], [-9, 1, -1, 9], [1, 16, 9, 20], [3.1, 3, 3.2, 9]])
def test_a_box_that_holds_no_pixel_names_its_query(tmp_path, box):
    truth = copy.deepcopy(TRUTH)
    truth["gnd"][1]["bbx"] = box
    path = make(tmp_path, truth)
    with pytest.raises(DinotoolsError, match=r"query q1: the box .* which is 20 x 16"):
        open_retrieval(path, crop_queries=True)
    source = CroppedFiles(open_retrieval(path).queries.paths, boxes=[(0, 0, 5, 5), tuple(box)])
    assert source.load(0).size == (5, 5)
    with pytest.raises(UnreadableImage, match="holds no pixel"):
        source.load(1)


def test_a_box_is_measured_on_the_upright_image(tmp_path):
    truth = copy.deepcopy(TRUTH)
    truth["gnd"][0]["bbx"] = [1, 16, 9, 20]  # within 16 x 20, outside of 20 x 16
    path = make(tmp_path, truth)
    exif = Image.Exif()
    exif[0x0112] = 6
    query = tmp_path / "jpg" / "q0.jpg"
    Image.open(query).copy().save(query, exif=exif)
    assert open_retrieval(path, crop_queries=True).queries.load(0).size == (8, 4)


def test_a_query_that_is_no_image_fails_when_it_is_loaded(tmp_path):
    path = make(tmp_path, TRUTH)
    (tmp_path / "jpg" / "q0.jpg").write_bytes(b"no picture")
    queries = open_retrieval(path, crop_queries=True).queries
    with pytest.raises(UnreadableImage, match="not an image"):
        queries.load(0)


def test_missing_images_are_counted_and_named(tmp_path, monkeypatch):
    path = make(tmp_path, TRUTH)
    for name in ("a", "b", "d.e", "q1"):
        (tmp_path / "jpg" / f"{name}.jpg").unlink()
    with pytest.raises(DinotoolsError, match=r"4 of 6 images are not there: a, b, d\.e, q1\."):
        open_retrieval(path)
    monkeypatch.setattr(oxford_paris, "LISTED", 3)
    with pytest.raises(DinotoolsError, match=r"4 of 6 images are not there: a, b, d\.e and 1 more"):
        open_retrieval(path)


def test_two_files_of_one_name_are_ambiguous(tmp_path):
    path = make(tmp_path, TRUTH)
    Image.new("RGB", (4, 4)).save(tmp_path / "jpg" / "b.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "jpg" / "unnamed.png")
    with pytest.raises(DinotoolsError, match="several files for b"):
        open_retrieval(path)


def changed(**fields) -> dict:
    return {**copy.deepcopy(TRUTH), **fields}


def with_query(**fields) -> dict:
    truth = copy.deepcopy(TRUTH)
    truth["gnd"][1].update(fields)
    return truth


def without(name: str) -> dict:
    truth = copy.deepcopy(TRUTH)
    truth.pop(name, None)
    truth.get("gnd", [{}, {}])[1].pop(name, None)
    return truth


WRONG = {
    "list at the top": ([TRUTH], "holds a list in place of fields"),
    "text at the top": ("gnd", "holds a str in place of fields"),
    "no imlist": (without("imlist"), "has no field imlist"),
    "no gnd": (without("gnd"), "has no field gnd"),
    "no junk": (without("junk"), "query q1: has no field junk"),
    "no bbx": (without("bbx"), "query q1: has no field bbx"),
    "names in a dict": (changed(imlist={"a": 0}), "imlist is a dict, not a list"),
    "gnd in a dict": (changed(gnd={"q0": {}}), "gnd is a dict, not a list"),
    "query in a list": (changed(gnd=[[], []]), "query q0: holds a list in place of fields"),
    "positions in a dict": (with_query(easy={"0": 1}), "query q1: easy is a dict, not a list"),
    "one position alone": (with_query(hard=3), "query q1: hard is a int, not a list"),
    "no images": (changed(imlist=[]), "imlist is empty"),
    "no queries": (changed(qimlist=[], gnd=[]), "qimlist is empty"),
    "fewer gnd": (changed(gnd=TRUTH["gnd"][:1]), "gnd describes 1 queries, qimlist names 2"),
    "numbers as names": (changed(imlist=["a", 7, None]), "imlist holds 7, None where names"),
    "repeated name": (changed(imlist=["a", "b", "a", "c"]), "imlist names a more than once"),
    "repeated query": (changed(qimlist=["q0", "q0"]), "qimlist names q0 more than once"),
    "beyond the end": (with_query(junk=[4]), "query q1: junk holds 4; imlist has 0 to 3"),
    "negative": (with_query(easy=[0, -1]), "query q1: easy holds -1;"),
    "half a position": (with_query(easy=[0.5]), "easy holds 0.5;"),
    "truth as position": (with_query(easy=[True]), "easy holds True;"),
    "names as positions": (with_query(easy=["0", "1", "2", "3", "4"]), "easy holds '0', '1', '2' and 2 more;"),
    "in two lists": (with_query(easy=[2]), "query q1: sub/c: listed twice"),
    "twice in a list": (with_query(easy=[1, 1]), "query q1: b: listed twice"),
    "three sides": (with_query(bbx=[1, 2, 3]), "query q1: bbx is not four numbers"),
    "no number": (with_query(bbx=[1, 2, 3, "4"]), "query q1: bbx is not four numbers"),
    "not a number": (with_query(bbx=[1, 2, 3, float("nan")]), "query q1: bbx is not four numbers"),
    "infinite": (with_query(bbx=[1, 2, 3, float("inf")]), "query q1: bbx is not four numbers"),
    "huge": (with_query(bbx=[1, 2, 3, 10**400]), "query q1: bbx is not four numbers"),
    "reversed": (with_query(bbx=[10, 2, 3, 4]), "query q1: the box 10 2 3 4 is empty"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_ground_truth_is_an_error(tmp_path, case):
    truth, message = WRONG[case]
    path = write(tmp_path, truth)
    with pytest.raises(DinotoolsError, match=re.escape(message)) as error:
        read_ground_truth(path)
    assert str(path) in str(error.value)
    assert error.value.remedy


@pytest.mark.parametrize("name", ["gnd.json", "gnd.pkl", "gnd.txt"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\xfa", b"[" * 100_000, b"\x80\x02}q\x00", bytes(50)])
def test_a_file_that_is_no_ground_truth(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DinotoolsError, match=r"is no JSON|is no pickle|the file is empty"):
        read_ground_truth(path)


def test_there_must_be_a_file(tmp_path):
    with pytest.raises(DinotoolsError, match="cannot be read"):
        open_retrieval("oxford", tmp_path)
    with pytest.raises(DinotoolsError, match=r"holds no gnd_rparis6k\.pkl"):
        open_retrieval("rparis6k", tmp_path)
    with pytest.raises(DinotoolsError, match="needs the folder"):
        open_retrieval("rparis6k")


def test_the_example_in_the_documentation_works(tmp_path, monkeypatch):
    text = (ROOT / "docs" / "retrieval-data.md").read_text(encoding="utf-8")
    example, program = (re.search(f"```{kind}\n(.*?)```", text, re.DOTALL)[1] for kind in ("json", "python"))
    path = make(tmp_path / "places", json.loads(example), "gnd_places.json")
    for query in ("tower_query", "harbour_query"):
        Image.new("RGB", (640, 700)).save(path.parent / "jpg" / f"{query}.jpg")
    monkeypatch.chdir(tmp_path)
    values: dict = {}
    exec(program, values)
    assert values["image"].size == (260, 570)
    assert values["names"] == ["tower_day"]
    for name in [*json.loads(example)["imlist"], *json.loads(example)["qimlist"]]:
        assert f"{name}.jpg" in text
