"""Three verdicts from a score: bands fitted on validation, and how often they err."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Shaped
from numpy import ndarray

from mfclip.errors import ConfigError, InputError
from mfclip.evaluate.bootstrap import Weights, draw_weights, share_interval
from mfclip.evaluate.metrics import ScoreArray, TargetArray, check_scores, is_one_class

Groups: TypeAlias = Sequence[str] | Shaped[ndarray, " n"]
Rates: TypeAlias = dict[str, dict[str, float | None]]

MIN_SOURCE = 25
"""Real faces of one source from which on its own share of false alarms counts."""

RATES = (
    "false_alarm",
    "miss",
    "uncertain_real",
    "uncertain_fake",
    "uncertain",
    "precision_fake",
    "precision_real",
)
"""Names of the shares that `verdict_rates` measures."""


def fit_bands(
    scores: ScoreArray,
    target: TargetArray,
    groups: Groups,
    *,
    threshold: float,
    max_error: float = 0.1,
    max_false_alarm: float | None = None,
    sources: Groups | None = None,
) -> tuple[float, float]:
    """Find the scores below which a face may be called real, and from which on fake.

    From the upper bound on at most `max_error` of the real faces lie, below the lower one at most
    `max_error` of the fakes; each is as near to the other as that allows. Faces of one group
    (person, video) are alike, so both shares are counted twice, by faces and with every group
    counting the same, and the larger one must hold: one long video decides nothing alone. Where the
    sources of the real faces are known, the limit must hold in each of them: a mean would hide
    that the portraits of one studio are all called forged.

    Args:
        scores: probability of fake of the validation split; never of a test split.
        target: 1 = fake.
        groups: identity, video or source of each score.
        threshold: where both bounds go when a very good model lets them cross, moved just as far
            as the two error rates ask.
        max_error: between 0 and 0.5, a ratio.
        max_false_alarm: the same for the real faces alone; `max_error` if omitted.
        sources: where each face comes from, e.g. its data set; those with fewer real faces than
            `MIN_SOURCE` are not looked at by themselves.

    Returns:
        Lower and upper bound. The upper one lies just above 1 where even a score of 1 errs too
        often: nothing is called fake then.

    Raises:
        ConfigError: `max_error` or `max_false_alarm` is outside its range.
        InputError: only one class is there, or as in `mfclip.evaluate.metrics.compute_metrics`.

    Example:
        >>> scores = np.array([0.125, 0.25, 0.625, 0.375, 0.75, 0.875])
        >>> target, groups = np.array([0, 0, 0, 1, 1, 1]), list("abcdef")
        >>> fit_bands(scores, target, groups, threshold=0.3, max_error=0.0)
        (0.3125, 0.6875)
    """
    limit = max_error if max_false_alarm is None else max_false_alarm
    for name, value in (("max_error", max_error), ("max_false_alarm", limit)):
        if not 0 <= value < 0.5:  # noqa: PLR2004 - from one half on the bounds say nothing
            raise ConfigError(f"expected {name} of at least 0 and below 0.5, but got {value}")
    check_scores(scores, target)
    if is_one_class(target):
        raise InputError("bands are fitted on real and fake faces; one of them is missing")
    names, values = np.asarray(groups), np.unique(scores.astype(np.float64))
    middles = (values[1:] + values[:-1]) / 2
    cuts = np.concatenate([[0.0], middles, [math.nextafter(1, 2)]])
    is_real = target == 0
    alarms = 1 - _share_below(scores[is_real], names[is_real], cuts)
    if sources is not None:
        origin = np.asarray(sources)[is_real]
        for source, count in zip(*np.unique(origin, return_counts=True), strict=True):
            if count >= MIN_SOURCE:
                own = origin == source
                share = 1 - _share_below(scores[is_real][own], names[is_real][own], cuts)
                alarms = np.maximum(alarms, share)
    fake_from = float(cuts[np.argmax(alarms <= limit + 1e-12)])
    misses = _share_below(scores[~is_real], names[~is_real], cuts, largest=True)
    real_below = float(cuts[np.flatnonzero(misses <= max_error + 1e-12)[-1]])
    if real_below < fake_from:
        return real_below, fake_from
    both = min(max(threshold, fake_from), real_below)
    return both, both


def verdict_rates(
    scores: ScoreArray,
    target: TargetArray,
    groups: Groups,
    *,
    bands: tuple[float, float],
    resamples: int = 1000,
    seed: int = 0,
) -> Rates:
    """Measure how often three verdicts err.

    Args:
        scores: probability of fake.
        target: 1 = fake.
        groups: identity, video or source of each score; the bootstrap draws groups.
        bands: scores below the first are called real, from the second on fake.
        resamples: number of resamples; 0 gives no intervals.
        seed: of the draws.

    Returns:
        For each of `RATES` its ``value``, and ``low`` and ``high``, the 95% interval; None where
        it is not defined. ``false_alarm``: share of real faces called fake. ``miss``: share of
        fakes called real. ``uncertain_real``, ``uncertain_fake``: shares called uncertain, and
        ``uncertain`` their mean. ``precision_fake``: of the faces called fake the share that is
        fake, if real and fake ones are equally many; ``precision_real`` likewise.

    Raises:
        InputError: as in `mfclip.evaluate.metrics.compute_metrics`.

    Example:
        >>> scores, target = np.array([0.1, 0.5, 0.9, 0.9]), np.array([0, 0, 1, 1])
        >>> rates = verdict_rates(scores, target, list("abcd"), bands=(0.3, 0.7), resamples=0)
        >>> rates["uncertain_real"]["value"], rates["precision_fake"]["value"]
        (0.5, 1.0)
    """
    check_scores(scores, target)
    is_fake = target == 1
    real, fake = scores < bands[0], scores >= bands[1]
    ones = np.ones((1, len(scores)))
    values = _measure(ones, is_fake, real, fake)
    chunks = [
        _measure(weights, is_fake, real, fake)
        for weights in draw_weights(np.asarray(groups), resamples, seed)
    ]
    names = np.asarray(groups)
    num_real, num_fake = (len(np.unique(names[target == label])) for label in (0, 1))
    counts = dict.fromkeys(("false_alarm", "uncertain_real"), num_real)
    counts |= dict.fromkeys(("miss", "uncertain_fake"), num_fake)
    out: Rates = {}
    for name in RATES:
        out[name] = {"value": _or_none(float(values[name][0]))}
        if chunks:
            resampled = np.concatenate([chunk[name] for chunk in chunks])
            interval = share_interval(resampled, counts.get(name, min(num_real, num_fake)))
            out[name] |= {"low": _or_none(interval.low), "high": _or_none(interval.high)}
    return out


def _share_below(
    scores: ScoreArray,
    groups: Shaped[ndarray, " n"],
    cuts: Float[ndarray, " c"],
    *,
    largest: bool = False,
) -> Float[ndarray, " c"]:
    """Share of scores below each cut; by faces or by groups, the smaller or the largest one."""
    _, number, size = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(scores)
    ranked = scores[order].astype(np.float64)
    shares = []
    for weight in (np.ones(len(scores)), 1 / size[number]):
        below = np.concatenate([[0.0], np.cumsum(weight[order])]) / weight.sum()
        shares.append(below[np.searchsorted(ranked, cuts, side="left")])
    share: Float[ndarray, " c"] = (np.maximum if largest else np.minimum)(*shares)
    return share


def _measure(
    weights: Weights,
    is_fake: Bool[ndarray, " n"],
    real: Bool[ndarray, " n"],
    fake: Bool[ndarray, " n"],
) -> dict[str, Float[ndarray, " r"]]:
    """Compute `RATES` for many weightings of the same faces; NaN where one is not defined."""

    def share(chosen: Bool[ndarray, " n"], among: Bool[ndarray, " n"]) -> Float[ndarray, " r"]:
        part: Float[ndarray, " r"] = (weights @ (chosen & among)) / (weights @ among)
        return part

    with np.errstate(divide="ignore", invalid="ignore"):
        alarm, miss = share(fake, ~is_fake), share(real, is_fake)
        found, kept = share(fake, is_fake), share(real, ~is_fake)
        unsure = [share(~(real | fake), group) for group in (~is_fake, is_fake)]
        rates = (
            *(alarm, miss, *unsure, (unsure[0] + unsure[1]) / 2),
            *(found / (found + alarm), kept / (kept + miss)),
        )
    return dict(zip(RATES, rates, strict=True))


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
