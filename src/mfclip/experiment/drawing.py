"""Drawings on paper: vector and PNG files, in the look of `mfclip.experiment.figures.style`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist
from typing import Any

from mfclip.errors import ConfigError
from mfclip.experiment.curves import (
    Curve,
    Drawing,
    Panel,
    generator_means,
    prompt_levels,
    robustness,
)
from mfclip.experiment.figures.style import (
    COLOURS,
    LABEL,
    TITLE,
    line_look,
    new_figure,
    save_figure,
)
from mfclip.experiment.protocols import plain_name
from mfclip.experiment.results import Results, read_results
from mfclip.experiment.score_curves import det, histograms, reliability, roc, training
from mfclip.experiment.store import Store

MARKED = 12
"""Most markers on a curve; those of longer ones are spread over it."""

PERCENTS = (1, 5, 10, 20, 40, 60, 80, 95, 99)
"""Ticks of the stretched axes."""

CLIP = 0.002
"""Ratios nearer to 0 or 1 lie at infinity on the stretched axes, and are drawn here."""

LEGEND_ROOM = 5.0
"""Width of a legend's line and of the gaps beside it, in letters' heights."""

FIGURES: dict[str, Callable[[Results, Store], list[Drawing]]] = {
    "fig6": lambda results, _: generator_means(results),
    "fig7": lambda results, _: robustness(results),
    "fig8": lambda results, _: prompt_levels(results),
    "roc": roc,
    "det": det,
    "reliability": reliability,
    "histograms": histograms,
    "training": training,
}


def write_figure(name: str, folder: Path) -> list[Path]:
    """Draw one figure of an experiment into ``figures/``, as PDF and PNG.

    Args:
        name: a key of `FIGURES`.
        folder: of the experiment.

    Returns:
        The files; curves of scores give one figure a training set.

    Raises:
        ConfigError: no such figure, or the protocol has nothing to show in it.
        InputError: the folder holds no finished cell, or a damaged file.
        MissingExtraError: matplotlib is not installed.
    """
    if name not in FIGURES:
        raise ConfigError(f"expected a figure among {', '.join(FIGURES)}, but got '{name}'")
    store = Store(folder)
    written = []
    for drawing in FIGURES[name](read_results(store), store):
        figure = draw(drawing)
        for ending in (".pdf", ".png"):
            path = folder / "figures" / f"{plain_name(drawing.name)}{ending}"
            written.append(save_figure(figure, path))
    return written


def draw(drawing: Drawing) -> Any:
    """Return a matplotlib figure; no window and no global state.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    columns = min(4, len(drawing.panels))
    rows = -(-len(drawing.panels) // columns)
    width = 6.5 if columns == 1 else 3.0 * columns
    figure = new_figure(width, 0.9 + 2.7 * rows)
    # panels with one y axis are there to be compared
    grid = figure.subplots(rows, columns, squeeze=False, sharey=bool(drawing.y_label))
    axes = list(grid.flat)
    labels = list(dict.fromkeys(c.label for panel in drawing.panels for c in panel.curves))
    for panel, place in zip(drawing.panels, axes, strict=False):
        _draw_panel(place, drawing, panel, labels)
    for place in axes[len(drawing.panels) :]:
        place.set_axis_off()
    for place in grid[:, 0]:
        place.set_ylabel(drawing.y_label, fontsize=LABEL)
    for place in axes[len(drawing.panels) - columns : len(drawing.panels)]:
        place.set_xlabel(drawing.x_label, fontsize=LABEL)
    figure.suptitle(drawing.title, fontsize=TITLE)
    _add_legend(figure)
    return figure


def _add_legend(figure: Any) -> None:
    """Name every look once, below the panels."""
    handles: dict[str, Any] = {}
    for place in figure.axes:
        for handle, label in zip(*place.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if len(handles) > 1:
        entry = LABEL * (0.6 * max(map(len, handles)) + LEGEND_ROOM)  # points, of the widest name
        columns = int(72 * figure.get_figwidth() / entry)
        figure.legend(
            handles.values(), handles, loc="outside lower center", fontsize=LABEL, frameon=False,
            ncols=max(1, min(6, len(handles), columns)),
        )  # fmt: skip


def _draw_panel(place: Any, drawing: Drawing, panel: Panel, labels: list[str]) -> None:
    place.set_title(panel.title, fontsize=9)
    place.tick_params(labelsize=LABEL)
    place.grid(color="#dddddd", linewidth=0.5)
    place.set_axisbelow(True)
    for curve in panel.curves:
        _draw_curve(place, drawing, curve, labels)
    if drawing.diagonal:
        place.plot([0, 1], [0, 1], color="#888888", linewidth=0.8, linestyle=":")
    places = {x for curve in panel.curves for x in curve.x}
    if len(places) <= MARKED and all(x.is_integer() for x in places):  # levels: 1, 2, not 1.5
        place.set_xticks(sorted(places))
    if drawing.ticks:
        place.set_xticks(range(len(drawing.ticks)), drawing.ticks)
    if drawing.probit:
        ticks = [_stretch(value / 100) for value in PERCENTS]
        words = [str(value) for value in PERCENTS]
        place.set_xticks(ticks, words)
        place.set_yticks(ticks, words)


def _draw_curve(place: Any, drawing: Drawing, curve: Curve, labels: list[str]) -> None:
    number = labels.index(curve.label)
    look = {"color": COLOURS[number % len(COLOURS)], "label": curve.label}
    if drawing.style == "bar":
        width = 0.8 / len(labels)
        shifted = [x + (number - (len(labels) - 1) / 2) * width for x in curve.x]
        bars = place.bar(shifted, curve.y, width, hatch=("", "//")[number % 2], **look)
        place.bar_label(bars, fmt="%.1f", fontsize=LABEL)
        return
    look |= line_look(number)
    if drawing.style == "step":
        del look["marker"]
        place.stairs(curve.y, [*curve.x, 2 * curve.x[-1] - curve.x[-2]], **look)
        return
    step = -(-len(curve.x) // MARKED)
    every = (number * step // MARKED % step, step)  # not all at the same places
    x, y = (list(map(_stretch, v)) if drawing.probit else v for v in (curve.x, curve.y))
    place.plot(x, y, linewidth=1.3, markersize=4, markevery=every, **look)


def _stretch(ratio: float) -> float:
    """Turn a ratio into normal deviates."""
    return NormalDist().inv_cdf(min(max(ratio, CLIP), 1 - CLIP))
