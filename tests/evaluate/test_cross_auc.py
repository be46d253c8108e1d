import json
import math

import numpy as np
import pytest

from mfclip.errors import InputError
from mfclip.evaluate.cross_auc import cross_auc
from mfclip.evaluate.scores import ScoredSample, Scores
from mfclip.labels import Labels


def domain(reals: list[float], fakes: list[float], name: str = "", group: str = "") -> Scores:
    rows = [(value, False) for value in reals] + [(value, True) for value in fakes]
    return Scores(
        tuple(
            ScoredSample(f"{name}{i}", Labels(is_fake), "test", f"{group or name}{i}", None, value)
            for i, (value, is_fake) in enumerate(rows)
        )
    )


def test_a_detector_whose_scores_drift_is_found_out() -> None:
    # Perfect on each set, but the reals of the second score above the fakes of the first.
    found = cross_auc(
        {"A": domain([0.1, 0.1], [0.2, 0.2], "a"), "B": domain([0.8, 0.8], [0.9, 0.9], "b")}
    )
    assert (found.mean_auc, found.mean_polarisation) == (1, pytest.approx(0.1))
    assert found.cross_auc == pytest.approx((1 + 0.1) / 2)
    # pairs real < fake over both: all but the two reals of B against the two fakes of A
    assert found.pooled_auc == 12 / 16


def test_a_detector_that_is_sure_and_right_everywhere_scores_one() -> None:
    found = cross_auc({"A": domain([0.0], [1.0], "a"), "B": domain([0.0], [1.0], "b")})
    assert (found.cross_auc, found.pooled_auc) == (1, 1)


def test_intervals_equal_explicit_resampling_of_all_domains_together() -> None:
    random = np.random.default_rng(0)
    parts = {
        name: domain(random.beta(2, 4, 12).tolist(), random.beta(3, 3, 12).tolist(), name, "shared")
        for name in "AB"
    }
    found = cross_auc(parts, resamples=80, seed=7)
    groups = [g for part in parts.values() for g in part.groups]
    names = sorted(set(groups))
    assert len(names) == 24  # the two share theirs
    random = np.random.default_rng(7)
    values = []
    for counts in random.multinomial(24, np.full(24, 1 / 24), 80):
        often = dict(zip(names, counts.tolist(), strict=True))
        drawn = {
            name: Scores(tuple(s for s in part for _ in range(often[s.group])))
            for name, part in parts.items()
        }
        values.append(cross_auc(drawn, resamples=0).cross_auc)
    low, high = np.percentile(values, [2.5, 97.5])
    interval = found.intervals["cross_auc"]
    assert (interval.low, interval.high) == pytest.approx((low, high))


def test_a_set_of_one_class_is_named_and_nothing_is_averaged_without_it() -> None:
    found = cross_auc({"A": domain([0.1], [0.9], "a"), "B": domain([], [0.9], "b")})
    assert math.isnan(found.cross_auc)
    assert "not both scored in B" in str(found)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["cross_auc"] is None


def test_one_set_is_refused() -> None:
    with pytest.raises(InputError, match="at least two data sets, but got 1"):
        cross_auc({"A": domain([0.1], [0.9], "a")})
