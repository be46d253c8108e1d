"""Small files that cost much, and hanging decoders, do not stop honest requests nor the end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from mfclip.serve import upload
from mfclip.serve import workers as workers_module
from mfclip.serve.limits import Limits
from serve.live import Live, Serve, picture_bytes

WAIT = 120.0
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def attacks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import attacks  # noqa: PLC0415

    module: ModuleType = attacks
    return module


def attack(live: Live, content: bytes, count: int) -> tuple[list[httpx.Response], list[float]]:
    """Send a file many times at once, and an honest image again and again meanwhile.

    Returns:
        The answers to the attack, and the seconds that each honest image took.
    """
    live.judge(picture_bytes())
    honest: list[float] = []
    with ThreadPoolExecutor(count) as threads:
        sent = [threads.submit(live.judge, content, whole=True) for _ in range(count)]
        while not honest or not all(one.done() for one in sent):
            begun = time.monotonic()
            assert live.judge(picture_bytes()).status_code == 200
            honest.append(time.monotonic() - begun)
            assert len(honest) < 1000
        return [one.result(WAIT) for one in sent], honest


def test_passes_without_end_are_refused_unread(serve: Serve, attacks: ModuleType) -> None:
    """Today: every honest image gets 503 for minutes."""
    with serve() as live:
        answers, honest = attack(live, attacks.many_scans(20_000, 7000), 8)
    assert {answer.status_code for answer in answers} == {422}
    assert all("passes" in answer.json()["detail"] for answer in answers)
    assert max(honest) < 20


def test_small_files_of_many_pixels_take_their_turn(
    serve: Serve, attacks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their pixels never come into the server, and never take all processes."""
    monkeypatch.setattr(workers_module, "LARGE", 1_000_000)
    content = attacks.flat_avif(3000)
    assert len(content) < 10_000
    with serve(Limits(max_pixels=10_000_000)) as live:
        live.judge(content, whole=True)
        before = resident()
        answers, honest = attack(live, content, 8)
        assert resident() - before < 32 << 20  # one decoded copy has 27 MB, and there were eight
    assert {answer.status_code for answer in answers} == {200}
    assert max(honest) < 20


def test_forms_and_json_without_end_are_refused(serve: Serve, attacks: ModuleType) -> None:
    json = {"Content-Type": "application/json"}
    with serve() as live:
        sent = ((attacks.many_fields(), attacks.FORM), (attacks.nested_json(), json))
        answers = [
            live.client.post("/v1/predictions", content=body, headers=headers)
            for body, headers in sent
        ]
        assert live.judge(picture_bytes()).status_code == 200
        assert list(live.service.folder.iterdir()) == []
    assert [answer.status_code for answer in answers] == [422, 415]


def test_dripping_uploads_keep_nobody_out(
    serve: Serve, attacks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "GRACE_SECONDS", 0.1)  # younger ones are not called slow
    with serve(Limits(queue=4)) as live:
        with attacks.dripping_uploads(live.url, 8):
            end = time.monotonic() + WAIT
            while len(live.service.uploads) < 4 and time.monotonic() < end:
                time.sleep(0.01)
            time.sleep(1)
            assert live.judge(picture_bytes()).status_code == 200
        assert live.judge(picture_bytes()).status_code == 200


def resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * 4096


def test_a_decoder_that_hangs_costs_its_own_image_only(serve: Serve) -> None:
    with serve(Limits(request_seconds=2.0)) as live:
        live.service.workers.start()
        first = next(iter(live.service.workers._running))
        os.kill(first.pid, signal.SIGSTOP)
        statuses = [live.judge(picture_bytes()).status_code for _ in range(6)]
        assert statuses.count(503) <= 1  # it is taken once, and ended with its request
        assert statuses.count(200) >= 5
        assert list(live.service.folder.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["many_scans", "flat_avif", "stalled_uploads"])
def test_the_server_ends_within_seconds_under_attack(
    attacks: ModuleType, tmp_path: Path, kind: str
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [str(Path(sys.executable).with_name("mfclip")), "serve", "--port", str(port)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [*command, "--engine", "torch"], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            assert "listens" in process.stderr.readline()
            if kind == "stalled_uploads":
                with attacks.stalled_uploads(url, 32):
                    seconds = end(process)
            else:
                content = getattr(attacks, kind)()
                for _ in range(8):
                    threading.Thread(target=send, args=(url, content), daemon=True).start()
                time.sleep(2)
                seconds = end(process)
        finally:
            process.kill()
    assert seconds < 15
    assert list(tmp_path.glob("mfclip-*")) == []


def send(url: str, content: bytes) -> None:
    """Send a file, and do not care what comes of it."""
    with contextlib.suppress(httpx.HTTPError):
        httpx.post(
            f"{url}/v1/predictions", files={"file": ("a.jpg", content)}, timeout=60, trust_env=False
        )


def end(process: subprocess.Popen[str]) -> float:
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(WAIT)
    return time.monotonic() - begun
