"""Scores that mean what they say: one temperature, fitted on validation."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from mfclip.errors import InputError


class CalibratedDetector(nn.Module):
    """A detector whose logits are divided by a temperature (Guo et al., ICML 2017).

    Args:
        detector: maps images to logits, column 1 = fake.
        temperature: above 1 makes scores less sure; the order of scores stays.
    """

    def __init__(self, detector: nn.Module, temperature: float) -> None:
        super().__init__()
        self.detector = detector
        self.temperature = temperature

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2"]:
        """Judge RGB faces with pixel values in [0, 1]."""
        logits: Tensor = self.detector(images).float() / self.temperature
        return logits


def fit_temperature(scores: Float[np.ndarray, " n"], target: Int64[np.ndarray, " n"]) -> float:
    """Find the temperature that minimises the log loss.

    Args:
        scores: probability of fake of the validation split.
        target: 1 = fake, 0 = real.

    Returns:
        Between 0.01 and 100, in steps of 0.23%.

    Raises:
        InputError: only one class is there, so that no temperature is best.
    """
    if len(np.unique(target)) != 2:  # noqa: PLR2004 - real and fake
        raise InputError("a temperature is fitted on real and fake faces; one of them is missing")
    logits = torch.from_numpy(scores).double().clamp(1e-9, 1 - 1e-9).logit()
    truth = torch.from_numpy(target).double()
    grid = torch.logspace(-2, 2, 4001, dtype=torch.float64)
    losses = [nn.functional.binary_cross_entropy_with_logits(logits / t, truth) for t in grid]
    return float(grid[torch.stack(losses).argmin()])
