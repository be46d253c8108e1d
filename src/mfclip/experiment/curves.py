"""What the figures of an experiment show, as numbers; `mfclip.experiment.drawing` draws them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mfclip.errors import ConfigError, InputError
from mfclip.experiment.paper import paper_cells
from mfclip.experiment.results import Entry, Results

Style = Literal["line", "bar", "step", "dots"]


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a panel.

    Attributes:
        label: in the legend; curves of one label share colour, dashes and marker.
        x: places, in the unit of the drawing's x axis.
        y: values there.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: above it.
        curves: in it.
    """

    title: str
    curves: tuple[Curve, ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """One figure.

    Attributes:
        name: of its files, without ending.
        title: what it shows.
        x_label: with unit.
        y_label: with unit.
        panels: pairs of axes, in reading order.
        style: of the curves.
        ticks: words at x = 0, 1, ...; numbers if empty.
        probit: whether both axes are stretched as in a DET plot.
        diagonal: whether a line x = y is drawn for comparison.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    panels: tuple[Panel, ...]
    style: Style = "line"
    ticks: tuple[str, ...] = ()
    probit: bool = False
    diagonal: bool = False


def generator_means(results: Results) -> list[Drawing]:
    """Average the AUC of each test set over all rows and training sets (paper Fig. 6).

    Beside it stands the mean over the rows and training sets that the paper prints; these may be
    more than ours.
    """
    clean = clean_frames(results)
    tests = list(dict.fromkeys(entry.subset for entry in clean))
    places = tuple(float(number) for number in range(len(tests)))
    ours = tuple(_mean([e for e in clean if e.subset == test]) for test in tests)
    curves = [Curve("ours", places, ours)]
    if results.protocol.table is not None:
        curves.append(Curve("paper", places, tuple(_paper_means(results.protocol.table, tests))))
    return [
        Drawing(
            name="fig6",
            title=f"{results.protocol.title}: mean AUC over rows and training sets",
            x_label="test set",
            y_label="AUC, percent",
            panels=(Panel("", tuple(curves)),),
            style="bar",
            ticks=tuple(tests),
        )
    ]


def robustness(results: Results) -> list[Drawing]:
    """Follow the AUC over the levels of each kind of damage, and of their mean (paper Fig. 7).

    Raises:
        ConfigError: the protocol damages nothing.
    """
    damage = results.protocol.perturbations
    if damage is None:
        raise ConfigError(
            f"protocol '{results.protocol.name}' has no perturbations to draw; run fig7_robustness "
            "or faces_robustness"
        )
    frames = [entry for entry in results.entries if entry.unit == results.protocol.units[0]]
    drawings = []
    for train, subset in dict.fromkeys((e.train, e.subset) for e in frames):
        part = [e for e in frames if (e.train, e.subset) == (train, subset)]
        panels = [Panel(kind, _by_level(results, part, (kind,))) for kind in damage.kinds]
        panels.append(Panel("mean", _by_level(results, part, damage.kinds)))
        drawings.append(
            Drawing(
                name=f"fig7-{train}-{subset}",
                title=f"Trained on {train}, tested on {subset} under damage",
                x_label="level (0 = clean)",
                y_label="AUC, percent",
                panels=tuple(panels),
            )
        )
    return drawings


def prompt_levels(results: Results) -> list[Drawing]:
    """Follow the AUC over the number of prompt levels (paper Fig. 8).

    Raises:
        ConfigError: the protocol's rows do not differ in their prompt levels.
    """
    levels = {run["row"]: run["overrides"].get("model.text.max_levels") for run in results.runs}
    if len(set(levels.values()) - {None}) < 2:  # noqa: PLR2004 - a line needs two points
        raise ConfigError(
            f"the finished rows of protocol '{results.protocol.name}' do not differ in their "
            "levels of prompts; run fig8_prompt_levels or faces_prompt_levels"
        )
    clean = [entry for entry in clean_frames(results) if levels[entry.row] is not None]
    panels = []
    for test in dict.fromkeys(entry.subset for entry in clean):
        points: dict[str, list[tuple[float, float]]] = {}
        for entry in (each for each in clean if each.subset == test):
            point = (float(levels[entry.row]), percent(entry))
            points.setdefault(entry.row.partition(",")[0], []).append(point)
        panels.append(Panel(test, tuple(_curve(label, found) for label, found in points.items())))
    return [
        Drawing(
            name="fig8",
            title=results.protocol.title,
            x_label="levels of prompts",
            y_label="AUC, percent",
            panels=tuple(panels),
        )
    ]


def clean_frames(results: Results) -> list[Entry]:
    """Return the entries of undamaged tests, in the protocol's first unit.

    Raises:
        InputError: no cell is finished.
    """
    if not results.entries:
        raise InputError("no cell of this experiment is finished, so there is nothing to draw")
    unit = results.protocol.units[0]
    return [e for e in results.entries if e.perturbation is None and e.unit == unit]


def percent(entry: Entry) -> float:
    """Return the AUC of an entry in percent."""
    return 100 * entry.figures["auc"].mean


def _mean(entries: Sequence[Entry]) -> float:
    return float(np.mean([percent(entry) for entry in entries]))


def _paper_means(table: str, tests: Sequence[str]) -> Iterator[float]:
    cells = [cell for cell in paper_cells(table) if cell.metric == "auc"]
    for test in tests:
        values = [c.value for c in cells if c.test == test and c.value is not None]
        yield float(np.mean(values)) if values else float("nan")


def _by_level(
    results: Results, entries: Sequence[Entry], kinds: Sequence[str]
) -> tuple[Curve, ...]:
    """Average each row over kinds of damage, level by level; the clean test is level 0."""
    curves = []
    for row in dict.fromkeys(entry.row for entry in entries):
        values: dict[float, list[float]] = {}
        for entry in entries:
            if entry.row == row and (entry.perturbation is None or entry.perturbation in kinds):
                values.setdefault(float(entry.level), []).append(percent(entry))
        points = [(level, float(np.mean(found))) for level, found in values.items()]
        curves.append(_curve(results.label(row), points))
    return tuple(curves)


def _curve(label: str, points: Sequence[tuple[float, float]]) -> Curve:
    x, y = zip(*sorted(points), strict=True)
    return Curve(label, tuple(x), tuple(y))
