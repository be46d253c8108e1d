"""95% intervals of the figures of merit, by resampling whole groups (protocols c.8).

Frames of one video, or pictures of one person, are not independent, so groups are drawn with
replacement and not rows. A resample is then a whole number of copies of each row: a weight. With
the rows sorted by score once, the curves of many resamples are cumulative sums of their weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped
from numpy import ndarray

from mfclip.errors import InputError
from mfclip.evaluate.metrics import (
    FIGURES,
    ScoreArray,
    TargetArray,
    calibration_bins,
    check_scores,
    why_undefined,
)

INTERVAL_FIGURES = tuple(name for name in FIGURES if name != "eer_point")
"""Figures that get an interval: all but DeepfakeBench's EER, which exists for comparison."""

POOLED_FIGURES = ("accuracy", "accuracy_fitted", "brier", "ece")
"""Figures that are means over all rows; the others hold real faces against fakes."""

ROUNDING = 1e-9
"""Differences below this are those of floating point."""

FEW_GROUPS = 30
"""Below so many groups percentile intervals are too narrow, which tables then say."""

CHUNK = 2_000_000
"""Weights held at a time; bounds the memory to some 100 MB."""

Weights = Float[ndarray, "r n"]
Figure = Float[ndarray, " r"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95% percentile interval.

    Attributes:
        low: 2.5th percentile over the resamples; NaN if the figure was never defined.
        high: 97.5th percentile.
        defined: share of the resamples in which the figure was defined, a ratio. Below 1 some
            resamples held one class only, and the interval is conditional on both being there.
    """

    low: float
    high: float
    defined: float


def bootstrap_intervals(
    scores: ScoreArray,
    target: TargetArray,
    groups: Sequence[str] | Shaped[ndarray, " n"],
    *,
    resamples: int = 1000,
    seed: int = 0,
    threshold: float = 0.5,
    fitted_threshold: float | None = None,
    ece_bins: int = 15,
) -> dict[str, Interval]:
    """Estimate how far the figures would move with another draw of groups.

    ECE grows when rows repeat, so its interval lies high on small sets and may miss the figure.

    Args:
        scores: probability of fake.
        target: 1 = fake.
        groups: identity, video or source of each row; equal values are drawn together.
        resamples: number of resamples; 0 gives no intervals.
        seed: of the draws; the same seed gives the same intervals on any machine.
        threshold: as in `compute_metrics`.
        fitted_threshold: as in `compute_metrics`; held fixed in all resamples.
        ece_bins: as in `compute_metrics`.

    Returns:
        One interval for each of `INTERVAL_FIGURES` that these samples can give.

    Raises:
        InputError: as in `compute_metrics`, or groups of another length.
    """
    check_scores(scores, target)
    if len(groups) != len(scores):
        message = f"expected one group for each score, but got {len(groups)} and {len(scores)}"
        raise InputError(message)
    fitted = math.nan if fitted_threshold is None else fitted_threshold
    undefined = why_undefined(target, fitted)
    if resamples == 0 or not len(scores):
        return {}
    resampler = WeightedFigures(scores, target, (threshold, fitted), ece_bins)
    names = np.asarray(groups)
    chunks = [resampler(w) for w in draw_weights(names, resamples, seed)]
    # what holds classes against each other rests on the class of fewer groups
    fewest = min(len(np.unique(names[target == label])) for label in (0, 1))
    counts = dict.fromkeys(POOLED_FIGURES, len(np.unique(names)))
    return {
        name: share_interval(
            np.concatenate([chunk[name] for chunk in chunks]), counts.get(name, fewest)
        )
        for name in INTERVAL_FIGURES
        if name not in undefined
    }


class WeightedFigures:
    """The figures of many weightings of the same rows at once.

    Args:
        scores: probability of fake.
        target: 1 = fake.
        thresholds: the fixed and the fitted threshold; NaN gives wrong figures, to be ignored.
        ece_bins: number of equally wide bins of the calibration error.
    """

    def __init__(
        self,
        scores: ScoreArray,
        target: TargetArray,
        thresholds: tuple[float, float],
        ece_bins: int,
    ) -> None:
        scores = scores.astype(np.float64)
        self.order = np.argsort(-scores, kind="stable")
        ranked = scores[self.order]
        self.ends = np.flatnonzero(np.append(ranked[:-1] != ranked[1:], True))
        self.gaps = -np.diff(ranked[self.ends])
        self.is_fake: Bool[ndarray, " n"] = target == 1
        self.right = [(scores >= threshold) == self.is_fake for threshold in thresholds]
        self.square = (scores - target) ** 2
        self.excess = np.zeros((len(scores), ece_bins))
        self.excess[np.arange(len(scores)), calibration_bins(scores, ece_bins)] = scores - target

    def __call__(self, weights: Weights) -> dict[str, Figure]:
        """Compute all `INTERVAL_FIGURES`; one value for each row of `weights`.

        Args:
            weights: how often each sample counts; rows are resamples, columns samples.
        """
        with np.errstate(divide="ignore", invalid="ignore"):  # one class only: NaN, as meant
            figures = self._curves(weights)
            total = weights.sum(1)
            fakes = weights @ self.is_fake.astype(np.float64)
            for suffix, right in zip(("", "_fitted"), self.right, strict=True):
                hits = weights @ (right & self.is_fake).astype(np.float64)
                passes = weights @ (right & ~self.is_fake).astype(np.float64)
                figures["accuracy" + suffix] = (hits + passes) / total
                rates = hits / fakes + passes / (total - fakes)
                figures["balanced_accuracy" + suffix] = rates / 2
            figures["brier"] = weights @ self.square / total
            figures["ece"] = np.abs(weights @ self.excess).sum(1) / total
        return figures

    def _curves(self, weights: Weights) -> dict[str, Figure]:
        ranked = weights[:, self.order]
        is_fake = self.is_fake[self.order]
        hits = self._cumulate(ranked * is_fake)
        alarms = self._cumulate(ranked * ~is_fake)
        tpr, fpr = hits / hits[:, -1:], alarms / alarms[:, -1:]
        both = (hits[:, -1] > 0) & (alarms[:, -1] > 0)
        precision = hits / np.maximum(hits + alarms, 1)
        figures = {
            "auc": (np.diff(fpr) * (tpr[:, 1:] + tpr[:, :-1])).sum(1) / 2,
            "ap": (np.diff(tpr) * precision[:, 1:]).sum(1),
            "eer": _crossing(fpr, tpr),
            "polarisation": np.abs(tpr - fpr)[:, 1:-1] @ self.gaps,
        }
        for name, max_fpr in (("tpr_at_fpr_1", 0.01), ("tpr_at_fpr_5", 0.05)):
            figures[name] = np.where(fpr <= max_fpr, tpr, 0).max(1)
        return {name: np.where(both, values, np.nan) for name, values in figures.items()}

    def _cumulate(self, ranked: Weights) -> Float[ndarray, "r points"]:
        sums = ranked.cumsum(1)[:, self.ends]
        return np.concatenate([np.zeros((len(sums), 1)), sums], axis=1)


def _crossing(fpr: Float[ndarray, "r points"], tpr: Float[ndarray, "r points"]) -> Figure:
    gap = 1 - tpr - fpr
    after = np.maximum(np.argmax(gap <= 0, axis=1), 1)
    rows = np.arange(len(gap))
    share = gap[rows, after - 1] / (gap[rows, after - 1] - gap[rows, after])
    start, end = fpr[rows, after - 1], fpr[rows, after]
    crossing: Figure = start + share * (end - start)
    return crossing


def draw_weights(groups: Shaped[ndarray, " n"], resamples: int, seed: int) -> Iterator[Weights]:
    """Iterate over chunks of resamples: how often each row counts. Groups are drawn."""
    names, number = np.unique(groups, return_inverse=True)
    random = np.random.default_rng(seed)
    share = np.full(len(names), 1 / len(names))
    step = max(1, CHUNK // len(groups))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        yield random.multinomial(len(names), share, size)[:, number].astype(np.float64)


def percentile_interval(values: Figure) -> Interval:
    """Return the 95% interval of a figure over its resamples, passing over undefined ones."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Interval(math.nan, math.nan, 0.0)
    low, high = np.percentile(finite, [2.5, 97.5])
    return Interval(float(low), float(high), finite.size / values.size)


def share_interval(values: Figure, num_groups: int) -> Interval:
    """Return the 95% interval of a figure between 0 and 1, also where all resamples are alike.

    A figure of exactly 0 or 1 is so in every resample, which says nothing about other groups. Its
    interval is then that of Clopper and Pearson for none (or all) of `num_groups`: the true share
    with which that happens in 2.5% of all draws. For AUC this bound is that of Obuchowski and
    Lieber (2002). Where all resamples are alike in between, the groups are too few to tell.

    Args:
        values: of the resamples; NaN where the figure was not defined.
        num_groups: independent groups that the figure rests on.

    Example:
        >>> round(share_interval(np.ones(1000), 7).low, 4)
        0.5904
    """
    interval = percentile_interval(values)
    if not interval.high - interval.low < ROUNDING:  # also where both are NaN
        return interval
    reach = 0.025 ** (1 / num_groups) if num_groups else 0.0
    if interval.low > 1 - ROUNDING:
        return Interval(reach, 1.0, interval.defined)
    if interval.high < ROUNDING:
        return Interval(0.0, 1 - reach, interval.defined)
    return Interval(math.nan, math.nan, interval.defined)
