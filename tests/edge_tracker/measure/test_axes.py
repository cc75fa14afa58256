"""Values stand where the axes say, and what is drawn is one readable SVG element."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from edge_tracker.measure.axes import Axes

AXES = Axes("frame", "overlap <IoU>", (10, 20), (10, 15, 20), y_ticks=(0, 1))


def test_ranges_fill_the_plot() -> None:
    left, bottom = AXES.place(10, 0)
    right, top = AXES.place(20, 1)
    assert right - left == AXES.plot_width_px
    assert top == AXES.top_px
    assert 0 < left < right < AXES.width_px
    assert 0 < top < bottom < AXES.height_px
    assert AXES.place(15, 0.5) == pytest.approx(((left + right) / 2, (top + bottom) / 2))


@pytest.mark.parametrize(("upright_grid", "grid_lines"), [(True, 5), (False, 2)])
def test_ticks_are_labelled_and_have_lines(upright_grid: bool, grid_lines: int) -> None:
    axes = Axes("x", "y", (10, 20), (10, 15, 20), (0, 1), (0, 1), upright_grid)
    drawn = ElementTree.fromstring(axes.around(["<circle/>"], "a & b"))
    texts = [element.text for element in drawn.iter("text")]
    assert texts == ["0", "1", "10", "15", "20", "x", "y"]
    assert len([path for path in drawn.iter("path") if path.get("class") == "grid"]) == grid_lines
    assert drawn[-1].tag == "circle"
    assert drawn.get("aria-label") == "a & b"
