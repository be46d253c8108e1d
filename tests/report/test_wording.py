"""Plain words: counts, error rates and limits as a reader gets them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mfclip.card import Bands
from mfclip.predict.prediction import Failure, Kind, Prediction
from mfclip.report.wording import (
    Tally,
    error_table,
    explain_verdict,
    file_rows,
    kind_rows,
    limit_rows,
    origin_rows,
)

BANDS = Bands(
    0.3,
    0.7,
    "validation",
    0.1,
    {
        "val": {"false_alarm": {"value": 0.1}, "miss": {"value": 0.1}},
        "test": {"false_alarm": {"value": 0.2}, "miss": {"value": 0.4, "low": 0.3, "high": 0.5}},
    },
    "val",
)


def judged(score: float, **more: object) -> Prediction:
    kinds = {"label": (Kind("fake", 1.0),), "family": (Kind("gan", 0.9), Kind("real", 0.001))}
    return Prediction(None, score, BANDS, kinds, None, 224, None, 30, 20, **more)  # type: ignore[arg-type]


def test_tally_counts_each_verdict_and_what_is_not_shown() -> None:
    tally = Tally()
    for score in (0.1, 0.5, 0.6, 0.9):
        tally.add(judged(score))
    assert tally.summary(4, 0) == "4 faces judged: 1 called fake, 2 uncertain, 1 called real."
    tally.add(Failure("a", "empty"))
    assert tally.summary(3, 0).endswith(
        "1 file could not be judged. This report shows the first 3 faces."
    )


def test_a_verdict_is_worth_what_tests_say_never_what_it_was_fitted_on() -> None:
    assert "20% (test) of the real faces were called fake" in explain_verdict("fake", BANDS)
    assert "40% [30, 50] (test) of the forgeries were called real" in explain_verdict("real", BANDS)
    assert "val" not in explain_verdict("fake", BANDS)
    assert "decides nothing" in explain_verdict("uncertain", BANDS)
    assert "not measured" in explain_verdict("fake", Bands(0.5, 0.5))


@pytest.mark.parametrize(("score", "shown"), [(0.1, False), (0.5, False), (0.9, True)])
def test_kinds_are_named_for_a_face_called_fake_only(score: float, shown: bool) -> None:
    assert kind_rows(judged(score)) == ([("family", "GAN 90%")] if shown else [])


def test_what_the_card_does_not_say_is_not_made_up() -> None:
    assert error_table({"verdict": Bands(0.5, 0.5, "threshold").to_json()}) == ([], [])
    assert limit_rows({}) == [("Trained on", "the weights do not say what they were trained on")]
    assert file_rows(judged(0.5), 3) == [("File", "picture 3"), ("Size", "30 x 20 pixels")]


def test_error_table_holds_every_split_once() -> None:
    model = {
        "verdict": BANDS.to_json(),
        "metrics": {name: {"auc": {"value": auc}} for name, auc in (("test", 0.8), ("other", 0.7))},
    }
    splits, rows = error_table(model)
    assert splits == ["val", "test", "other"]
    assert dict(rows) == {
        "Real faces called fake": ["10%", "20%", "-"],
        "Forgeries called real": ["10%", "40% [30, 50]", "-"],
        "A forgery scores above a real face (AUC)": ["-", "80%", "70%"],
    }


def test_origin_names_time_engine_and_how_faces_were_saved() -> None:
    since = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    model = {
        "engine": "onnx",
        "precision": "fp32",
        "jpeg_quality": 90,
        "weights_sha256": "c0ffee",
        "verdict": Bands(0.5, 0.5).to_json(),
    }
    rows = dict(origin_rows(model, since))
    assert rows["Judged"].startswith("2026-01-02 03:04:05 to 20")
    assert rows["Engine"] == "onnx, fp32"
    assert "JPEG of quality 90" in rows["Faces saved"]
    assert rows["SHA-256 of weights"] == "c0ffee"
