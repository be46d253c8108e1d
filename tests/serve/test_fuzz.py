"""Damaged files and made-up requests: no 5xx, no hang, nothing left. More in benchmarks."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from types import ModuleType

import pytest

from mfclip.serve.limits import Limits
from serve.live import Serve

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def fuzz(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import serve_fuzz  # noqa: PLC0415

    module: ModuleType = serve_fuzz
    return module


@pytest.mark.slow
def test_damaged_pictures_and_videos(fuzz: ModuleType, serve: Serve, tmp_path: Path) -> None:
    rng = random.Random(5)
    seeds = (fuzz.make_pictures(), 200), (fuzz.make_videos(tmp_path), 7)
    with serve(Limits(max_pixels=1_000_000, max_frames=2)) as live:
        for whole, count in seeds:
            files = fuzz.damaged_files(whole, count, rng)
            tally = fuzz.Tally()
            asyncio.run(fuzz.send_all(live.url, files, rng, tally))
            assert tally.bad == []
            assert tally.outcomes.total() == count
            assert len(tally.outcomes) >= 2  # some are judged, some refused
        assert list(live.service.folder.iterdir()) == []


def test_every_seed_is_judged_before_it_is_damaged(
    fuzz: ModuleType, serve: Serve, tmp_path: Path
) -> None:
    with serve() as live:
        for name, content in fuzz.make_pictures().items():
            assert live.judge(content, whole=True).status_code == 200, name
        for name, content in fuzz.make_videos(tmp_path).items():
            assert live.judge(content).status_code == 202, name


@pytest.mark.slow
def test_requests_made_from_the_openapi_document(fuzz: ModuleType, serve: Serve) -> None:
    with serve() as live:
        found = fuzz.run_schemathesis(live.url, examples=5, seed=0)
    assert found["failures"] == {}
    assert found["exit_status"] == 0
    assert found["requests"] > 100
