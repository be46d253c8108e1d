"""Curves that need every score or the training log: ROC, DET, reliability, histograms, training."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from mfclip.errors import InputError, require
from mfclip.evaluate.metrics import calibration_bins
from mfclip.evaluate.scores import Scores, read_scores
from mfclip.experiment.curves import Curve, Drawing, Panel
from mfclip.experiment.protocols import plain_name
from mfclip.experiment.results import Results
from mfclip.experiment.store import Store

GRID = np.linspace(0, 1, 201)
"""False positive rates at which curves are averaged over the seeds."""

BINS = 10
"""Bins of the reliability diagram; the histograms have twice as many."""

Runs = Sequence[Mapping[str, Any]]
Points = tuple[tuple[float, ...], tuple[float, ...]]
"""Places and values of a curve."""


def roc(results: Results, store: Store) -> list[Drawing]:
    """Draw the share of fakes found over the share of false alarms, mean over the seeds."""
    axes = ("real called fake, ratio", "fake called fake, ratio")
    return _draw(results, store, "ROC", _found, axes, diagonal=True)


def det(results: Results, store: Store) -> list[Drawing]:
    """Draw the share of fakes missed over the share of false alarms, on normal deviates."""
    axes = ("real called fake, percent", "fake called real, percent")
    return _draw(results, store, "DET", _missed, axes, probit=True)


def reliability(results: Results, store: Store) -> list[Drawing]:
    """Draw the share of fakes over the score, in bins; the scores of all seeds together."""
    axes = ("mean score of a bin", "share of fakes in it, ratio")
    return _draw(results, store, "Reliability", _reliable, axes, style="dots", diagonal=True)


def histograms(results: Results, store: Store) -> list[Drawing]:
    """Draw how the scores of reals and of fakes are spread; the scores of all seeds together."""
    drawings = []
    for train, runs in _by_train(results):
        panels = [
            Panel(f"{results.label(row)}, {test}", tuple(_spread(_scores(store, found, test))))
            for row, found in _by_row(runs)
            for test in _clean_tests(runs)
        ]
        drawings.append(
            Drawing(
                name=f"histograms-{plain_name(train)}",
                title=f"Scores, trained on {train}",
                x_label="score (probability of fake)",
                y_label="share of the class in a bin, ratio",
                panels=tuple(panels),
                style="step",
            )
        )
    return drawings


def training(results: Results, store: Store) -> list[Drawing]:
    """Draw loss and validation AUC of every run over its steps."""
    shown = {"train": ("loss", "training loss"), "val": ("auc", "validation AUC, ratio")}
    drawings = []
    for train, runs in _by_train(results):
        logs = [
            (results.label(run["row"]), read_log(store.finished(run["key"]) / "training"))
            for run in runs
        ]
        panels = tuple(
            Panel(title, tuple(_log_curve(row, log, kind, name) for row, log in logs))
            for kind, (name, title) in shown.items()
        )
        drawings.append(
            Drawing(
                name=f"training-{plain_name(train)}",
                title=f"Training on {train}; one line a seed",
                x_label="step",
                y_label="",
                panels=panels,
            )
        )
    return drawings


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Read the log of a training run; steps that were done again after a stop count once.

    Raises:
        InputError: the run has none.
    """
    path = folder / "log.jsonl"
    if not path.is_file():
        raise InputError(f"no training log at {path}")
    records: dict[tuple[str, int], dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:  # the line that a kill cut short
            continue
        records[record["kind"], record["step"]] = record
    return sorted(records.values(), key=lambda record: int(record["step"]))


def _log_curve(row: str, log: Sequence[Mapping[str, Any]], kind: str, name: str) -> Curve:
    found = [record for record in log if record["kind"] == kind]
    steps = tuple(float(record["step"]) for record in found)
    return Curve(row, steps, tuple(float(record[name]) for record in found))


def _by_train(results: Results) -> list[tuple[str, Runs]]:
    if not results.runs:
        raise InputError("no cell of this experiment is finished, so there is nothing to draw")
    trains = dict.fromkeys(run["train"] for run in results.runs)
    return [(name, [run for run in results.runs if run["train"] == name]) for name in trains]


def _by_row(runs: Runs) -> list[tuple[str, Runs]]:
    rows = dict.fromkeys(run["row"] for run in runs)
    return [(row, [run for run in runs if run["row"] == row]) for row in rows]


def _clean_tests(runs: Runs) -> list[str]:
    tests = (test for run in runs for test in run["tests"] if test["perturbation"] is None)
    return list(dict.fromkeys(test["name"] for test in tests))


def _scores(store: Store, runs: Runs, test: str) -> list[Scores]:
    """Read the scores of one test, seed by seed."""
    return [
        read_scores(store.finished(run["key"]) / each["folder"] / "scores.csv").scored
        for run in runs
        for each in run["tests"]
        if each["name"] == test
    ]


def _draw(
    results: Results,
    store: Store,
    name: str,
    points: Callable[[Sequence[Scores]], Points],
    axes: tuple[str, str],
    **look: Any,
) -> list[Drawing]:
    """Make one drawing a training set."""
    return [
        Drawing(
            name=f"{name.lower()}-{plain_name(train)}",
            title=f"{name}, trained on {train}",
            x_label=axes[0],
            y_label=axes[1],
            panels=_panels(results, runs, store, points),
            **look,
        )
        for train, runs in _by_train(results)
    ]


def _panels(
    results: Results, runs: Runs, store: Store, points: Callable[[Sequence[Scores]], Points]
) -> tuple[Panel, ...]:
    """Make one panel a clean test, one curve a row."""
    return tuple(
        Panel(
            test,
            tuple(
                Curve(results.label(row), *points(_scores(store, found, test)))
                for row, found in _by_row(runs)
            ),
        )
        for test in _clean_tests(runs)
    )


def _found(parts: Sequence[Scores]) -> Points:
    return tuple(GRID.tolist()), tuple(_mean_tpr(parts).tolist())


def _missed(parts: Sequence[Scores]) -> Points:
    return tuple(GRID.tolist()), tuple((1 - _mean_tpr(parts)).tolist())


def _mean_tpr(parts: Sequence[Scores]) -> Float[ndarray, " grid"]:
    """Largest TPR of a threshold whose FPR is at most that of the grid, mean over the seeds."""
    metrics = require("sklearn.metrics", extra="train")
    rates = []
    for part in parts:
        fpr, tpr, _ = metrics.roc_curve(part.target, part.score, drop_intermediate=False)
        rates.append(tpr[np.searchsorted(fpr, GRID + 1e-12, side="right") - 1])
    mean: Float[ndarray, " grid"] = np.mean(rates, axis=0)
    return mean


def _reliable(parts: Sequence[Scores]) -> Points:
    score = np.concatenate([part.score for part in parts])
    target = np.concatenate([part.target for part in parts])
    bins = calibration_bins(score, BINS)
    filled = np.unique(bins)
    x = tuple(float(score[bins == number].mean()) for number in filled)
    return x, tuple(float(target[bins == number].mean()) for number in filled)


def _spread(parts: Sequence[Scores]) -> Iterator[Curve]:
    """Share of each class in each bin, at the bins' lower edges."""
    score = np.concatenate([part.score for part in parts])
    target = np.concatenate([part.target for part in parts])
    edges = np.linspace(0, 1, 2 * BINS + 1)
    for value, label in ((0, "real"), (1, "fake")):
        counts, _ = np.histogram(score[target == value], edges)
        shares = counts / max(1, counts.sum())
        yield Curve(label, tuple(edges[:-1].tolist()), tuple(shares.tolist()))
