"""What the finished cells of an experiment say, over their seeds, beside the paper's figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mfclip.evaluate.report import SCHEMA as METRICS_SCHEMA
from mfclip.experiment.paper import PAIR, PaperCell, find_paper_cell
from mfclip.experiment.plan import row_config, skip_reason
from mfclip.experiment.protocols import Protocol, plain_name
from mfclip.experiment.store import Store, read_json

METRICS = {
    "auc": "AUC",
    "accuracy": "ACC at 0.5",
    "accuracy_fitted": "ACC at the threshold fitted on validation",
    "ap": "AP",
    "eer": "EER",
    "polarisation": "Polarisation (distance between the scores of reals and fakes)",
}
"""Figures of a report, with their headings."""

CROSSED = {
    "cross_auc": "Cross-AUC",
    "mean_auc": "mean AUC",
    "mean_polarisation": "mean polarisation",
}
"""Figures over all tests together, with their headings; see `mfclip.evaluate.cross_auc`."""

LOWER_IS_BETTER = frozenset({"eer"})


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of merit over the seeds of a row; ratios in [0, 1], NaN where undefined.

    Attributes:
        mean: over the seeds.
        spread: standard deviation over the seeds (n - 1); NaN for one seed.
        low: lower bound of the 95% interval over the test's groups, mean over the seeds.
        high: upper bound.
    """

    mean: float
    spread: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Entry:
    """A row's figures on one test.

    Attributes:
        row: name of the row.
        train: name of the training set.
        test: heading of the test.
        subset: its set, without the damage.
        perturbation: kind of damage; None if clean.
        level: of the damage; 0 if clean.
        unit: ``frame`` or ``video``.
        num_real: real items of the test.
        num_fake: fake items.
        seeds: of training.
        figures: keys of `METRICS`.
        paper: the paper's cells for ``auc`` and ``accuracy``, where it has them.
    """

    row: str
    train: str
    test: str
    subset: str
    perturbation: str | None
    level: int
    unit: str
    num_real: int
    num_fake: int
    seeds: tuple[int, ...]
    figures: Mapping[str, Figure]
    paper: Mapping[str, PaperCell] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Crossed:
    """A row's figures over all clean tests of a protocol whose tests are data sets of their own.

    Attributes:
        row: name of the row.
        train: name of the training set.
        unit: ``frame`` or ``video``.
        tests: number of tests.
        seeds: of training.
        figures: keys of `CROSSED`; without intervals.
    """

    row: str
    train: str
    unit: str
    tests: int
    seeds: tuple[int, ...]
    figures: Mapping[str, Figure]


@dataclass(frozen=True, slots=True)
class Results:
    """All that a report says.

    Attributes:
        description: what all cells share, of `Store.description`.
        protocol: that the cells belong to.
        runs: results of the finished cells, in the order of the protocol.
        entries: figures, by row, training set, unit and test in the order of the protocol.
        absent: row or cell -> why there are no figures of it.
        crossed: figures over all tests; empty unless the protocol's tests are `domains`.
    """

    description: Mapping[str, Any]
    protocol: Protocol
    runs: Sequence[Mapping[str, Any]]
    entries: Sequence[Entry]
    absent: Mapping[str, str]
    crossed: Sequence[Crossed] = ()

    def label(self, row: str) -> str:
        """Name a row in a table, and say where the detector is our reading of a description."""
        return self.protocol.label(row)

    def find(self, row: str, train: str, unit: str = "frame") -> list[Entry]:
        """Return the tests of a row that was trained on one set."""
        return [e for e in self.entries if (e.row, e.train, e.unit) == (row, train, unit)]


def read_results(store: Store) -> Results:
    """Read the finished cells of a folder.

    Raises:
        InputError: the folder holds no experiment, or a damaged file.
    """
    description = store.description()
    protocol = Protocol.model_validate(description["protocol"])
    places = [[row.name for row in protocol.rows], [each.name for each in protocol.train]]

    def place(run: Mapping[str, Any]) -> tuple[int, int, int]:
        return places[0].index(run["row"]), places[1].index(run["train"]), run["seed"]

    runs = sorted(store.results(), key=place)
    return Results(
        description=description,
        protocol=protocol,
        runs=runs,
        entries=tuple(_entries(store, protocol, runs)),
        absent=_absent(store, protocol, description["settings"], runs),
        crossed=tuple(_crossed(store, protocol, runs)) if protocol.domains else (),
    )


def summarise(values: Sequence[float], lows: Sequence[float], highs: Sequence[float]) -> Figure:
    """Join a figure's values over the seeds.

    Example:
        >>> summarise([0.25, 0.75], [0.0, 0.5], [0.5, 1.0]).mean
        0.5
    """
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    mean, low, high = (float(np.mean(each)) for each in (values, lows, highs))
    return Figure(mean, spread, low, high)


def _by_row(runs: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Join the seeds of each row and training set."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["row"], run["train"]), []).append(run)
    return list(groups.values())


def _crossed(
    store: Store, protocol: Protocol, runs: Sequence[Mapping[str, Any]]
) -> Iterator[Crossed]:
    """Average the tests of each run, then the runs of each row."""
    for seeds in _by_row(runs):
        clean = [test for test in seeds[0]["tests"] if test["perturbation"] is None]
        if len(clean) < 2:  # noqa: PLR2004 - one is no mixture
            continue
        for unit in protocol.units:
            values: dict[str, list[float]] = {name: [] for name in CROSSED}
            for run in seeds:
                figures = [
                    read_metrics(store, run, test, unit)["rows"][0]["figures"]
                    for test in run["tests"]
                    if test["perturbation"] is None
                ]
                aucs = float(np.mean([_number(each["auc"]) for each in figures]))
                apart = float(np.mean([_number(each.get("polarisation")) for each in figures]))
                values["mean_auc"].append(aucs)
                values["mean_polarisation"].append(apart)
                values["cross_auc"].append((aucs + apart) / 2)
            nothing = [math.nan] * len(seeds)
            joined = {name: summarise(each, nothing, nothing) for name, each in values.items()}
            head = seeds[0]
            numbers = tuple(run["seed"] for run in seeds)
            yield Crossed(head["row"], head["train"], unit, len(clean), numbers, joined)


def _entries(
    store: Store, protocol: Protocol, runs: Sequence[Mapping[str, Any]]
) -> Iterator[Entry]:
    for seeds in _by_row(runs):
        for unit in protocol.units:
            for number in range(len(seeds[0]["tests"])):
                yield _entry(store, protocol, seeds, unit, number)


def _entry(
    store: Store, protocol: Protocol, runs: Sequence[Mapping[str, Any]], unit: str, number: int
) -> Entry:
    """Join one test of the seeds of a row; all of them have the same tests in the same order."""
    test = runs[0]["tests"][number]
    overall = [read_metrics(store, run, run["tests"][number], unit)["rows"][0] for run in runs]
    figures = {name: _figure(overall, name) for name in METRICS}
    run = runs[0]
    return Entry(
        row=run["row"],
        train=run["train"],
        test=test["name"],
        subset=test["subset"],
        perturbation=test["perturbation"],
        level=test["level"],
        unit=unit,
        num_real=overall[0]["num_real"],
        num_fake=overall[0]["num_fake"],
        seeds=tuple(run["seed"] for run in runs),
        figures=figures,
        paper=_paper(protocol, run["row"], run["train"], test),
    )


def read_metrics(
    store: Store, run: Mapping[str, Any], test: Mapping[str, Any], unit: str
) -> dict[str, Any]:
    """Read the metrics of one test of a finished cell.

    Args:
        store: of the experiment.
        run: one of `Results.runs`.
        test: one of its tests.
        unit: ``frame`` or ``video``.
    """
    path = store.finished(run["key"]) / test["folder"] / f"metrics-{unit}.json"
    return read_json(path, schema=METRICS_SCHEMA)


def _figure(overall: Sequence[Mapping[str, Any]], name: str) -> Figure:
    """Take a figure out of the rows; None in the JSON means undefined."""
    nothing = {"low": None, "high": None}
    bounds = [row["intervals"].get(name, nothing) for row in overall]
    return summarise(
        [_number(row["figures"].get(name)) for row in overall],
        [_number(bound["low"]) for bound in bounds],
        [_number(bound["high"]) for bound in bounds],
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _paper(
    protocol: Protocol, row: str, train: str, test: Mapping[str, Any]
) -> dict[str, PaperCell]:
    if protocol.table is None or test["perturbation"] is not None:
        return {}
    found = {
        metric: find_paper_cell(protocol.table, row, train, test["subset"], metric)
        for metric in PAIR
    }
    return {metric: cell for metric, cell in found.items() if cell is not None}


def _absent(
    store: Store,
    protocol: Protocol,
    settings: Mapping[str, Any],
    runs: Sequence[Mapping[str, Any]],
) -> dict[str, str]:
    """Say of each row without a finished cell, and of each failed cell, why."""
    absent = {}
    done = {run["row"] for run in runs}
    failures = store.failures()
    for row in protocol.rows:
        reason = skip_reason(row_config(protocol, row.name, settings))
        tried = any(key.startswith(f"{plain_name(row.name)}__") for key in failures)
        if row.name not in done and not tried:
            absent[protocol.label(row.name)] = f"skipped: {reason}" if reason else "not run yet"
    return absent | {key: f"failed: {reason}" for key, reason in failures.items()}
