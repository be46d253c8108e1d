"""Differences of rows against scikit-learn's AUC, and what makes them narrower or wider."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from mfclip.cli.app import app
from mfclip.errors import ConfigError, InputError
from mfclip.evaluate.scores import Scores, read_scores
from mfclip.experiment.differences import compare_rows
from mfclip.experiment.store import Store

Storer = Callable[..., Store]
TABLE = "table3_cross_diffusion"
ROWS = ["MFCLIP", "CViT"]


@pytest.fixture
def store(storer: Storer) -> Store:
    return storer(TABLE, ROWS, train="DDPM", seeds=(0, 1))


def scores_of(store: Store, row: str, seed: int, test: str) -> Path:
    return store.finished(f"{row}__DDPM__seed{seed}") / "tests" / test / "scores.csv"


def test_it_is_the_mean_over_the_seeds(store: Store) -> None:
    found = compare_rows(store, *ROWS, resamples=20)
    assert [each.test for each in found] == ["LatDiff", "CollDiff", "DiffFace", "Diffae"]
    for each in found:
        assert (each.train, each.seeds) == ("DDPM", (0, 1))
        values = []
        for seed in (0, 1):
            own, other = (read_scores(scores_of(store, row, seed, each.test)) for row in ROWS)
            values.append(
                roc_auc_score(own.target, own.score) - roc_auc_score(other.target, other.score)
            )
        assert each.value == pytest.approx(np.mean(values))
        assert each.low <= each.value <= each.high


def test_the_other_way_round_is_the_opposite(store: Store) -> None:
    forth, back = (compare_rows(store, *rows, resamples=50)[0] for rows in (ROWS, ROWS[::-1]))
    assert forth.value == pytest.approx(-back.value)
    np.testing.assert_allclose(forth.resampled, -back.resampled)


def test_rows_that_say_the_same_are_not_apart(store: Store) -> None:
    for each in compare_rows(store, "CViT", "CViT", resamples=50):
        assert (each.value, each.low, each.high) == (0, 0, 0)


def test_the_order_of_the_scores_is_all_that_counts(store: Store) -> None:
    before = compare_rows(store, *ROWS, resamples=50)[0]
    path = scores_of(store, "CViT", 0, "LatDiff")
    squared = [replace(s, score=(s.score or 0) ** 2) for s in read_scores(path)]
    Scores(tuple(squared)).write(path)
    after = compare_rows(store, *ROWS, resamples=50)[0]
    np.testing.assert_allclose(after.resampled, before.resampled)


def test_seeds_that_disagree_make_it_wider(storer: Storer) -> None:
    store = storer(TABLE, ROWS, train="DDPM", seeds=(0, 1))
    (agreed, *_) = compare_rows(store, *ROWS)
    for row, power in (("MFCLIP", 1), ("CViT", -1)):  # in seed 1 one is right, the other wrong
        path = scores_of(store, row, 1, "LatDiff")
        turned = [replace(s, score=0.5 + 0.4 * power * (1 if s.target else -1))
                  for s in read_scores(path)]  # fmt: skip
        Scores(tuple(turned)).write(path)
    (apart, *_) = compare_rows(store, *ROWS)
    assert apart.high == pytest.approx(1)  # both draws took seed 1
    assert apart.high - apart.low > agreed.high - agreed.low


def test_a_face_that_one_row_could_not_judge_is_left_out_for_both(store: Store) -> None:
    path = scores_of(store, "CViT", 1, "LatDiff")
    first, *rest = read_scores(path)
    Scores((replace(first, score=None, error="unreadable"), *rest)).write(path)
    found = compare_rows(store, *ROWS, resamples=5)[0]
    values = []
    for seed in (0, 1):
        own, other = (read_scores(scores_of(store, row, seed, "LatDiff")) for row in ROWS)
        aucs = [roc_auc_score(each.target[1:], each.score[1:]) for each in (own, other)]
        values.append(aucs[0] - aucs[1])
    assert found.value == pytest.approx(np.mean(values))


def test_only_tests_that_both_rows_have_are_compared(store: Store) -> None:
    path = store.finished("CViT__DDPM__seed1") / "result.json"
    run = json.loads(path.read_text())
    del run["tests"][1]
    path.write_text(json.dumps(run))
    found = compare_rows(store, *ROWS, resamples=5)
    assert [each.test for each in found] == ["LatDiff", "DiffFace", "Diffae"]


def test_what_cannot_be_compared_is_said(store: Store, storer: Storer) -> None:
    with pytest.raises(ConfigError, match=r"expected a row among .*CViT.* but got 'Nobody'"):
        compare_rows(store, "MFCLIP", "Nobody")
    with pytest.raises(ConfigError, match="expected a figure among auc, ap, eer, but got 'acc'"):
        compare_rows(store, *ROWS, figure="acc")
    with pytest.raises(InputError, match="no finished runs with the same seed and test"):
        compare_rows(storer(TABLE, ["MFCLIP"], train="DDPM"), *ROWS)
    path = scores_of(store, "CViT", 0, "LatDiff")
    Scores(tuple(read_scores(path))[1:]).write(path)
    with pytest.raises(InputError, match="not judged on the same faces"):
        compare_rows(store, *ROWS)


def test_the_command_prints_points_with_their_interval(store: Store) -> None:
    command = ["experiment", "compare", str(store.root), *ROWS]
    output = CliRunner().invoke(app, command, env={"COLUMNS": "120"}).output
    for each in compare_rows(store, *ROWS):
        line = next(line for line in output.splitlines() if f" {each.test} " in line)
        assert line.split()[:4] == ["DDPM", each.test, "0,1", f"{100 * each.value:+.1f}"]
        assert f"[{100 * each.low:+.1f}, {100 * each.high:+.1f}]" in line
