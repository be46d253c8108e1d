"""A tiny model, and servers that use it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from helpers import KINDS, tiny_model
from mfclip.card import Card
from mfclip.predict.predictor import Predictor
from mfclip.serve.guard import Access
from mfclip.serve.limits import Limits
from serve.live import Live, Serve, run_server


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    """Takes whole pictures; its scores differ between pictures."""
    model = tiny_model().eval()
    model.remember_prompts(KINDS)
    return Predictor(model, Card(threshold=0.5, resize=40, limits="a toy"), device="cpu")


@pytest.fixture(scope="session")
def live(predictor: Predictor) -> Iterator[Live]:
    with run_server(predictor) as server:
        yield server


@pytest.fixture
def serve(predictor: Predictor) -> Serve:
    def start(limits: Limits | None = None, access: Access | None = None, **options: Any) -> Any:
        return run_server(options.pop("predictor", predictor), limits, access, **options)

    return start
