"""Videos are judged in a process of their own, as `judge_video` judges them, and it may crash."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import av
import httpx
import numpy as np
import pytest

from films import encode
from mfclip.errors import InputError
from mfclip.predict.predictor import Predictor
from mfclip.predict.schema import to_json
from mfclip.predict.video import judge_video
from mfclip.runtime.isolated import CrashError
from mfclip.serve.isolation import judge_isolated
from mfclip.serve.limits import Limits
from serve.live import Live, Serve

TASK = {
    "name": "a.mp4",
    "language": "en",
    "whole": True,
    "frames": 4,
    "max_pixels": 100_000,
    "max_seconds": 60,
}


def film(path: Path, count: int = 10) -> Path:
    rng = np.random.default_rng(1)
    frames = (rng.integers(0, 20 * (1 + i), (64, 96, 3), np.uint8) for i in range(count))
    return encode(path, frames)


@pytest.mark.slow
def test_a_video_becomes_a_job_and_is_judged_as_here(
    live: Live, predictor: Predictor, tmp_path: Path
) -> None:
    path = film(tmp_path / "a.mp4")
    answer = live.judge(path.read_bytes(), "täst.mp4", whole=True)
    assert answer.status_code == 202
    job = live.finish(answer)
    assert job["error"] is None
    (found,) = job["result"]["videos"]
    expected = to_json(judge_video(predictor, path, count=Limits().max_frames))
    assert found["path"] == "täst.mp4"
    assert found["score"] == pytest.approx(expected["score"], abs=1e-5)
    assert found["tracks"][0]["frames"][3] == pytest.approx(expected["tracks"][0]["frames"][3])
    assert job["progress"] == {"done": 10, "total": 10}
    frame = live.client.get(f"{job['links']['self']}/frames/7")
    assert frame.headers["content-type"] == "image/jpeg"
    assert frame.content[:2] == b"\xff\xd8"
    assert live.client.get(f"{job['links']['self']}/frames/10").status_code == 404
    report = live.client.get(job["links"]["report"]).text
    assert "täst.mp4" in report
    assert found["sha256"] in report
    assert str(live.service.folder) not in report
    assert list(live.service.folder.iterdir()) == []


@pytest.mark.slow
def test_a_deleted_job_ends_its_process(live: Live, tmp_path: Path) -> None:
    answer = live.judge(film(tmp_path / "a.mp4").read_bytes(), whole=True)
    begun = time.monotonic()
    assert live.client.delete(answer.headers["location"]).status_code == 204
    again = live.judge(film(tmp_path / "b.mp4").read_bytes(), whole=True)
    assert live.finish(again)["status"] == "done"  # the only place for videos is free again
    assert time.monotonic() - begun < 15


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_pixels": 96 * 63}, "96 x 64 pixels"),
        ({"max_seconds": 0.2}, "cut it"),
        ({"path": "/nowhere.mp4"}, "no such file"),
    ],
)
def test_what_cannot_be_judged(
    predictor: Predictor, tmp_path: Path, change: dict[str, object], words: str
) -> None:
    task = {**TASK, "path": str(film(tmp_path / "a.mp4")), **change}
    with pytest.raises(InputError, match=words):
        judge_isolated(predictor, task, check=lambda: None, progress=lambda *_: None)


@pytest.mark.slow
def test_text_in_the_file_that_is_none(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "A" * 8
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode())
    content = path.read_bytes()
    assert b"A" * 8 in content
    path.write_bytes(content.replace(b"A" * 8, b"\xff" * 8))
    task = {**TASK, "path": str(path)}
    judged = judge_isolated(predictor, task, check=lambda: None, progress=lambda *_: None)
    assert judged.video["num_frames"] == 1


@pytest.mark.slow
def test_a_crash_is_told_from_a_refusal(predictor: Predictor, tmp_path: Path) -> None:
    others = multiprocessing.active_children()

    def crash(*_: object) -> None:
        (process,) = (it for it in multiprocessing.active_children() if it not in others)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSEGV)

    task = {**TASK, "path": str(film(tmp_path / "a.mp4"))}
    with pytest.raises(CrashError):
        judge_isolated(predictor, task, check=lambda: None, progress=crash)
    assert set(multiprocessing.active_children()) <= set(others)


@pytest.mark.slow
def test_jobs_end_at_their_time(serve: Serve, tmp_path: Path) -> None:
    with serve(Limits(job_seconds=0.05)) as live:
        job = live.finish(live.judge(film(tmp_path / "a.mp4").read_bytes()))
    assert (job["status"], job["error"]["code"]) == ("failed", "too_slow")


def test_a_full_queue_of_jobs(serve: Serve, tmp_path: Path) -> None:
    content = film(tmp_path / "a.mp4").read_bytes()
    with serve(Limits(jobs=1)) as live:
        first = live.judge(content)
        second: httpx.Response = live.judge(content)
        assert (first.status_code, second.status_code) == (202, 429)
        assert second.headers["retry-after"] == "10"
        live.client.delete(first.headers["location"])
        assert list(live.service.folder.iterdir()) == []
