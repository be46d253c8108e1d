"""A detector small enough to be measured in a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import TINY
from machine.subject import Subject, open_subject, random_detector
from mfclip.card import Card
from mfclip.config import build_config
from mfclip.detectors import save_detector


@pytest.fixture
def tiny_weights(tmp_path: Path) -> Path:
    """The weights of a tiny MFCLIP, text half included."""
    settings = build_config({"model": TINY}).model
    path = tmp_path / "tiny.safetensors"
    save_detector(random_detector(settings), settings, path, card=Card())
    return path


@pytest.fixture
def tiny_subject(tiny_weights: Path) -> Iterator[Subject]:
    """That detector as a subject."""
    with open_subject(str(tiny_weights), 4) as subject:
        yield subject
