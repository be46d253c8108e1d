"""How far two rows of an experiment lie apart, test by test, with an interval.

Two rows are judged on the same faces and err on the same hard ones, so that their difference is
known better than either figure. Each resample draws groups of faces once for both rows, and, where
a row was trained with several seeds, pairs of runs with the same seed as well. With two or three
seeds that second part says little more than that there is one.
Axes: r resamples, n faces, s seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from mfclip.errors import ConfigError, InputError
from mfclip.evaluate.bootstrap import WeightedFigures, draw_weights, percentile_interval
from mfclip.evaluate.scores import Scores, read_scores
from mfclip.experiment.store import Store

FIGURES = ("auc", "ap", "eer")
"""Figures that need no threshold."""

RESAMPLES = 1000

Runs = Mapping[int, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Difference:
    """A row's figure minus another row's, on one test; a ratio.

    Attributes:
        train: name of the training set.
        test: heading of the test, or of several.
        perturbation: kind of damage; None if clean, or several.
        seeds: that both rows were trained with.
        value: mean over the seeds.
        low: lower bound of the 95% interval.
        high: upper bound.
        resampled: the difference in each resample.
    """

    train: str
    test: str
    perturbation: str | None
    seeds: tuple[int, ...]
    value: float
    low: float
    high: float
    resampled: Float[ndarray, " r"] = field(repr=False, compare=False)


def compare_rows(
    store: Store, row: str, base: str, *, figure: str = "auc", resamples: int = RESAMPLES
) -> list[Difference]:
    """Subtract one row from another wherever both were trained alike and tested on the same.

    Args:
        store: of the experiment.
        row: name of a row.
        base: name of the row that is subtracted.
        figure: one of `FIGURES`.
        resamples: of groups of faces and of seeds; the same draws for all tests of one size.

    Returns:
        A difference for each training set and test, in the order of the protocol.

    Raises:
        ConfigError: an unknown row or figure.
        InputError: the rows have no run and test in common, or were not judged on the same faces.
    """
    if figure not in FIGURES:
        raise ConfigError(f"expected a figure among {', '.join(FIGURES)}, but got {figure!r}")
    protocol, results = store.protocol(), store.results()
    known = [each.name for each in protocol.rows]
    for name in (row, base):
        if name not in known:
            raise ConfigError(f"expected a row among {', '.join(known)}, but got {name!r}")
    found = []
    for train in [each.name for each in protocol.train]:
        own, other = (
            {run["seed"]: run for run in results if (run["row"], run["train"]) == (name, train)}
            for name in (row, base)
        )
        seeds = sorted(own.keys() & other.keys())
        folders = [_folders(runs[seed]) for runs in (own, other) for seed in seeds]
        tests = own[seeds[0]]["tests"] if seeds else ()
        for test in (test for test in tests if all(test["name"] in each for each in folders)):
            pairs = [(_scores(store, own, s, test), _scores(store, other, s, test)) for s in seeds]
            value, resampled = _subtract(pairs, figure, resamples)
            interval = percentile_interval(resampled)
            found.append(
                Difference(
                    train=train,
                    test=test["name"],
                    perturbation=test["perturbation"],
                    seeds=tuple(seeds),
                    value=value,
                    low=interval.low,
                    high=interval.high,
                    resampled=resampled,
                )
            )
    if not found:
        raise InputError(
            f"{row!r} and {base!r} have no finished runs with the same seed and test in common"
        )
    return found


def _scores(store: Store, runs: Runs, seed: int, test: Mapping[str, Any]) -> Scores:
    """Read the scores that the run of a seed gave to one test."""
    run = runs[seed]
    return read_scores(store.finished(run["key"]) / _folders(run)[test["name"]] / "scores.csv")


def _folders(run: Mapping[str, Any]) -> dict[str, str]:
    """Where a run keeps each of its tests."""
    return {test["name"]: test["folder"] for test in run["tests"]}


def _subtract(
    pairs: Sequence[tuple[Scores, Scores]], figure: str, resamples: int
) -> tuple[float, Float[ndarray, " r"]]:
    """Mean difference over the seeds, and that of each resample of faces and seeds."""
    first = pairs[0][0]
    for scores in [each for pair in pairs for each in pair]:
        if [each.path for each in scores] != [each.path for each in first]:
            raise InputError("the two rows were not judged on the same faces, so cannot be paired")
    judged = np.all([np.isfinite(each.score) for pair in pairs for each in pair], axis=0)
    target, groups = first.target[judged], np.array(first.groups)[judged]
    ways = [
        [WeightedFigures(each.score[judged], target, (0.5, 0.5), 1) for each in pair]
        for pair in pairs
    ]
    whole = np.ones((1, len(target)))
    value = np.mean([own(whole)[figure] - other(whole)[figure] for own, other in ways])
    apart = [
        np.stack([own(weights)[figure] - other(weights)[figure] for own, other in ways], axis=1)
        for weights in draw_weights(groups, resamples, 0)
    ]
    counts = np.random.default_rng(1).multinomial(
        len(pairs), np.full(len(pairs), 1 / len(pairs)), resamples
    )
    return float(value), (np.concatenate(apart) * counts).sum(1) / len(pairs)
