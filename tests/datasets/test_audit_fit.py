import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mfclip.datasets.audit_fit import auc_interval, score_unseen, weighted_auc


def test_auc_by_hand() -> None:
    # fakes .4 and .8, reals .1 and .4: pairs won 1, 0.5 (tie), 1, 1 of 4
    scores, target = np.array([0.1, 0.4, 0.4, 0.8]), np.array([0, 0, 1, 1])
    assert weighted_auc(scores, target, np.ones((1, 4))).tolist() == [3.5 / 4]


@pytest.mark.parametrize("seed", range(3))
def test_weighted_auc_equals_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, target = rng.integers(0, 9, 60).astype(float), rng.integers(0, 2, 60)
    weights = rng.integers(0, 4, (5, 60)).astype(float)
    expected = [roc_auc_score(target, scores, sample_weight=row) for row in weights]
    assert weighted_auc(scores, target, weights) == pytest.approx(expected, abs=1e-12)


def test_a_draw_without_one_class_has_no_auc() -> None:
    weights = np.array([[1.0, 0.0], [1.0, 1.0]])
    aucs = weighted_auc(np.array([0.0, 1.0]), np.array([0, 1]), weights)
    assert np.isnan(aucs[0])
    assert aucs[1] == 1


def test_the_interval_is_wider_when_pictures_share_groups() -> None:
    rng = np.random.default_rng(0)
    target = np.repeat(rng.integers(0, 2, 40), 10)
    scores = target + np.repeat(rng.normal(size=40), 10) * 2
    auc, low, high = auc_interval(scores, target, np.repeat(np.arange(40), 10))
    _, single_low, single_high = auc_interval(scores, target, np.arange(400))
    assert low < auc < high
    assert high - low > 2 * (single_high - single_low)


def test_the_interval_covers_the_truth_about_19_times_in_20() -> None:
    covered = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        target = np.arange(120) % 2
        _, low, high = auc_interval(rng.normal(size=120), target, np.arange(120), seed=seed)
        covered += low <= 0.5 <= high
    assert 88 <= covered <= 100


def test_thresholds_and_windows_are_found_out_of_fold() -> None:
    rng = np.random.default_rng(0)
    target = np.arange(400) % 2
    # fakes lie in a window amid the reals: no straight line tells them apart
    window = np.where(target == 1, rng.uniform(-1, 1, 400), rng.choice([-2, 2], 400))
    folds = [(np.arange(200), np.arange(200, 400)), (np.arange(200, 400), np.arange(200))]
    everyone = np.ones(400, dtype=bool)
    values = window[:, None].astype(np.float32)
    scores = score_unseen(values, target, folds, everyone, seed=0)
    assert roc_auc_score(target, scores) > 0.99


def test_labels_that_are_pure_chance_score_near_chance_out_of_fold() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(400, 100)).astype(np.float32)
    target = rng.integers(0, 2, 400)
    folds = [(np.arange(200), np.arange(200, 400)), (np.arange(200, 400), np.arange(200))]
    scores = score_unseen(values, target, folds, np.ones(400, dtype=bool), seed=0)
    assert roc_auc_score(target, scores) == pytest.approx(0.5, abs=0.09)


def test_a_feature_without_variation_scores_exactly_chance() -> None:
    target = np.arange(10) % 2
    folds = [(np.arange(5), np.arange(5, 10))]
    part = np.ones(10, dtype=bool)
    scores = score_unseen(np.ones((10, 3), dtype=np.float32), target, folds, part, seed=0)
    assert np.isnan(scores[:5]).all()
    assert (scores[5:] == 0.5).all()
