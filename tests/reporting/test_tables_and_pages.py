"""What a person sees: tables, figures, pages."""

import io
import re

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from dinotools.reporting import figures, html, tables
from dinotools.runtime.results import Result


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (77.123456, "77.12"),
        (0.0, "0.00"),
        (3e-5, "3e-05"),
        (1234567, "1,234,567"),
        (None, ""),
        (True, "yes"),
        ("a", "a"),
    ],
)
def test_cells(value, shown):
    assert tables.cell(value) == shown


def test_a_table_has_every_column_and_row():
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    result = Result("Title", [{"k": 10, "top-1 %": 70.0}, {"k": 20, "top-1 %": 74.5, "paper": 74.5}], notes=("a note",))
    tables.print_result(result, console)
    text = console.export_text()
    assert all(word in text for word in ("Title", "k", "top-1 %", "paper", "70.00", "74.50", "a note"))


def test_a_page_stands_alone_and_escapes_what_it_is_given(tmp_path):
    picture = tmp_path / "curve.png"
    figures.save(figures.attention_montage([np.zeros((8, 8, 3), np.uint8)], [np.ones((1, 2, 2))]), picture)
    assert Image.open(picture).format == "PNG"
    sections = [html.Section("A < B", "text & more", [{"x": 1.5}], [(picture, 'an "alt" text')], "dinotools knn")]
    text = html.page("title", "lead", sections, "foot")
    assert "A &lt; B" in text and "text &amp; more" in text and 'alt="an &quot;alt&quot; text"' in text
    assert "data:image/png;base64," in text
    assert re.findall(r'(?:src|href)="(?!data:)[^"]*"', text) == []


def test_the_attention_montage_shows_every_head():
    images = [np.zeros((32, 32, 3), np.uint8)] * 2
    figure = figures.attention_montage(images, [np.random.rand(3, 4, 4)] * 2)
    assert len(figure.axes) == 2 * (1 + 1 + 3)
    assert [axes.get_title() for axes in figure.axes[:5]] == ["image", "mean", "head 1", "head 2", "head 3"]


def test_where_space_lacks_headings_are_broken_and_short_names_are_not():
    rows = [{"sequence": "bmx-trees", "J of all objects": 61.25, "path": "/a/long/place/" + "folder/" * 4}]
    console = Console(width=36, file=io.StringIO())
    tables.print_result(Result("title", rows), console)
    text = console.file.getvalue()
    assert "bmx-trees" in text and "61.25" in text and "J of all objects" not in text


def test_a_table_of_a_page_keeps_markup_apart_from_text():
    rows = [
        {"name": "a < b", "ours": 1.5, "link": html.Html('<a href="#x">x</a>')},
        {"name": "c", "ours": None, "link": ""},
    ]
    text = html.table(rows, "two rows", cards=True)
    assert 'aria-label="two rows"' in text and 'tabindex="0"' in text
    assert re.findall("<th [^>]*>", text) == ['<th scope="col">', '<th scope="col" class="number">', '<th scope="col">']
    assert '<td data-label="name">a &lt; b</td><td class="number" data-label="ours">1.50</td>' in text
    assert '<a href="#x">x</a></td>' in text
    assert "data-label" not in html.table(rows)


def test_what_is_folded_has_a_summary_that_is_text():
    assert html.details("a < b", "<p>c</p>") == "<details><summary>a &lt; b</summary>\n<p>c</p>\n</details>"
