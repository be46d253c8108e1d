import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from mfclip.errors import InputError
from mfclip.evaluate import metrics
from mfclip.evaluate.metrics import FIGURES, compute_metrics, fit_threshold

FOUR_SCORES = np.array([0.1, 0.4, 0.35, 0.8])
FOUR_TARGET = np.array([0, 0, 1, 1])


def draw(seed: int, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes with many ties."""
    random = np.random.default_rng(seed)
    target = random.integers(0, 2, count)
    scores = np.clip(random.normal(0.4 + 0.2 * target, 0.25), 0, 1).round(2)
    return scores, target


# Steps of 1/64, so that rising maps keep ties and order exactly.
samples = st.lists(
    st.tuples(st.integers(0, 64), st.integers(0, 1)), min_size=2, max_size=60
).filter(lambda rows: len({target for _, target in rows}) == 2)


def arrays(rows: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([score / 64 for score, _ in rows]), np.array([target for _, target in rows])


def test_four_points_by_hand() -> None:
    # Pairs real < fake: (.1,.35) (.1,.8) (.4,.8) right, (.4,.35) wrong: 3 of 4.
    # Falling: F R F R. Precision at the fakes 1/1 and 2/3: AP = (1 + 2/3) / 2.
    # ROC (0,0) (0,.5) (.5,.5) (.5,1) (1,1): FPR = FNR at (.5,.5).
    # No false alarm allowed: TPR .5. At 0.5: only .35 is judged wrong.
    found = compute_metrics(FOUR_SCORES, FOUR_TARGET, fitted_threshold=0.3)
    assert found.auc == 0.75
    assert found.ap == pytest.approx(5 / 6)
    assert found.eer == 0.5
    assert found.tpr_at_fpr_1 == found.tpr_at_fpr_5 == 0.5
    assert found.accuracy == found.balanced_accuracy == 0.75
    assert found.accuracy_fitted == 0.75
    assert found.brier == pytest.approx((0.01 + 0.16 + 0.4225 + 0.04) / 4)
    assert found.ece == pytest.approx((0.1 + 0.4 + 0.65 + 0.2) / 4)
    # reals .1, .4 and fakes .35, .8: the sorted scores differ by .25 and .4
    assert found.polarisation == pytest.approx((0.25 + 0.4) / 2)
    assert (found.num_real, found.num_fake, found.undefined) == (2, 2, {})


@given(samples)
def test_polarisation_is_the_wasserstein_distance_of_the_classes(
    rows: list[tuple[int, int]],
) -> None:
    scores, target = arrays(rows)
    expected = wasserstein_distance(scores[target == 0], scores[target == 1])
    assert metrics.polarisation(scores, target) == pytest.approx(expected, abs=1e-12)


def test_interpolated_eer_by_hand() -> None:
    # Falling: F R F F R R R. ROC (0,1/3) (1/4,1/3) (1/4,1): crosses FPR = 1 - TPR at FPR 1/4.
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
    target = np.array([1, 0, 1, 1, 0, 0, 0])
    assert metrics.equal_error_rate(scores, target) == pytest.approx(0.25)
    # All tied: the diagonal, crossed half way, though no threshold gives that point.
    tied = np.full(4, 0.5)
    assert metrics.equal_error_rate(tied, FOUR_TARGET) == 0.5
    assert metrics.equal_error_point(tied, FOUR_TARGET) in {0.0, 1.0}


@pytest.mark.parametrize("seed", range(5))
def test_equals_scikit_learn(seed: int) -> None:
    scores, target = draw(seed)
    found = compute_metrics(scores, target, threshold=0.45, fitted_threshold=0.6)
    assert found.auc == pytest.approx(sk.roc_auc_score(target, scores))
    assert found.ap == pytest.approx(sk.average_precision_score(target, scores))
    assert found.brier == pytest.approx(sk.brier_score_loss(target, scores))
    assert found.accuracy == pytest.approx(sk.accuracy_score(target, scores >= 0.45))
    judged = scores >= 0.6
    assert found.balanced_accuracy_fitted == sk.balanced_accuracy_score(target, judged)
    fpr, tpr, _ = sk.roc_curve(target, scores)
    assert found.eer_point == fpr[np.nanargmin(np.absolute(1 - tpr - fpr))]  # DeepfakeBench's line


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("max_fpr", [0.01, 0.05])
def test_tpr_at_fpr_is_the_best_of_all_thresholds(seed: int, max_fpr: float) -> None:
    scores, target = draw(seed)
    thresholds = [*np.unique(scores), 2.0]
    rates = [
        ((scores >= t)[target == 0].mean(), (scores >= t)[target == 1].mean()) for t in thresholds
    ]
    best = max(tpr for fpr, tpr in rates if fpr <= max_fpr)
    assert metrics.tpr_at_fpr(scores, target, max_fpr) == pytest.approx(best)


@pytest.mark.parametrize("bins", [2, 10, 15])
def test_calibration_error_equals_the_curve_of_scikit_learn(bins: int) -> None:
    random = np.random.default_rng(bins)
    scores, target = random.random(500), random.integers(0, 2, 500)
    share, mean = calibration_curve(target, scores, n_bins=bins)
    counts, _ = np.histogram(scores, bins, (0, 1))
    expected = (counts[counts > 0] * np.abs(share - mean)).sum() / 500
    assert metrics.calibration_error(scores, target, bins) == pytest.approx(expected)


def test_a_score_of_one_is_in_the_last_bin() -> None:
    assert metrics.calibration_bins(np.array([0.0, 0.5, 0.999, 1.0]), 2).tolist() == [0, 1, 1, 1]


@settings(deadline=None)
@given(samples)
def test_auc_is_unchanged_by_rising_maps(rows: list[tuple[int, int]]) -> None:
    scores, target = arrays(rows)
    rising = (scores**3 + scores) / 2
    assert metrics.auc(rising, target) == pytest.approx(metrics.auc(scores, target))


@settings(deadline=None)
@given(samples)
def test_swapped_labels_mirror_auc_and_eer(rows: list[tuple[int, int]]) -> None:
    scores, target = arrays(rows)
    assert metrics.auc(scores, 1 - target) == pytest.approx(1 - metrics.auc(scores, target))
    mirrored = metrics.equal_error_rate(1 - scores, 1 - target)
    assert metrics.equal_error_rate(scores, target) == pytest.approx(mirrored)


@settings(deadline=None)
@given(samples)
def test_fitted_threshold_is_as_good_as_any(rows: list[tuple[int, int]]) -> None:
    scores, target = arrays(rows)
    fitted = fit_threshold(scores, target)
    grid = np.arange(0, 129) / 128  # every score, and a place between each two
    judged = scores >= grid[:, None]
    balanced = (judged[:, target == 1].mean(1) + 1 - judged[:, target == 0].mean(1)) / 2
    assert 0 <= fitted <= 1
    assert metrics.balanced_accuracy(scores, target, fitted) == pytest.approx(balanced.max())


@pytest.mark.parametrize(
    ("scores", "target", "expected"),
    [
        ([0.1, 0.3, 0.9], [0, 0, 1], 0.6),  # middle of the gap
        ([0.1, 0.2, 0.25, 0.9], [0, 1, 0, 1], 0.575),  # .75 at two gaps: the wider
        ([0.9, 0.1], [0, 1], 0.05),  # wrong way round: both ends give .5, equally wide, the lower
        ([0.2, 1.0], [1, 0], 0.1),  # above a score of 1 lies no threshold
    ],
)
def test_fitted_threshold_by_hand(scores: list[float], target: list[int], expected: float) -> None:
    assert fit_threshold(np.array(scores), np.array(target)) == pytest.approx(expected)


def test_fitted_threshold_between_neighbouring_floats() -> None:
    low = 0.5
    high = np.nextafter(low, 1)
    assert fit_threshold(np.array([low, high]), np.array([0, 1])) == high


@pytest.mark.parametrize(
    ("target", "reason"), [(1, "not defined: only fakes"), (0, "not defined: only reals")]
)
def test_one_class_gives_reasons(target: int, reason: str) -> None:
    scores, targets = np.array([0.2, 0.9, 0.6]), np.full(3, target)
    found = compute_metrics(scores, targets, fitted_threshold=0.4)
    assert found.undefined["auc"] == found.undefined["eer"] == reason
    nan = {name for name in FIGURES if math.isnan(getattr(found, name))}
    assert (
        nan
        == set(found.undefined)
        == set(FIGURES)
        - {
            "accuracy",
            "accuracy_fitted",
            "ece",
            "brier",
        }
    )
    assert found.accuracy == pytest.approx(2 / 3 if target else 1 / 3)
    assert math.isnan(fit_threshold(scores, targets))


def test_single_figures_of_one_class_are_nan() -> None:
    scores, target = np.array([0.2, 0.9]), np.array([1, 1])
    found = [
        metrics.auc(scores, target),
        metrics.average_precision(scores, target),
        metrics.equal_error_rate(scores, target),
        metrics.equal_error_point(scores, target),
        metrics.tpr_at_fpr(scores, target, 0.05),
        metrics.balanced_accuracy(scores, target, 0.5),
    ]
    assert np.isnan(found).all()


def test_nothing_to_measure_gives_reasons() -> None:
    found = compute_metrics(np.empty(0), np.empty(0, np.int64))
    assert found.undefined == dict.fromkeys(FIGURES, "not defined: no samples")
    assert np.isnan([value for name, value in asdict(found).items() if name in FIGURES]).all()
    assert math.isnan(fit_threshold(np.empty(0), np.empty(0, np.int64)))


@pytest.mark.parametrize("fitted", [None, math.nan])
def test_without_a_fitted_threshold(fitted: float | None) -> None:
    found = compute_metrics(FOUR_SCORES, FOUR_TARGET, fitted_threshold=fitted)
    assert set(found.undefined) == {"accuracy_fitted", "balanced_accuracy_fitted"}
    assert math.isnan(found.accuracy_fitted)
    assert found.accuracy == 0.75


@pytest.mark.parametrize(
    ("scores", "target", "message"),
    [
        ([0.5, math.nan, 0.1], [0, 1, 0], r"1 of 3 are not: the first is nan at index 1"),
        ([0.5, 2.5], [0, 1], r"the first is 2.5 at index 1"),
        ([0.5, 0.1], [0, 2], r"expected targets 0 \(real\) or 1 \(fake\), but got 2 at index 1"),
    ],
)
def test_what_is_no_probability_is_refused(
    scores: list[float], target: list[int], message: str
) -> None:
    for function in (compute_metrics, fit_threshold):
        with pytest.raises(InputError, match=message):
            function(np.array(scores), np.array(target))
