"""The audit as one HTML file with its plots inside; reads the same on screen and on paper."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from mfclip.datasets.audit import (
    ALL,
    FEATURES,
    NOTABLE,
    SEVERE,
    SPECTRUM_BINS,
    Audit,
    Cell,
    verdict,
)
from mfclip.errors import require
from mfclip.runtime.page import render_page

if TYPE_CHECKING:
    from markupsafe import Markup

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444")
"""Okabe and Ito's palette, told apart by the colour-blind; line styles differ as well."""

STYLES = ("-", "--", "-.", ":")
PANELS = 3
"""Charts side by side."""

MOST_FILES = 100
"""Unreadable files that are listed."""


def render_report(result: Audit, title: str) -> str:
    """Return the report as HTML that needs no other file and no network.

    Args:
        result: from `audit`.
        title: name of the data set.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    lines = verdict(result)
    return render_page(
        "audit.html",
        "mfclip.datasets",
        it=result,
        title=title,
        lines=lines,
        is_leak=any(line.startswith("LEAK") for line in lines),
        features=FEATURES,
        rows=_rows(result),
        everything=ALL,
        shade=_shade,
        bars=_svg(_draw_bars(result)),
        spectra=_svg(_draw_spectra(result)),
        most_files=MOST_FILES,
    )


def _rows(result: Audit) -> list[list[Cell]]:
    """The cells of each generator, in the order of the features."""
    cells = {(cell.generator, cell.feature): cell for cell in result.cells}
    generators = dict.fromkeys(cell.generator for cell in result.cells)
    return [[cells[generator, feature] for feature in FEATURES] for generator in generators]


def _shade(auc: float) -> str:
    """Name the class that marks a table cell."""
    return "severe" if auc >= SEVERE else "notable" if auc >= NOTABLE else "plain"


def _figure(width: float, height: float) -> Any:
    module = require("matplotlib.figure", extra="train")
    return module.Figure(figsize=(width, height), layout="constrained")


def _draw_bars(result: Audit) -> Any:
    """Draw one panel a generator, one bar a feature, from 0.5 (chance) on."""
    generators = list(dict.fromkeys(cell.generator for cell in result.cells))
    rows = -(-len(generators) // PANELS)
    figure = _figure(10.5, 0.5 + 2.1 * rows)
    panels = figure.subplots(rows, PANELS, sharex=True, sharey=True, squeeze=False).reshape(-1)
    for panel, generator in zip(panels, generators, strict=False):
        cells = [cell for cell in result.cells if cell.generator == generator]
        _draw_panel(panel, generator, cells)
    for panel in panels[len(generators) :]:
        panel.set_axis_off()
    return figure


def _draw_panel(panel: Any, generator: str, cells: list[Cell]) -> None:
    places = np.arange(len(cells))
    aucs = np.array([cell.auc for cell in cells])
    colours = ["#B2400A" if a >= SEVERE else "#E69F00" if a >= NOTABLE else "#7A9CC0" for a in aucs]
    panel.barh(places, aucs - 0.5, left=0.5, color=colours, height=0.7)
    panel.hlines(places, [c.low for c in cells], [c.high for c in cells], color="#222", lw=1)
    for place, cell in zip(places, cells, strict=True):
        end = max(cell.high, cell.auc, 0.5) + 0.01
        panel.text(end, place, f"{cell.auc:.2f}", va="center", fontsize=8, color="#222")
    panel.set_title(f"{generator} ({cells[0].num_fake} fake)", fontsize=9, loc="left")
    panel.set_yticks(places, [cell.feature for cell in cells], fontsize=8)
    panel.set_xlim(0.35, 1.1)
    panel.set_xticks([0.5, 0.7, 0.9, 1.0])
    panel.tick_params(labelbottom=True, labelsize=8)
    panel.set_ylim(len(cells) - 0.4, -0.6)
    panel.axvline(0.5, color="#222", lw=0.8)
    panel.spines[["top", "right"]].set_visible(False)


def _draw_spectra(result: Audit) -> Any:
    figure = _figure(10.5, 4.0)
    left, right = figure.subplots(1, 2)
    frequency = (np.arange(SPECTRUM_BINS) + 0.5) * 0.5 / SPECTRUM_BINS
    real = result.spectra["real"]
    left.plot(frequency, real, color="#222", lw=1.6)
    left.set_title("real", fontsize=10, loc="left")
    left.set_ylabel("power, log10")
    right.axhline(0, color="#222", lw=1)
    others = [name for name in result.spectra if name != "real"]
    for number, name in enumerate(others):
        colour, style = COLOURS[number % len(COLOURS)], STYLES[number % len(STYLES)]
        change = result.spectra[name] - real
        right.plot(frequency, change, color=colour, linestyle=style, lw=1.4, label=name)
    right.set_title("each generator minus real", fontsize=10, loc="left")
    right.set_ylabel("difference, log10")
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    for axes in (left, right):
        axes.set_xlabel("frequency, cycles a pixel")
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _svg(figure: Any) -> Markup:
    """Turn a figure into inline SVG with real text, the same bytes for the same figure."""
    from markupsafe import Markup  # noqa: PLC0415 - only where a page is written

    matplotlib = require("matplotlib", extra="train")
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mfclip"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return Markup(text[text.index("<svg") :])
