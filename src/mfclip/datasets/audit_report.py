"""The audit as one HTML file with its plots inside; reads the same on screen and on paper."""

from __future__ import annotations

import html
import io
from typing import Any

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

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444")
"""Okabe and Ito's palette, told apart by the colour-blind; line styles differ as well."""

STYLES = ("-", "--", "-.", ":")
PANELS = 3
"""Charts side by side."""

SHADES = ((SEVERE, "#B2400A", "white"), (NOTABLE, "#F6C9A8", "black"), (0.0, "white", "black"))
"""AUC from which a table cell has this background and this ink."""

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;background:#fff;max-width:1080px;
margin:2em auto;padding:0 1em}
h1{font-size:1.6em}h2{font-size:1.2em;margin-top:2em;break-after:avoid}
table{border-collapse:collapse;font-size:13px}th,td{border:1px solid #bbb;padding:4px 7px;
text-align:right}th:first-child,td:first-child{text-align:left}small{display:block;opacity:.85}
svg{max-width:100%;height:auto}figure{margin:1em 0;break-inside:avoid}.wide{overflow-x:auto}
.verdict{border-left:5px solid #0072B2;padding:.2em 1em;background:#f3f7fb}
.verdict.leak{border-color:#B2400A;background:#fdf3ec}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
"""


def render_report(result: Audit, title: str) -> str:
    """Return the report as HTML that needs no other file and no network.

    Args:
        result: from `audit`.
        title: name of the data set.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    lines = verdict(result)
    kind = "verdict leak" if any(line.startswith("LEAK") for line in lines) else "verdict"
    points = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    name = html.escape(title)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>What could a detector cheat with? {name}</title><style>{STYLE}</style></head><body>
<h1>What could a detector cheat with? {name}</h1>
<p>{result.num_images} of {result.num_listed} pictures; {html.escape(result.protocol)}; manifest
<code>{result.fingerprint}</code>.</p>
<div class="{kind}"><h2>Verdict</h2><ul>{points}</ul></div>
<h2>AUC by trivial features</h2>
<p>0.5 is chance, 1.0 is a complete leak. A detector must beat these figures before its own mean
anything. Lines on the bars are 95% intervals over groups.</p>
<figure>{_svg(_draw_bars(result))}</figure>
<div class="wide">{_table(result)}</div>
<p>Large: a classifier for this generator alone against the same reals, with its 95% interval.
Small "joint": the same pictures, scored by one classifier for all fakes.</p>
<h2>Mean radial power spectrum</h2>
<figure>{_svg(_draw_spectra(result))}</figure>
<p>Left: real. Right: each generator minus real; a line off zero is a trace of resizing,
compression or synthesis that shows without any face.</p>
{_left_out(result)}</body></html>
"""


def _table(result: Audit) -> str:
    cells = {(cell.generator, cell.feature): cell for cell in result.cells}
    head = "".join(f"<th>{feature}</th>" for feature in FEATURES)
    rows = []
    for generator in dict.fromkeys(cell.generator for cell in result.cells):
        row = [cells[generator, feature] for feature in FEATURES]
        label = f"{html.escape(generator)}<small>{row[0].num_fake} fake</small>"
        rows.append(f"<tr><td>{label}</td>{''.join(map(_table_cell, row))}</tr>")
    return f"<table><tr><th>generator</th>{head}</tr>{''.join(rows)}</table>"


def _table_cell(cell: Cell) -> str:
    paper, ink = next((paper, ink) for least, paper, ink in SHADES if cell.auc >= least)
    joint = "" if cell.generator == ALL else f"<small>joint {cell.joint_auc:.2f}</small>"
    interval = f"<small>{cell.low:.2f}&ndash;{cell.high:.2f}</small>"
    style = f"background:{paper};color:{ink}"
    return f'<td style="{style}"><b>{cell.auc:.2f}</b>{interval}{joint}</td>'


def _left_out(result: Audit) -> str:
    parts = []
    if result.left_out:
        names = ", ".join(f"{name} ({count})" for name, count in result.left_out.items())
        parts.append(f"<p>Too few pictures to judge on their own: {html.escape(names)}.</p>")
    if result.unreadable:
        files = "".join(f"<li>{html.escape(text)}</li>" for text in result.unreadable[:100])
        count = len(result.unreadable)
        parts.append(f"<h2>{count} files could not be read and were skipped</h2><ul>{files}</ul>")
    return "".join(parts)


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


def _svg(figure: Any) -> str:
    """Turn a figure into inline SVG with real text, the same bytes for the same figure."""
    matplotlib = require("matplotlib", extra="train")
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mfclip"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
