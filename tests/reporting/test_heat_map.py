"""What stands in a heat map, read back from the figure."""

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from dinotools.reporting import figures

LABELS = ("learning rate", "features", "top-1 %")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("n_rows", "n_columns"), [(1, 1), (4, 13), (2, 3)])
def test_every_cell_says_its_value_and_one_is_framed(n_rows, n_columns, tmp_path):
    values = 40 + np.random.RandomState(0).rand(n_rows, n_columns)
    marked = np.unravel_index(values.argmax(), values.shape)
    figure = figures.heat_map(
        values,
        [f"row {i}" for i in range(n_rows)],
        [f"{i}" for i in range(n_columns)],
        marked=marked,
        title="a title",
        labels=LABELS,
    )
    axes = figure.axes[0]
    written = {(round(text.get_position()[1]), round(text.get_position()[0])): text for text in axes.texts}
    assert {cell: text.get_text() for cell, text in written.items()} == {
        cell: f"{value:.1f}" for cell, value in np.ndenumerate(values)
    }
    assert [cell for cell, text in written.items() if text.get_fontweight() == "bold"] == [tuple(marked)]
    (frame,) = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    centre = np.array(frame.get_xy()) + [frame.get_width() / 2, frame.get_height() / 2]
    assert np.allclose(centre, marked[::-1])
    figures.save(figure, tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_an_empty_cell_is_a_dash_and_hides_no_contrast():
    figure = figures.heat_map(
        np.array([[np.nan, 3.0, 70.0, 75.0]]), ["cls"], list("abcd"), marked=(0, 3), title="", labels=LABELS
    )
    axes = figure.axes[0]
    assert axes.texts[0].get_text() == "–"
    assert axes.images[0].get_clim() == (75 - figures.HEAT_RANGE, 75)
