"""The page of points: what is in it, and what a browser makes of it."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from dinotools.reporting import figures, scatter
from dinotools.reporting.palette import SHAPES

CLASSES = ["<script>alert(1)</script>", 'a "b" & $x$', "_hidden", *map(str, range(97))]


@pytest.fixture(scope="module")
def cloud():
    """Two images of each class; every seventh has no thumbnail, the others one gray level each."""
    random = np.random.RandomState(0)
    labels = np.arange(200) % 100
    thumbnails = [None if i % 7 == 0 else np.full((64, 64, 3), i, np.uint8) for i in range(200)]
    names = ["</script><b>", *(f"{i}.png" for i in range(1, 200))]
    return scatter.Cloud(random.randn(200, 2), labels, CLASSES, names, thumbnails, labelled=False)


@pytest.fixture(scope="module")
def page(cloud):
    return scatter.page("A & B", "lead <i>", cloud, "foot")


def data_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page)[1])


def test_the_page_stands_alone_and_escapes_what_it_is_given(page, cloud):
    assert page.count("</script>") == page.count("<script") == 2
    assert "<title>A &amp; B</title>" in page and "lead &lt;i&gt;" in page and "<i>" not in page
    assert re.findall(r'(?:src|href)="(?!data:)[^"]*"', page) == []
    assert "http" not in page
    found = data_of(page)
    assert [entry["name"] for entry in found["classes"]] == CLASSES
    assert found["names"] == cloud.names
    shape = np.stack([found["x"], found["y"]], axis=1)
    centred = cloud.points - cloud.points.mean(axis=0)
    np.testing.assert_allclose(shape, centred / np.ptp(cloud.points, axis=0).max(), atol=1e-4)


def test_every_thumbnail_is_where_the_page_looks_for_it(page, monkeypatch, cloud):
    monkeypatch.setattr(scatter, "PER_SHEET", 64)
    for found in (data_of(page), data_of(scatter.page("t", "l", cloud, "f"))):
        sheets = [Image.open(io.BytesIO(base64.b64decode(sheet.split(",")[1]))) for sheet in found["sheets"]]
        for i, at in enumerate(found["thumbnails"]):
            assert (at < 0) == (i % 7 == 0)
            if at >= 0:
                cell = at % found["perSheet"]
                left, top = cell % found["columns"] * 64, cell // found["columns"] * 64
                tile = np.asarray(sheets[at // found["perSheet"]])[top : top + 64, left : left + 64].astype(int)
                assert np.abs(tile - i).max() <= 2


def test_a_page_of_two_thousand_photographs_is_bounded():
    random = np.random.RandomState(0)
    coarse = random.randint(0, 255, (200, 8, 8, 3)).astype(np.uint8)
    pictures = [np.asarray(Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC)) for small in coarse]
    labels = np.zeros(200, np.int64)
    cloud = scatter.Cloud(random.randn(200, 2), labels, ["a"], [f"{i}" for i in labels], pictures, labelled=False)
    assert len(scatter.page("t", "l", cloud, "f")) < 4e6 * 200 / 2000


def test_script_and_figure_know_all_shapes(page):
    assert set(figures.MARKERS) == set(SHAPES)
    assert all(re.search(rf"^  {shape}: ", page, re.MULTILINE) for shape in SHAPES)


@pytest.mark.parametrize(
    ("n", "labelled", "legends"), [(100, True, 0), (100, False, 0), (40, False, 1), (3, False, 1), (1, False, 0)]
)
def test_the_figure_names_classes_beside_points_or_in_a_legend(cloud, n, labelled, legends, tmp_path):
    points, labels = cloud.points[:n], cloud.labels[:n]
    figure = figures.scatter(points, labels, CLASSES[:n], labelled=labelled, title="a $t$")
    assert len(figure.legends) == legends
    if legends:
        assert len(figure.legends[0].get_texts()) == n  # "_hidden" among them
    assert len(figure.axes[0].texts) == (n if labelled else 0)
    figures.save(figure, tmp_path / "scatter.png")
    assert Image.open(tmp_path / "scatter.png").format == "PNG"


def test_a_name_stands_on_the_side_away_from_the_nearest_point():
    points = np.array([[0.0, 0], [1, 0], [5, 0], [9, 0]])
    figure = figures.scatter(points, np.arange(4), list("abcd"), labelled=True, title="t")
    assert [text.get_horizontalalignment() for text in figure.axes[0].texts] == ["right", "left", "left", "left"]


def test_pairs_stand_side_by_side():
    images = [np.full((8, 8, 3), i, np.uint8) for i in range(5)]
    figure = figures.pairs(images, [image + 100 for image in images])
    shown = [axes.images[0].get_array()[0, 0, 0] for axes in figure.axes if axes.images]
    assert shown == [0, 100, 1, 101, 2, 102, 3, 103, 4, 104]


POINT_AT = """setTimeout(() => {
  const frame = canvas.getBoundingClientRect();
  const at = {clientX: frame.left + screenX(%d), clientY: frame.top + screenY(%d), pointerType: "mouse"};
  canvas.dispatchEvent(new PointerEvent("pointermove", at));
}, 500);"""


def test_a_browser_shows_legend_and_hovered_point_without_a_complaint(page, browse):
    document, complaints = browse(page, POINT_AT % (100, 100))
    assert complaints == []
    assert document.count('aria-pressed="true"') == 100
    tip = re.search(r'<div id="tip" style.*?</div>', document)[0]
    assert "hidden" not in tip
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in tip
    assert "<small>100.png</small>" in tip


def test_a_hidden_class_is_not_hovered(page, browse):
    script = 'document.querySelector("#legend button").click();' + POINT_AT % (100, 100)
    document, complaints = browse(page, script)
    assert complaints == []
    assert document.count('aria-pressed="false"') == 1
    assert "<small>100.png</small>" not in document


def test_the_browser_test_would_see_an_error(page, browse):
    assert browse(page, "nothing.there()")[1]
