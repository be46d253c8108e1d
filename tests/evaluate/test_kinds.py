"""Shares of right names against a count by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from mfclip.evaluate.kinds import balanced_share


def test_every_kind_counts_alike_as_in_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    kinds = np.array(["a"] * 30 + ["b"] * 7 + ["c"] * 3)
    named = rng.choice(["a", "b", "c"], len(kinds))
    groups = np.array([f"{i // 2}" for i in range(len(kinds))])
    found = balanced_share(named == kinds, kinds, groups, 500)
    assert found["value"] == pytest.approx(balanced_accuracy_score(kinds, named))
    assert found["low"] < found["value"] < found["high"]


def test_the_interval_is_the_bootstrap_over_groups() -> None:
    kinds = np.array(["a"] * 40)
    right = np.arange(40) < 20
    one_group_each = np.arange(40).astype(str)
    found = balanced_share(right, kinds, one_group_each, 4000)
    spread = 1.96 * np.sqrt(0.25 / 40)  # of a share of one half among 40
    assert found["low"] == pytest.approx(0.5 - spread, abs=0.03)
    assert found["high"] == pytest.approx(0.5 + spread, abs=0.03)
    pairs = (np.arange(40) % 20 // 2 + 10 * (np.arange(40) // 20)).astype(str)
    wider = balanced_share(right, kinds, pairs, 4000)
    assert wider["high"] - wider["low"] > 1.2 * (found["high"] - found["low"])


def test_all_right_is_not_certain() -> None:
    kinds, groups = np.array(["a", "a", "a", "b", "b"]), np.array(list("12345"))
    found = balanced_share(np.ones(5, bool), kinds, groups, 200)
    assert found == {"value": 1.0, "low": pytest.approx(0.025**0.5), "high": 1.0}
