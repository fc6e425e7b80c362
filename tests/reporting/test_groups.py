"""The page of near-copies: what is in it, and what a browser makes of it."""

import html
import re

import numpy as np
import pytest

from dinotools.reporting import groups
from dinotools.reporting.groups import Copy, Group

HOSTILE = "a/</pre></script><b>\"'&\udce9 ünï/" + "long_" * 60 + ".jpg"
SHOWN = HOSTILE.replace("\udce9", "\ufffd")


@pytest.fixture(scope="module")
def page():
    image = np.full((90, 120, 3), 77, np.uint8)
    first = Group([Copy("a.jpg", image, 4000, 3000, 2_500_000, 1.0), Copy(HOSTILE, image, 400, 300, 61_000, 0.8765)])
    second = Group([Copy(f"{i}.jpg", None, 10, 20, 512, 1 - i / 100) for i in range(3)])
    rows = [{"attack": "<crop>", "found %": 91.5}, {"attack": "mirror", "found %": 43.25}]
    return groups.page("A & B", "At least 0.8 <i>", [first, second], "foot", rows)


def test_the_page_stands_alone_and_escapes_what_it_is_given(page):
    assert "<script" not in page and "</script>" not in page and "<b>" not in page and "<crop>" not in page
    assert "<title>A &amp; B</title>" in page and "At least 0.8 &lt;i&gt;" in page
    assert re.findall(r'(?:src|href)="(?!data:)[^"]*"', page) == []
    assert "http" not in page
    page.encode("utf-8")


def test_a_group_says_what_to_keep_and_what_the_others_are(page):
    first, second = re.findall(r"<article>.*?</article>", page, re.DOTALL)
    assert "Group 1 <small>2 images; all but the first take 61\N{NO-BREAK SPACE}kB<" in first
    assert "Group 2 <small>3 images; all but the first take 1.0\N{NO-BREAK SPACE}kB<" in second
    assert re.findall(r"<strong>(.*?)</strong><span>(.*?)</span>", first) == [
        ("to keep", "4,000 × 3,000, 2.5\N{NO-BREAK SPACE}MB"),
        ("similarity 0.876", "400 × 300, 61\N{NO-BREAK SPACE}kB"),
    ]
    assert re.findall(r"<strong>(.*?)</strong>", second) == ["to keep", "similarity 0.990", "similarity 0.980"]
    assert [page.count(mark) for mark in ('<li class="first">', "<img", 'class="unseen"')] == [2, 2, 3]


def test_the_paths_can_be_copied_as_they_are(page):
    lists = [html.unescape(paths).split("\n") for paths in re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)]
    assert lists == [["a.jpg", SHOWN], ["0.jpg", "1.jpg", "2.jpg"]]


def test_the_table_of_the_calibration_is_optional(page):
    assert '<td>&lt;crop&gt;</td><td class="number">91.50</td>' in page and ">43.25</td>" in page
    empty = groups.page("t", "l", [], "f")
    assert "<table>" not in empty and "There are none." in empty


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (999_499, "999 kB"), (999_500, "1.0 MB"), (3e9, "3,000 MB")],
)
def test_sizes_of_files(size, shown):
    assert groups.file_size(int(size)).replace("\N{NO-BREAK SPACE}", " ") == shown


MEASURE = """
document.querySelector("details").open = true;
addEventListener("load", () => {
  const loaded = [...document.images].filter((image) => image.naturalWidth === 120).length;
  document.title = `${loaded} pictures, ${document.documentElement.scrollWidth <= innerWidth ? "all" : "not all"} fits`;
});
"""


def test_a_browser_shows_the_page_without_a_complaint(page, browse):
    document, complaints = browse(page, MEASURE)
    assert complaints == []
    assert "<title>2 pictures, all fits</title>" in document
