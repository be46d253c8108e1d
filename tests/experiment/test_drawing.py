"""What is on the paper is what the curves say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from mfclip.errors import ConfigError
from mfclip.experiment.curves import Curve, Drawing, Panel
from mfclip.experiment.drawing import draw, write_figure
from mfclip.experiment.figures.style import line_look
from mfclip.experiment.store import Store

Storer = Callable[..., Store]


def _drawing(**changes: Any) -> Drawing:
    curves = (Curve("a", (0.0, 1.0), (0.25, 0.5)), Curve("b", (0.0, 1.0), (0.5, 0.75)))
    panels = (Panel("one", curves), Panel("two", curves[1:]))
    return replace(Drawing("n", "T", "x", "y", panels), **changes)


def test_lines_hold_the_curves_and_one_legend() -> None:
    figure = draw(_drawing(diagonal=True))
    first, second = figure.axes
    assert [line.get_xydata().tolist() for line in first.lines] == [
        [[0, 0.25], [1, 0.5]], [[0, 0.5], [1, 0.75]], [[0, 0], [1, 1]],
    ]  # fmt: skip
    assert second.get_title() == "two"
    assert first.get_xticks().tolist() == [0, 1]  # whole numbers are levels
    assert first.lines[1].get_color() == second.lines[0].get_color()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
    assert (second.get_xlabel(), second.get_ylabel(), figure.get_suptitle()) == ("x", "", "T")


@pytest.mark.parametrize("count", [2, 5, 9])
def test_a_legend_of_long_names_stays_on_the_paper(count: int) -> None:
    names = [f"NE + IE + FTE + predictor + SPA, {number}" for number in range(count)]
    curves = tuple(Curve(name, (0.0, 1.0), (0.25, 0.5)) for name in names)
    figure = draw(_drawing(panels=(Panel("one", curves), Panel("two", curves))))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box = figure.legends[0].get_window_extent(canvas.get_renderer())
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width


def test_bars_stand_side_by_side_with_their_numbers() -> None:
    (place,) = draw(_drawing(style="bar", ticks=("p", "q"), panels=_drawing().panels[:1])).axes
    assert [bar.get_height() for bar in place.patches] == [0.25, 0.5, 0.5, 0.75]
    assert [bar.get_x() for bar in place.patches] == pytest.approx([-0.4, 0.6, 0, 1])
    assert [tick.get_text() for tick in place.get_xticklabels()] == ["p", "q"]


def test_steps_hold_every_bin_also_the_last() -> None:
    place = draw(_drawing(style="step")).axes[0]
    values, edges, _ = place.patches[0].get_data()
    assert values.tolist() == [0.25, 0.5]
    assert edges.tolist() == [0, 1, 2]


def test_stretched_axes_are_normal_deviates() -> None:
    place = draw(_drawing(probit=True)).axes[0]
    x, y = place.lines[0].get_xydata()[1]
    assert NormalDist().cdf(x) == pytest.approx(0.998)  # 1 would be at infinity
    assert NormalDist().cdf(y) == pytest.approx(0.5)


def test_many_rows_can_be_told_apart_by_colour_and_without_it() -> None:
    looks = [line_look(number) for number in range(25)]
    assert len({(look["color"], look["linestyle"]) for look in looks}) == 25
    assert len({(look["linestyle"], look["marker"]) for look in looks}) == 25


def test_long_curves_carry_some_markers_apart_from_each_other() -> None:
    x = tuple(float(number) for number in range(200))
    curves = tuple(Curve(name, x, x) for name in "abcdefghij")
    (place,) = draw(_drawing(panels=(Panel("", curves),))).axes
    assert len({(line.get_color(), line.get_linestyle()) for line in place.lines}) == 10
    marked = [set(x[slice(start, None, step)]) for start, step in map(_every, place.lines)]
    assert all(10 <= len(places) <= 13 for places in marked)
    assert not marked[0] & marked[8]  # those of one colour


def _every(line: Any) -> tuple[int, int]:
    start, step = line.get_markevery()
    return start, step


def test_files_are_vector_and_pixels_and_do_not_change(storer: Storer) -> None:
    store = storer("table8_spa", ["MFCLIP w/ SPA"], train="CollDiff")
    written = write_figure("fig6", store.root)
    assert [path.name for path in written] == ["fig6.pdf", "fig6.png"]
    assert written[0].read_bytes().startswith(b"%PDF")
    pixels = np.asarray(Image.open(written[1]).convert("L"))
    assert pixels.min() < 50
    assert pixels.max() == 255
    before = [path.read_bytes() for path in written]
    assert [path.read_bytes() for path in write_figure("fig6", store.root)] == before
    with pytest.raises(ConfigError, match=r"a figure among fig6, fig7, .* but got 'fig5'"):
        write_figure("fig5", store.root)
