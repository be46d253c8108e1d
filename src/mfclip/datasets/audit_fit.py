"""How well a classifier on one trivial feature separates real from fake, with its interval.

Each feature is judged by the mean of two classifiers: logistic regression, which adds up weak
traces over hundreds of values, and gradient boosting, which finds thresholds and windows. Either
alone misses leaks that the other finds (figures in docs/data/checks.md).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from mfclip.errors import require

RESAMPLES = 500
"""Bootstrap draws of groups for each 95% interval."""

Folds = Sequence[tuple[Int[ndarray, " _"], Int[ndarray, " _"]]]
"""Rows to fit on and rows to measure on, for each division."""


def auc_interval(
    scores: Float[ndarray, " n"],
    target: Int[ndarray, " n"],
    group: Int[ndarray, " n"],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return the AUC and its 95% interval, drawing whole groups with replacement.

    Ties count half. Pictures of one group (frames of a video, pictures of a person) are not
    independent, so drawing single pictures would make the interval too narrow.
    """
    groups, member = np.unique(group, return_inverse=True)
    rng = np.random.default_rng(seed)
    chance = np.full(len(groups), 1 / len(groups))
    draws = rng.multinomial(len(groups), chance, size=resamples).astype(np.float64)
    estimate = weighted_auc(scores, target, np.ones((1, len(scores))))[0]
    aucs = [weighted_auc(scores, target, part[:, member]) for part in np.array_split(draws, 10)]
    low, high = np.nanpercentile(np.concatenate(aucs), [2.5, 97.5])
    return float(estimate), float(low), float(high)


def weighted_auc(
    scores: Float[ndarray, " n"], target: Int[ndarray, " n"], weights: Float[ndarray, "draws n"]
) -> Float[ndarray, " draws"]:
    """Mann-Whitney statistic with a weight for each picture; NaN where a class has no weight."""
    order = np.argsort(scores, kind="stable")
    ordered, fake, weight = scores[order], target[order] == 1, weights[:, order]
    starts = np.flatnonzero(np.diff(ordered, prepend=np.nan) != 0)
    fakes = np.add.reduceat(weight * fake, starts, axis=1, dtype=np.float64)
    reals = np.add.reduceat(weight * ~fake, starts, axis=1, dtype=np.float64)
    below = np.cumsum(reals, axis=1) - reals / 2
    pairs = fakes.sum(axis=1) * reals.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray((fakes * below).sum(axis=1) / np.where(pairs > 0, pairs, np.nan))


def score_unseen(
    values: Float[ndarray, "n d"],
    target: Int[ndarray, " n"],
    folds: Folds,
    part: Bool[ndarray, " n"],
    seed: int,
) -> Float[ndarray, " n"]:
    """Score every measured row of `part` by classifiers that did not see its fold; others NaN.

    Scores become ranks within their fold, since the scales of two folds' classifiers differ.
    """
    scores = np.full(len(target), np.nan)
    varied = values[:, np.ptp(values, axis=0) > 0]
    limits = require("threadpoolctl", extra="train").threadpool_limits
    for fit_all, measure_all in folds:
        fit, measure = fit_all[part[fit_all]], measure_all[part[measure_all]]
        if varied.shape[1] == 0:
            scores[measure] = 0.5
            continue
        classifier = _classifier(seed)
        # fits are small: on a busy machine several threads wait for each other, 20 times slower
        with limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a fit cut short is still a fair lower bound
            classifier.fit(varied[fit], target[fit])
            scores[measure] = _ranks(classifier.predict_proba(varied[measure])[:, 1])
    return scores


def _ranks(scores: Float[ndarray, " n"]) -> Float[ndarray, " n"]:
    """Mean rank of each score, in (0, 1); equal scores share one."""
    _, place, counts = np.unique(scores.round(12), return_inverse=True, return_counts=True)
    above = np.cumsum(counts)
    return np.asarray(((above - counts / 2) / len(scores))[place])


def _classifier(seed: int) -> Any:
    """Logistic regression and boosted trees; their probabilities are averaged."""
    ensemble = require("sklearn.ensemble", extra="train")
    linear = require("sklearn.linear_model", extra="train")
    pipeline = require("sklearn.pipeline", extra="train")
    scaling = require("sklearn.preprocessing", extra="train")
    weigh = linear.LogisticRegression(C=0.1, max_iter=100, class_weight="balanced")
    trees = ensemble.HistGradientBoostingClassifier(
        max_iter=40,
        learning_rate=0.15,
        max_leaf_nodes=8,
        max_bins=63,
        class_weight="balanced",
        random_state=seed,
    )
    scaled = pipeline.make_pipeline(scaling.StandardScaler(), weigh)
    return ensemble.VotingClassifier([("weigh", scaled), ("trees", trees)], voting="soft")
