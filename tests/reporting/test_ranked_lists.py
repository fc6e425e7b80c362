"""The page of ranked lists: what is in it, and what a browser makes of it."""

import base64
import html
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from dinotools.reporting import ranked_lists
from dinotools.reporting.ranked_lists import Hit, RankedList

HOSTILE = "</script><b onload='x'>\"&\udce9 صورة/" + "long_" * 60
SHOWN = HOSTILE.replace("\udce9", "\ufffd")


def picture(number):
    return np.full((60, 80, 3), 20 * number, np.uint8)


def found(name, scores, verdicts=(), *, box=None, missed=0):
    hits = [Hit(f"{name}-{i}", 0.9 - 0.1 * i, verdict, picture(i)) for i, verdict in enumerate(verdicts)]
    return RankedList(name, picture(9), box, scores, hits, missed)


@pytest.fixture(scope="module")
def page():
    verdicts = ("junk", "positive", "negative", "junk", "positive")
    lists = [
        found("middle", {"AP Easy": 0.5, "AP Hard": 0.25}, verdicts, box=(0.1, 0.25, 0.6, 1.0), missed=2),
        found("none", {"AP Easy": None, "AP Hard": 0.75}),
        found("worst", {"AP Easy": 0.0, "AP Hard": None}, missed=1),
        found(HOSTILE, {"AP Easy": 1.0, "AP Hard": 0.5}, ["positive"]),
    ]
    return ranked_lists.page("A & B", "lead <i>", lists, "foot")


def articles(page):
    return re.findall(r"<article.*?</article>", page, re.DOTALL)


def test_the_page_stands_alone_and_escapes_what_it_is_given(page):
    assert page.count("</script>") == page.count("<script>") == 1
    assert "<title>A &amp; B</title>" in page and "lead &lt;i&gt;" in page and "<b" not in page.replace("<body", "")
    assert re.findall(r'(?:src|href)="(?!data:)[^"]*"', page) == []
    assert "http" not in page
    page.encode("utf-8")
    titles = [html.unescape(title) for title in re.findall(r'title="([^"]*)"', articles(page)[3])]
    assert set(titles) == {SHOWN, f"{SHOWN}-0"}
    assert f'alt="query {html.escape(SHOWN)}"' in page


def test_hits_stand_in_order_with_frame_sign_rank_and_similarity(page):
    tile = r'"shot (\w+)"><img[^>]*alt="([^"]*)"[^>]*><.*?="(\w+)">(.)</span>.*?"rank">(\w+)</span>([\d.]+)'
    assert re.findall(tile, articles(page)[0].partition("<ol")[2], re.DOTALL) == [
        ("junk", "middle-0", "junk", "–", "junk", "0.900"),
        ("positive", "middle-1", "positive", "✓", "1", "0.800"),
        ("negative", "middle-2", "negative", "✗", "2", "0.700"),
        ("junk", "middle-3", "junk", "–", "junk", "0.600"),
        ("positive", "middle-4", "positive", "✓", "3", "0.500"),
    ]
    styles = {verdict: re.search(rf"\.{verdict} {{ border: \S+ (\w+)", page)[1] for verdict in ranked_lists.SIGNS}
    assert len(set(styles.values())) == len(set(ranked_lists.SIGNS.values())) == 3
    legend = re.search(r'<ul class="legend">.*?</ul>', page)[0]
    assert all(f'class="shot {verdict}"' in legend for verdict in ranked_lists.SIGNS)


def test_scores_and_what_is_not_shown(page):
    middle, none, worst, last = articles(page)
    assert "<dt>AP Easy</dt><dd>50.0 %</dd><dt>AP Hard</dt><dd>25.0 %</dd>" in middle
    assert "<dd>no positives</dd>" in none and "<dd>0.0 %</dd>" in worst
    assert "2 more positives are not shown" in middle and "1 more positive is not shown" in worst
    assert "not shown" not in none + last


def test_the_box_lies_where_the_query_was_cropped(page):
    style = re.findall(r'class="box" style="(.*?)"', page)
    assert style == ["left: 10.00%; top: 25.00%; right: 40.00%; bottom: 0.00%"]
    assert "bright part" in page


def test_a_search_without_ground_truth_has_no_signs_scores_or_script():
    hits = [Hit("holiday/1.jpg", 0.5, None, picture(0)), Hit("2.jpg", 0.4, None, None)]
    page = ranked_lists.page("t", "l", [RankedList("q", None, None, {}, hits, 0)], "f")
    assert re.findall(r'"rank">(\w+)<', page) == ["1", "2"]
    assert not any(f"<{tag}" in page for tag in ("script", "select", "ul", "dl"))
    assert 'class="sign"' not in page and 'class="box"' not in page
    assert page.count('class="unseen"') == 2
    assert ">1.jpg</span>" in page and "holiday/<wbr></span>" in page


def test_a_page_without_queries_is_a_page():
    assert "<main>" in ranked_lists.page("t", "l", [], "f")


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        ranked_lists.page("t", "l", [found("q", {"AP": float("nan")})], "f")


def test_a_page_of_a_thousand_photographs_is_bounded():
    random = np.random.RandomState(0)
    coarse = [Image.fromarray(random.randint(0, 255, (24, 32, 3)).astype(np.uint8)) for _ in range(15)]
    photos = [np.asarray(image.resize((640, 480), Image.Resampling.BICUBIC)) for image in coarse]
    hits = [Hit(f"{i}.jpg", 0.5, "negative", photo) for i, photo in enumerate(photos)]
    lists = [RankedList("q", None, None, {"AP": 0.5}, hits, 0)]
    few, none = (ranked_lists.page("t", "l", shown, "f") for shown in (lists, []))
    assert 70 * (len(few) - len(none)) < 10e6
    for photo, data in zip(photos, re.findall(r'base64,([^"]+)"', few), strict=True):
        small = Image.open(io.BytesIO(base64.b64decode(data)))
        assert small.size == (224, 168)
        same = np.asarray(Image.fromarray(photo).resize(small.size, Image.Resampling.LANCZOS)).astype(int)
        assert np.abs(np.asarray(small) - same).mean() < 8


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (8, 8)])
def test_every_shape_has_a_size_on_the_page(shape):
    hit = Hit("a", 0.5, None, np.zeros((*shape, 3), np.uint8))
    page = ranked_lists.page("t", "l", [RankedList("q", None, None, {}, [hit], 0)], "f")
    width, height = map(int, re.search(r'width="(\d+)" height="(\d+)"', page).groups())
    assert 1 <= width <= 150 and 1 <= height <= 112 and (width == 150 or height == 112)


ORDERS = """
const select = document.getElementById("order"), seen = [];
for (const option of select.options) {
  select.value = option.value;
  select.dispatchEvent(new Event("change"));
  const names = [...document.querySelectorAll("h2")].map((h2) => h2.textContent.slice(0, 6));
  seen.push([option.textContent, select.closest("p").checkVisibility(), ...names]);
}
seen.push(document.querySelectorAll("b").length);  // a name is text, whatever it says
const report = document.createElement("script");
report.id = "report";
report.type = "application/json";
report.textContent = JSON.stringify(seen);
document.body.append(report);
"""


def test_a_browser_sorts_without_a_complaint(page, browse):
    document, complaints = browse(page, ORDERS)
    assert complaints == []
    last = SHOWN.rpartition("/")[2][:6]
    assert json.loads(re.search(r'<script id="report".*?>(.*?)</script>', document)[1]) == [
        ["as given", True, "middle", "none", "worst", last],
        ["AP Easy, worst first", True, "worst", "middle", last, "none"],
        ["AP Easy, best first", True, last, "middle", "worst", "none"],
        ["AP Hard, worst first", True, "middle", last, "none", "worst"],
        ["AP Hard, best first", True, "none", last, "middle", "worst"],
        0,
    ]
