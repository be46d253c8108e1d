"""Seeds, the faces set when it is there, and a small data set made on the spot."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

FACES = Path(__file__).resolve().parents[2] / "shared" / "data" / "faces" / "manifest.csv"


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def faces_manifest() -> Path:
    """The manifest of the development faces; the test skips where they are absent."""
    if not FACES.is_file():
        pytest.skip("the development faces are not on this machine")
    return FACES
