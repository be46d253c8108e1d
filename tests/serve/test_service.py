"""A server that has nothing to do holds no memory that it does not need."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from mfclip.predict.predictor import Predictor
from mfclip.runtime.memory import release_freed_memory
from mfclip.serve import service as service_module
from mfclip.serve.service import Service

BLOCKS, BYTES = 8192, 8192  # 64 MiB


def resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * 4096


def fill_and_free(kept: list[bytes]) -> None:
    """Leave the heap of this thread empty but for its top, so that it cannot shrink by itself."""
    blocks = [bytes(BYTES) for _ in range(BLOCKS)]
    kept.append(blocks[-1])


async def watch(service: Service) -> tuple[int, int]:
    kept: list[bytes] = []
    async with service.running():
        with service.admit():
            thread = threading.Thread(target=fill_and_free, args=(kept,))
            thread.start()
            thread.join(30)
            await asyncio.sleep(0.2)
            busy = resident()
        for _ in range(100):
            await asyncio.sleep(0.05)
            if busy - resident() > BLOCKS * BYTES // 2:
                break
        return busy, resident()


def test_memory_goes_back_once_nothing_is_in_hand(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not release_freed_memory():
        pytest.skip("not glibc")
    monkeypatch.setattr(service_module, "TIDY_SECONDS", 0.05)
    busy, idle = asyncio.run(watch(Service(predictor)))
    assert busy - idle > BLOCKS * BYTES // 2
