import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from mfclip.errors import InputError
from mfclip.evaluate import bootstrap
from mfclip.evaluate.bootstrap import INTERVAL_FIGURES, WeightedFigures, bootstrap_intervals
from mfclip.evaluate.metrics import compute_metrics


def draw(seed: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Overlapping classes with ties, in groups of some four rows."""
    random = np.random.default_rng(seed)
    target = random.integers(0, 2, count)
    scores = np.clip(random.normal(0.4 + 0.2 * target, 0.25), 0, 1).round(2)
    groups = random.integers(0, max(1, count // 4), count).astype(str)
    return scores, target, groups


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.integers(2, 80))
def test_weights_equal_explicit_resampling(seed: int, count: int) -> None:
    scores, target, _ = draw(seed, count)
    weights = np.random.default_rng(seed).integers(0, 4, (3, count))
    weights[:, 0] += 1  # never empty
    found = WeightedFigures(scores, target, (0.5, 0.37), 15)(weights.astype(np.float64))
    for number, copies in enumerate(weights):
        rows = np.repeat(np.arange(count), copies)
        expected = compute_metrics(scores[rows], target[rows], fitted_threshold=0.37)
        for name in INTERVAL_FIGURES:
            value = getattr(expected, name)
            assert found[name][number] == pytest.approx(value, abs=1e-9, nan_ok=True), name


def test_intervals_equal_those_of_explicit_resampling() -> None:
    scores, target, groups = draw(1, 60)
    found = bootstrap_intervals(scores, target, groups, resamples=60, seed=3, fitted_threshold=0.45)
    names, number = np.unique(groups, return_inverse=True)
    random = np.random.default_rng(3)
    values = []
    for counts in random.multinomial(len(names), np.full(len(names), 1 / len(names)), 60):
        rows = np.concatenate(
            [np.repeat(np.flatnonzero(number == g), counts[g]) for g in range(len(names))]
        )
        values.append(compute_metrics(scores[rows], target[rows], fitted_threshold=0.45))
    for name in INTERVAL_FIGURES:
        low, high = np.percentile([getattr(each, name) for each in values], [2.5, 97.5])
        assert (found[name].low, found[name].high) == pytest.approx((low, high)), name
        assert found[name].defined == 1


def test_groups_are_drawn_whole() -> None:
    # One real and one fake group: each resample holds whole groups, so the accuracy of a
    # detector right on reals only is 0, 1/2 or 1, however many rows there are.
    target = np.repeat([0, 1], 50)
    scores = np.full(100, 0.2)
    found = bootstrap_intervals(scores, target, target.astype(str), resamples=400, seed=0)
    assert (found["accuracy"].low, found["accuracy"].high) == (0, 1)
    rows = bootstrap_intervals(scores, target, np.arange(100), resamples=400, seed=0)
    assert 0.35 < rows["accuracy"].low < 0.45
    assert 0.55 < rows["accuracy"].high < 0.65


def test_interval_covers_the_binomial_one() -> None:
    # 400 independent rows, 80% right: normal approximation 0.8 +- 1.96 * 0.02.
    scores = np.where(np.arange(400) % 5 == 0, 0.9, 0.1)
    found = bootstrap_intervals(
        scores, np.zeros(400, np.int64), np.arange(400), resamples=4000, seed=0
    )["accuracy"]
    assert (found.low, found.high) == pytest.approx((0.7608, 0.8392), abs=0.005)


def test_small_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, target, groups = draw(2, 50)
    whole = bootstrap_intervals(scores, target, groups, resamples=100, seed=5)
    monkeypatch.setattr(bootstrap, "CHUNK", 7 * 50)
    chunked = bootstrap_intervals(scores, target, groups, resamples=100, seed=5)
    assert {n: (i.low, i.high) for n, i in whole.items()} == {
        n: pytest.approx((i.low, i.high)) for n, i in chunked.items()
    }


def test_seed_decides() -> None:
    scores, target, groups = draw(2, 50)
    first, again, other = (
        bootstrap_intervals(scores, target, groups, resamples=100, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first["auc"] != other["auc"]


def test_resamples_of_one_class_are_counted() -> None:
    # Two groups, one a class: half of the resamples hold one class only.
    found = bootstrap_intervals(
        np.array([0.2, 0.8]), np.array([0, 1]), ["a", "b"], resamples=1000, seed=0
    )
    assert found["auc"].defined == pytest.approx(0.5, abs=0.05)
    assert (found["auc"].low, found["auc"].high) == (pytest.approx(0.025), 1)  # two groups at all
    assert found["brier"].defined == 1


def test_a_figure_without_an_error_is_not_known_without_error() -> None:
    """Seven faces that are all judged right: once 1.000 [1.000, 1.000]."""
    scores, target = np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9, 0.95]), np.array([0, 0, 0, 1, 1, 1, 1])
    found = bootstrap_intervals(scores, target, list("abcdefg"), resamples=200, seed=0)
    for name, count in (("accuracy", 7), ("auc", 3), ("balanced_accuracy", 3)):
        exact = binomtest(count, count).proportion_ci(0.95, method="exact")
        assert (found[name].low, found[name].high) == pytest.approx((exact.low, exact.high)), name
    exact = binomtest(0, 3).proportion_ci(0.95, method="exact")
    assert (found["eer"].low, found["eer"].high) == pytest.approx((exact.low, exact.high))
    assert 0 < found["brier"].low < found["brier"].high < 0.1  # nothing is the matter with it


def test_one_group_tells_nothing_of_others() -> None:
    scores, target = np.array([0.1, 0.6, 0.7, 0.8]), np.array([0, 0, 1, 1])
    found = bootstrap_intervals(scores, target, ["a"] * 4, resamples=20, seed=0)
    assert math.isnan(found["accuracy"].low)
    assert math.isnan(found["accuracy"].high)
    assert found["accuracy"].defined == 1


def test_one_class_gets_intervals_of_what_is_defined() -> None:
    scores, target = np.array([0.2, 0.8, 0.9]), np.ones(3, np.int64)
    found = bootstrap_intervals(scores, target, ["a", "b", "c"], resamples=50, seed=0)
    assert set(found) == {"accuracy", "ece", "brier"}
    assert not any(math.isnan(each.low) for each in found.values())


def test_nothing_to_draw() -> None:
    assert bootstrap_intervals(np.empty(0), np.empty(0, np.int64), [], resamples=10) == {}
    scores, target, groups = draw(0, 10)
    assert bootstrap_intervals(scores, target, groups, resamples=0) == {}


def test_groups_of_another_length_are_refused() -> None:
    with pytest.raises(InputError, match="one group for each score, but got 1 and 2"):
        bootstrap_intervals(np.array([0.1, 0.2]), np.array([0, 1]), ["a"], resamples=10)


@pytest.mark.slow
def test_a_thousand_resamples_take_seconds() -> None:
    scores, target, groups = draw(0, 1500)
    start = time.process_time()
    bootstrap_intervals(scores, target, groups, resamples=1000, fitted_threshold=0.4)
    assert time.process_time() - start < 10
