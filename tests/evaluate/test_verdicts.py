"""Bands and their error rates against counting by hand, and against their promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_score

from mfclip.errors import ConfigError, InputError
from mfclip.evaluate.verdicts import fit_bands, verdict_rates


def _made(n: int, gap: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = (np.arange(n) % 2).astype(np.int64)
    scores = 1 / (1 + np.exp(-rng.normal(gap * (target - 0.5), 1)))
    return scores.astype(np.float32), target, rng.integers(0, n // 3, n).astype(str)


def test_bounds_allow_the_stated_errors_and_no_more() -> None:
    reals, fakes = np.arange(10) / 20, 0.5 - 0.025 + np.arange(10) / 20
    scores, target = np.concatenate([reals, fakes]), np.repeat([0, 1], 10)
    groups = np.arange(20)
    low, high = fit_bands(scores, target, groups, threshold=0.5, max_error=0.0)
    assert low == high  # nothing overlaps: one bound is enough
    assert reals.max() < high <= fakes.min()
    scores = np.concatenate([reals, fakes - 0.2])
    low, high = fit_bands(scores, target, groups, threshold=0.5, max_error=0.1)
    assert [(reals >= high).sum(), (fakes - 0.2 < low).sum()] == [1, 1]
    low, high = fit_bands(scores, target, groups, threshold=0.5, max_error=0.0)
    assert [(reals >= high).sum(), (fakes - 0.2 < low).sum()] == [0, 0]
    assert reals.max() < high <= reals.max() + 0.05
    assert low == pytest.approx((0.25 + 0.275) / 2)  # between a real face and the lowest fake


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(12, 80),
    gap=st.floats(-1, 6),
    seed=st.integers(0, 1000),
    max_error=st.floats(0, 0.49),
)
def test_the_promise_holds_by_faces_and_by_groups(
    n: int, gap: float, seed: int, max_error: float
) -> None:
    scores, target, groups = _made(n, gap, seed)
    low, high = fit_bands(scores, target, groups, threshold=0.5, max_error=max_error)
    assert low <= high
    wrong = np.where(target == 1, scores < low, scores >= high)
    for label in (0, 1):
        mine = target == label
        assert wrong[mine].mean() <= max_error + 1e-9
        by_group = [wrong[mine & (groups == name)].mean() for name in set(groups[mine])]
        assert np.mean(by_group) <= max_error + 1e-9


def test_one_long_video_does_not_decide_alone() -> None:
    single, video = np.linspace(0.0, 0.8, 9), np.full(91, 0.01)
    scores = np.concatenate([single, video, [0.95]])
    target = np.concatenate([np.zeros(100, np.int64), [1]])
    groups = np.array([*(f"person {i}" for i in range(9)), *["video"] * 91, "fake"])
    _, high = fit_bands(scores, target, groups, threshold=0.5, max_error=0.1)
    assert 0.7 < high <= 0.8  # one group of ten; counted by faces alone it were below 0.1
    _, alone = fit_bands(scores, target, np.arange(101), threshold=0.5, max_error=0.1)
    assert alone < high


def test_bounds_that_cross_meet_at_the_threshold_or_as_near_as_the_errors_allow() -> None:
    scores, target, _ = _made(400, 8.0)
    groups = np.arange(400)
    low, high = fit_bands(scores, target, groups, threshold=0.5, max_error=0.1)
    assert (low, high) == (0.5, 0.5)
    low, high = fit_bands(scores, target, groups, threshold=1e-6, max_error=0.1)
    assert low == high > 1e-6
    assert 0 < (scores[target == 0] >= high).mean() <= 0.1


def test_nothing_is_called_fake_where_certain_scores_err() -> None:
    scores, target = np.array([1.0, 1.0, 0.0, 1.0]), np.array([0, 0, 1, 1])
    low, high = fit_bands(scores, target, np.arange(4), threshold=0.5)
    assert high > 1
    assert low == 0


def test_rates_are_counts_by_hand_and_precision_is_that_of_equal_numbers() -> None:
    scores = np.array([0.1, 0.2, 0.5, 0.9, 0.95, 0.6, 0.8, 0.1])
    target = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    rates = verdict_rates(scores, target, np.arange(8), bands=(0.3, 0.7), resamples=0)
    values = {name: rate["value"] for name, rate in rates.items()}
    assert values == {
        "false_alarm": 1 / 4,
        "miss": 1 / 4,
        "uncertain_real": 1 / 4,
        "uncertain_fake": 1 / 4,
        "uncertain": 1 / 4,
        "precision_fake": 2 / 3,
        "precision_real": 2 / 3,
    }
    many, truth, groups = _made(600, 1.0)
    keep = np.flatnonzero((truth == 1) | (np.arange(600) % 6 == 0))
    rates = verdict_rates(many[keep], truth[keep], groups[keep], bands=(0.4, 0.6), resamples=0)
    balanced = np.where(truth[keep] == 1, 1 / 300, 1 / 100)
    expected = precision_score(truth[keep], many[keep] >= 0.6, sample_weight=balanced)
    assert rates["precision_fake"]["value"] == pytest.approx(expected)


def test_intervals_hold_the_rate_and_widen_with_fewer_groups() -> None:
    scores, target, _ = _made(400, 1.0)
    bands = (0.4, 0.6)
    alone = verdict_rates(scores, target, np.arange(400), bands=bands, resamples=400)
    paired = verdict_rates(scores, target, np.arange(400) // 40, bands=bands, resamples=400)
    widths = []
    for rates in (alone, paired):
        rate = rates["false_alarm"]
        assert rate["low"] < rate["value"] < rate["high"]
        widths.append(rate["high"] - rate["low"])
    normal = 2 * 1.96 * np.sqrt(alone["miss"]["value"] * (1 - alone["miss"]["value"]) / 200)
    assert alone["miss"]["high"] - alone["miss"]["low"] == pytest.approx(normal, rel=0.2)
    assert verdict_rates(scores, target, np.arange(400), bands=bands, resamples=400) == alone


def test_shares_without_faces_are_none() -> None:
    rates = verdict_rates(
        np.array([0.1, 0.2]), np.array([0, 0]), ["a", "b"], bands=(0.3, 0.7), resamples=5
    )
    # two groups without a false alarm: Clopper and Pearson's bound, not certainty
    assert rates["false_alarm"] == {"value": 0.0, "low": 0.0, "high": pytest.approx(1 - 0.025**0.5)}
    assert rates["miss"] == {"value": None, "low": None, "high": None}
    assert rates["precision_fake"]["value"] is None


def test_wrong_use_is_refused() -> None:
    with pytest.raises(InputError, match="one of them is missing"):
        fit_bands(np.array([0.2]), np.array([1]), ["a"], threshold=0.5)
    with pytest.raises(ConfigError, match=r"below 0\.5, but got 0\.5"):
        fit_bands(np.array([0.2, 0.3]), np.array([1, 0]), ["a", "b"], threshold=0.5, max_error=0.5)


def test_rates_without_an_error_rest_on_the_groups_of_their_class() -> None:
    scores = np.array([0.1, 0.2, 0.2, 0.9, 0.9, 0.9, 0.9])
    target, groups = np.array([0, 0, 0, 1, 1, 1, 1]), list("abbcdef")
    rates = verdict_rates(scores, target, groups, bands=(0.4, 0.6), resamples=100)
    bound = {count: 0.025 ** (1 / count) for count in (2, 4)}
    assert rates["false_alarm"]["high"] == pytest.approx(1 - bound[2])
    assert rates["miss"]["high"] == pytest.approx(1 - bound[4])
    assert rates["precision_fake"]["low"] == pytest.approx(bound[2])
    assert rates["precision_fake"]["high"] == 1


def test_the_worst_source_of_real_faces_decides() -> None:
    """Two sources, one of which scores higher by 0.3: the bound is that of the higher one alone."""
    rng = np.random.default_rng(0)
    low, high = rng.uniform(0, 0.5, 100), rng.uniform(0.3, 0.8, 40)
    fakes = rng.uniform(0.4, 1, 100)
    scores = np.concatenate([low, high, fakes])
    target = np.repeat([0, 0, 1], [100, 40, 100])
    groups = [str(number) for number in range(240)]
    sources = ["phones"] * 100 + ["studio"] * 40 + ["generator"] * 100
    limits = {"threshold": 0.5, "max_false_alarm": 0.05}
    _, pooled = fit_bands(scores, target, groups, **limits)
    _, worst = fit_bands(scores, target, groups, **limits, sources=sources)
    assert (high >= worst).mean() <= 0.05 < (high >= pooled).mean()
    _, alone = fit_bands(scores[100:], target[100:], groups[100:], **limits)
    assert worst == pytest.approx(alone, abs=0.02)
    few = ["phones"] * 100 + [f"person {n // 4}" for n in range(40)] + ["generator"] * 100
    assert fit_bands(scores, target, groups, **limits, sources=few)[1] == pooled
    with pytest.raises(ConfigError, match="max_false_alarm"):
        fit_bands(scores, target, groups, threshold=0.5, max_false_alarm=0.5)
