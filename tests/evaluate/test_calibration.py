"""Temperature scaling against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torch import nn

from mfclip.errors import InputError
from mfclip.evaluate.calibration import CalibratedDetector, fit_temperature


def _soft(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_temperature_of_scores_that_are_too_sure_is_found(true: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 20_000)
    target = (rng.random(20_000) < _soft(logits)).astype(np.int64)
    found = fit_temperature(_soft(logits * true), target)
    assert found == pytest.approx(true, rel=0.05)
    best = log_loss(target, _soft(logits * true / found))
    for other in (found * 0.9, found * 1.1):
        assert best < log_loss(target, _soft(logits * true / other))


def test_dividing_logits_is_what_the_detector_does() -> None:
    layer = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    images = torch.rand(3, 3, 2, 2)
    torch.testing.assert_close(CalibratedDetector(layer, 4.0)(images), layer(images) / 4)


def test_one_class_has_no_temperature() -> None:
    with pytest.raises(InputError, match="one of them is missing"):
        fit_temperature(np.array([0.2, 0.3]), np.array([1, 1]))
