"""Forms that were made by hand, whole, damaged and hostile."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import select
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfclip.serve import upload
from mfclip.serve.limits import Limits
from mfclip.serve.upload import show_name
from serve.live import Live, Serve, picture_bytes

FORM = {"Content-Type": "multipart/form-data; boundary=cut"}


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    told = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename else "")
    return b"--cut\r\nContent-Disposition: " + told.encode() + b"\r\n\r\n" + content + b"\r\n"


FILE = part("file", picture_bytes(1), "a.png")
END = b"--cut--\r\n"


def post(
    live: Live, body: bytes | Iterator[bytes], headers: dict[str, str] = FORM
) -> httpx.Response:
    return live.client.post("/v1/predictions", content=body, headers=headers)


def test_a_form_by_hand_is_taken(live: Live) -> None:
    assert post(live, part("whole", b"true") + FILE + END).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (FILE, 400, "bad_request"),
        (FILE[:60], 400, "bad_request"),
        (b"nonsense", 400, "bad_request"),
        (b"", 400, "bad_request"),
        (END, 422, "bad_field"),
        (part("whole", b"true") + END, 422, "bad_field"),
        (part("file", b"x") + END, 422, "bad_field"),
        (FILE + FILE + END, 422, "bad_field"),
        (FILE + part("whole", b"maybe") + END, 422, "bad_field"),
        (FILE + part("whole", b"true") * 2 + END, 422, "bad_field"),
        (FILE + part("colour", b"red") + END, 422, "bad_field"),
        (part("image", b"x" * 200_000, "a.jpg") + END, 422, "bad_field"),
        (part("media", b"x" * 200_000, "a.jpg") + FILE + END, 422, "bad_field"),
        (part("upload", b"x" * 200_000, "a.jpg") + END, 422, "bad_field"),
        (FILE + part("whole", b"true", "a.jpg") + END, 422, "bad_field"),
        (b"".join(part(f"a{i}", b"") for i in range(20_000)) + FILE + END, 422, "bad_field"),
        (b"x" * 70_000 + FILE + END, 400, "bad_request"),
        (FILE + END + b"x" * 70_000, 413, "too_large"),
        (FILE + part("whole", b"x" * 5000) + END, 413, "too_large"),
        (FILE + part("whole", b"x" * 2_000_000) + END, 413, "too_large"),
    ],
)
def test_bad_forms(live: Live, body: bytes, status: int, code: str) -> None:
    answer = post(live, body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert code != "bad_field" or "file" in answer.json()["detail"] or b"whole" in body
    assert list(live.service.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("text/plain", 415),
        ("", 415),
        ("multipart/form-data", 400),
        ("multipart/form-data; boundary=" + "x" * 300, 400),
        ("multipart/mixed; boundary=cut", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/json", 415),
    ],
)
@pytest.mark.parametrize("body", [FILE + END, b'{"a":' * 100_000, b"[" * 100_000])
def test_other_types(live: Live, kind: str, status: int, body: bytes) -> None:
    assert post(live, body, {"Content-Type": kind}).status_code == status


def test_size_is_counted_without_being_told(serve: Serve) -> None:
    with serve(Limits(max_bytes=50_000)) as live:
        chunks = (bytes(10_000) for _ in range(40))
        answer = live.client.post("/v1/predictions", content=chunks, headers=FORM)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        told = {**FORM, "Content-Length": "999999999"}
        with socket.create_connection(("127.0.0.1", live.client.base_url.port or 0), 10) as line:
            head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
            line.sendall(f"POST /v1/predictions HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode())
            assert line.recv(100).startswith(b"HTTP/1.1 413")


def begin(live: Live, told: int = 10_000_000) -> socket.socket:
    """Open a connection and send the head of an upload and the first bytes of its form."""
    line = socket.create_connection(("127.0.0.1", live.client.base_url.port or 0), 10)
    head = f"Content-Type: {FORM['Content-Type']}\r\nContent-Length: {told}\r\n\r\n"
    line.sendall(f"POST /v1/predictions HTTP/1.1\r\nHost: x\r\n{head}".encode() + FILE[:100])
    return line


def answer(line: socket.socket) -> tuple[int, dict[str, Any]]:
    """Return the status and the problem with which an upload ended."""
    response = http.client.HTTPResponse(line)
    response.begin()
    return response.status, json.loads(response.read())


def test_slow_uploads_end(serve: Serve) -> None:
    with serve(Limits(upload_seconds=0.2)) as live, begin(live) as line:
        status, problem = answer(line)
        assert (status, problem["code"]) == (408, "slow_upload")
        assert "longer than 0.2 seconds" in problem["detail"]
        assert list(live.service.folder.iterdir()) == []


def test_silent_uploads_end_long_before_their_time(serve: Serve) -> None:
    with serve(Limits(silence_seconds=0.3)) as live, begin(live) as line:
        status, problem = answer(line)
        assert (status, problem["code"]) == (408, "slow_upload")
        assert "came too slowly" in problem["detail"]
        assert list(live.service.folder.iterdir()) == []


def test_a_byte_now_and_then_does_not_keep_an_upload(serve: Serve) -> None:
    with serve(Limits(silence_seconds=1.0)) as live, begin(live) as line:
        line.settimeout(0.1)
        begun = time.monotonic()
        found = b""
        while not found and time.monotonic() - begun < 30:
            line.sendall(b"a")
            with contextlib.suppress(TimeoutError):
                found = line.recv(100)
        assert found.startswith(b"HTTP/1.1 408")


def test_who_keeps_the_least_rate_is_waited_for(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "LEAST_RATE", 100)
    body = part("file", picture_bytes(1), "a.png") + END
    with serve(Limits(silence_seconds=4.0)) as live:  # far above what a busy machine adds to a drop

        def drip() -> Iterator[bytes]:
            step = -(-len(body) // 8)
            for first in range(0, len(body), step):
                time.sleep(1.1)
                yield body[first : first + step]

        begun = time.monotonic()
        assert post(live, drip()).status_code == 200
        assert time.monotonic() - begun > 8  # twice the silence


def test_slow_uploads_give_way(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """They took every place: an honest picture is judged all the same, and at once."""
    monkeypatch.setattr(upload, "GRACE_SECONDS", 0.1)
    with serve(Limits(queue=4)) as live, contextlib.ExitStack() as lines:
        slow = [lines.enter_context(begin(live)) for _ in range(4)]
        end = time.monotonic() + 10
        while len(live.service.uploads) < 4 and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.2)
        assert live.judge(picture_bytes()).status_code == 200
        assert len(live.service.uploads) == 3
        ended = select.select(slow, [], [], 10)[0]
        status, problem = answer(ended[0])
        assert (status, problem["code"]) == (408, "slow_upload")
        assert "slowest" in problem["detail"]


def test_quick_uploads_do_not_give_way(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "GRACE_SECONDS", 60.0)  # too young to be called slow
    with serve(Limits(queue=1)) as live, begin(live):
        end = time.monotonic() + 10
        while not len(live.service.uploads) and time.monotonic() < end:
            time.sleep(0.01)
        refused = live.judge(picture_bytes())
        assert (refused.status_code, refused.json()["code"]) == (429, "busy")
        assert len(live.service.uploads) == 1


@given(st.text())
def test_names_are_harmless(name: str) -> None:
    shown = show_name(name)
    assert shown
    assert len(shown) <= 255
    assert shown.isprintable()
    assert "/" not in shown
    assert "\\" not in shown


def test_mutated_bodies_never_break_it(live: Live) -> None:
    rng = random.Random(0)
    whole = bytearray(part("whole", b"true") + FILE + END)
    statuses = set()
    for _ in range(150):
        body = bytearray(whole)
        for _ in range(rng.randint(1, 8)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        del body[rng.randrange(len(body)) :][: rng.choice([0, 0, 10])]
        statuses.add(post(live, bytes(body)).status_code)
    assert statuses <= {200, 400, 413, 415, 422}
    assert list(live.service.folder.iterdir()) == []
