"""The look that all figures share: colours, marks, sizes of letters, and files that never vary.

Colours: Okabe and Ito's eight; beyond them, and in grey, dashes and markers tell things apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mfclip.errors import ConfigError, require
from mfclip.runtime.whole_file import partial_file

COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00", "#8C7A00",
)  # fmt: skip
"""Okabe and Ito 2008, the yellow darkened so that it can be seen on white."""

DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

ENDINGS = (".png", ".svg", ".pdf")
"""Kinds of files that a figure is written as."""

TITLE, LABEL, NOTE = 10, 8, 7
"""Sizes of letters in points: of the figure, of a panel or axis, of a remark."""


def line_look(number: int) -> dict[str, str]:
    """Return colour, dashes and marker of the line with this number, from 0.

    The first 25 differ pair by pair in colour or dashes, and in grey by dashes or marker.
    """
    shape = number + number // len(COLOURS)  # a new round of colours comes with other dashes
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": DASHES[shape % len(DASHES)],
        "marker": MARKERS[shape % len(MARKERS)],
    }


def new_figure(width: float, height: float) -> Any:
    """Return an empty matplotlib figure of so many inches; no window and no global state.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = require("matplotlib.figure", extra="train").Figure
    return figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: Path) -> Path:
    """Write a figure; the same figure gives the same bytes.

    Raises:
        ConfigError: the ending is none of `ENDINGS`.
        OSError: the folder is not writable or the disk is full.
    """
    check_ending(path)
    dates = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    with (
        require("matplotlib", extra="train").rc_context({"svg.hashsalt": "mfclip"}),
        partial_file(path) as partial,
    ):
        figure.savefig(partial, dpi=200, metadata=dates.get(path.suffix, {}))
    return path


def check_ending(path: Path) -> None:
    """Refuse a file that no figure can be written as.

    Raises:
        ConfigError: the ending is none of `ENDINGS`.
    """
    if path.suffix not in ENDINGS:
        raise ConfigError(f"expected a file ending in {', '.join(ENDINGS)}, but got '{path.name}'")


def show_picture(place: Any, pixels: Any, *, note: str = "", **look: Any) -> Any:
    """Put a picture on an axis without ticks, a remark beneath it."""
    shown = place.imshow(pixels, interpolation="nearest", **look)
    place.set_xticks([])
    place.set_yticks([])
    place.set_xlabel(note, fontsize=NOTE, labelpad=2)
    for side in place.spines.values():
        side.set_visible(False)
    return shown
