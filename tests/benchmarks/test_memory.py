"""Peak memory, against tensors of known size."""

from __future__ import annotations

import pytest
import torch

from machine.memory import peak_memory, reset_process_peak

MEBI = 2**20


def test_peak_holds_what_was_given_back_meanwhile() -> None:
    if not reset_process_peak():
        pytest.skip("needs Linux, which keeps the peak")
    cpu = torch.device("cpu")
    idle = peak_memory(lambda: None, cpu)
    busy = peak_memory(lambda: torch.ones(50 * MEBI), cpu)
    again = peak_memory(lambda: None, cpu)
    assert idle is not None
    assert busy is not None
    assert again is not None
    assert 180 * MEBI < busy - idle < 260 * MEBI
    assert again < busy - 100 * MEBI
