"""What stands in the panels, read back from the figure."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from dinotools.reporting import figures
from dinotools.reporting.training_curves import MOST_POINTS, Panel, colours_of, described, draw, draw_one, thinned


@pytest.mark.filterwarnings("error")
def test_every_line_stands_in_its_panel_in_its_own_colour(tmp_path):
    a, b = [(0, 1.0), (1, 0.5)], [(0, 2.0), (1, 1.5), (2, 1.0)]
    figure = draw([Panel("loss", {"a": a, "b": b}), Panel("kl", {"b": b, "a": []}), Panel("$x_y$", {"a": a})], "epoch")
    first, second, third = figure.axes[:3]
    assert [list(map(tuple, line.get_xydata())) for line in first.lines] == [a, b]
    assert second.lines[0].get_color() == first.lines[1].get_color() != first.lines[0].get_color()
    assert [len(axes.lines) for axes in (first, second, third)] == [2, 1, 1]
    figures.save(figure, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_more_runs_than_house_colours_differ_still():
    figure = draw([Panel("loss", {f"run {i}": [(0, float(i)), (1, 0.0)] for i in range(7)})], "epoch")
    assert len({line.get_color() for line in figure.axes[0].lines}) == 7


def test_levels_and_knees_are_named_and_near_knees_share_a_line():
    knees = {"freed": 10.0, "warm": 10.5, "late": 60.0, "beyond": 500.0}
    figure = draw([Panel("loss", {"a": [(0, 1.0), (100, 0.5)]}, ("ln K", 4.0), knees)], "epoch")
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["ln K", "freed, warm", "late"]
    assert [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"] == [10.0, 60.0]
    assert [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"] == [4.0]


def test_a_long_curve_becomes_means():
    points = [(float(i), float(i % 2)) for i in range(10 * MOST_POINTS)]
    drawn = np.array(thinned(points))
    assert drawn.shape == (MOST_POINTS, 2)
    assert np.allclose(drawn[:, 1], 0.5)
    assert np.allclose(drawn.mean(0), np.mean(points, 0))
    assert thinned(points[:MOST_POINTS]) == points[:MOST_POINTS]


def test_a_chart_of_a_page_has_its_inks_its_words_and_nothing_to_fetch():
    knees = {"lr warm-up ends": 2.0}
    panel = Panel("loss & <more>", {"a": [(0, 4.0), (10, 0.5)], "b": [(0, 3.0), (5, 1.25)]}, ("ln K", 4.2), knees)
    colours = colours_of([panel])
    drawn = [figures.svg(draw_one(panel, "epoch", colours), described(panel, "epoch")) for _ in range(2)]
    assert drawn[0] == drawn[1]
    svg = ElementTree.fromstring(drawn[0].replace("xlink:href", "href"))
    assert svg.get("aria-label") == (
        "Curve of loss & <more>. a: from 4 at epoch 0 to 0.5 at epoch 10; b: from 3 at epoch 0 to 1.25 at epoch 5; "
        "dashed line: ln K, 4.2; lr warm-up ends at epoch 2."
    )
    assert {"epoch", "ln K", "lr warm-up ends"} <= {"".join(text.itertext()).strip() for text in svg.iter("text")}
    styles = " ".join(element.get("style", "") for element in svg.iter())
    assert {f"var(--{name})" for name in ("ink", "page", "series-1", "series-2")} == set(
        re.findall(r"var\([^)]*\)", styles)
    )
    assert "#000" not in styles and "font-family" not in styles
    assert "http" not in drawn[0] and "<style" not in drawn[0]
    ids = [element.get("id") for element in svg.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert {element.get("href")[1:] for element in svg.iter() if element.get("href")} <= set(ids)


def test_charts_of_one_page_share_no_names():
    panels = [Panel(title, {"a": [(0, 1.0), (1, 0.5)]}) for title in ("one", "two")]
    drawn = [figures.svg(draw_one(panel, "epoch", colours_of(panels)), described(panel, "epoch")) for panel in panels]
    first, second = (set(re.findall(r'\bid="([^"]*)"', svg)) for svg in drawn)
    assert first and second and not first & second
