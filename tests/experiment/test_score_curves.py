"""The numbers in the figures that are drawn from scores and logs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mfclip.errors import InputError
from mfclip.evaluate.metrics import auc, calibration_error, tpr_at_fpr
from mfclip.evaluate.scores import Scores, read_scores
from mfclip.experiment.results import Results, read_results
from mfclip.experiment.score_curves import (
    BINS,
    det,
    histograms,
    read_log,
    reliability,
    roc,
    training,
)
from mfclip.experiment.store import Store

Storer = Callable[..., Store]


@pytest.fixture(scope="module")
def store(storer: Storer) -> Store:
    return storer("table8_spa", ["CLIP w/ SPA", "MFCLIP w/ SPA"], train="CollDiff", seeds=(0, 1))


@pytest.fixture(scope="module")
def results(store: Store) -> Results:
    return read_results(store)


@pytest.fixture(scope="module")
def parts(store: Store) -> list[Scores]:
    """Scores of the last row on the last test, seed by seed."""
    return [
        read_scores(store.finished(f"MFCLIP_w_SPA__CollDiff__seed{n}") / "tests/Diffae/scores.csv")
        for n in (0, 1)
    ]


def test_roc_is_the_mean_of_what_thresholds_reach(
    store: Store, results: Results, parts: list[Scores]
) -> None:
    (drawing,) = roc(results, store)
    assert [panel.title for panel in drawing.panels] == ["DDPM", "LatDiff", "Diffae"]
    curve = drawing.panels[2].curves[1]
    assert curve.label == "MFCLIP w/ SPA"
    for fpr in (0.0, 0.05, 0.3, 1.0):
        reached = [tpr_at_fpr(part.score, part.target, fpr) for part in parts]
        place = curve.x.index(pytest.approx(fpr))
        assert curve.y[place] == pytest.approx(sum(reached) / 2)
    # the area below the steps is the area under the curve, up to the grid
    area = float(np.mean(curve.y[:-1]))
    assert area == pytest.approx(np.mean([auc(p.score, p.target) for p in parts]), abs=0.01)


def test_det_is_the_roc_from_below(store: Store, results: Results) -> None:
    (found,), (missed,) = roc(results, store), det(results, store)
    assert missed.probit
    for panel, other in zip(found.panels, missed.panels, strict=True):
        for curve, mirrored in zip(panel.curves, other.curves, strict=True):
            np.testing.assert_allclose(1 - np.array(curve.y), mirrored.y)


def test_reliability_gives_the_calibration_error(
    store: Store, results: Results, parts: list[Scores]
) -> None:
    (drawing,) = reliability(results, store)
    curve = drawing.panels[2].curves[1]
    score = np.concatenate([part.score for part in parts])
    target = np.concatenate([part.target for part in parts])
    filled = np.unique(np.minimum((score * BINS).astype(int), BINS - 1), return_counts=True)[1]
    gaps = np.abs(np.array(curve.x) - curve.y)
    error = float((gaps * filled).sum() / len(score))
    assert error == pytest.approx(calibration_error(score, target, BINS))


def test_histograms_hold_every_score_once(
    store: Store, results: Results, parts: list[Scores]
) -> None:
    (drawing,) = histograms(results, store)
    panel = drawing.panels[-1]
    assert panel.title == "MFCLIP w/ SPA, Diffae"
    real, fake = panel.curves
    assert (real.label, fake.label) == ("real", "fake")
    fakes = np.concatenate([part.score[part.target == 1] for part in parts])
    for low, share in zip(fake.x, fake.y, strict=True):
        inside = ((fakes >= low - 1e-9) & (fakes < low + 0.05 - 1e-9)) | (
            (fakes == 1) & (low > 0.94)
        )
        assert share == pytest.approx(inside.mean())
    assert sum(real.y) == pytest.approx(1)


def test_training_curves_count_repeated_steps_once(
    store: Store, results: Results, tmp_path: Path
) -> None:
    lines = [
        {"kind": "start", "step": 0},
        {"kind": "train", "step": 10, "loss": 2.0},
        {"kind": "train", "step": 20, "loss": 1.0},  # before a kill
        {"kind": "start", "step": 10},
        {"kind": "train", "step": 20, "loss": 1.5},  # the same step again
        {"kind": "val", "step": 20, "auc": 0.75},
    ]
    for run in results.runs:
        folder = store.finished(run["key"]) / "training"
        folder.mkdir(exist_ok=True)
        text = "\n".join(map(json.dumps, lines))
        (folder / "log.jsonl").write_text(text + '\n{"kind": "tra')  # cut short
    (drawing,) = training(results, store)
    losses, aucs = (panel.curves for panel in drawing.panels)
    assert len(losses) == 4  # two rows, two seeds
    assert (losses[0].x, losses[0].y) == ((10, 20), (2.0, 1.5))
    assert (aucs[0].x, aucs[0].y) == ((20,), (0.75,))
    with pytest.raises(InputError, match="no training log"):
        read_log(tmp_path)
