"""Connections that send nothing, too little or nothing more: they end, and keep nobody out."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterator

import pytest

from mfclip.serve import connection, guard, server
from mfclip.serve.limits import Limits
from serve.live import Live, Serve, picture_bytes

SILENCE = 1.0
HEAD = b"GET /v1/health HTTP/1.1\r\nHost: x\r\n"
REST = b"\r\n"


@pytest.fixture
def short(serve: Serve) -> Iterator[Live]:
    with serve(Limits(silence_seconds=SILENCE)) as live:
        yield live


def connect(live: Live, first: bytes = b"", **options: int) -> socket.socket:
    line = socket.socket()
    for name, value in options.items():
        line.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
    line.settimeout(20)
    line.connect(("127.0.0.1", live.client.base_url.port))
    line.sendall(first)
    return line


def drip_until_closed(line: socket.socket, content: bytes) -> float:
    """Send a byte now and then until the other side ends it; return the seconds that took."""
    begun = time.monotonic()
    line.settimeout(0.05)
    for byte in content:
        try:
            line.sendall(bytes([byte]))
            while line.recv(10_000):
                pass
        except TimeoutError:
            continue
        except OSError:
            pass
        return time.monotonic() - begun
    raise AssertionError("it was never closed")


def test_silence_is_not_waited_for(short: Live) -> None:
    begun = time.monotonic()
    with connect(short) as line:
        assert _ends(line)
    assert SILENCE * 0.9 < time.monotonic() - begun < 10


def test_a_head_must_come_whole(short: Live) -> None:
    with connect(short, HEAD) as line:
        assert SILENCE * 0.5 < drip_until_closed(line, b"X-A: " + b"a" * 2000) < 10


def test_the_rest_of_a_refused_body_is_not_waited_for(short: Live) -> None:
    """After its answer, uvicorn alone would take a byte now and then for ever."""
    with connect(
        short, b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n"
    ) as line:
        assert line.recv(20).startswith(b"HTTP/1.1 404")
        assert SILENCE * 0.5 < drip_until_closed(line, b"a" * 2000) < 10


def test_requests_one_after_the_other_go_on(short: Live) -> None:
    """Idle for less than the limit each time, for longer than it together; also two at once."""
    with connect(short) as line:
        for _ in range(4):
            time.sleep(SILENCE / 2)
            line.sendall(HEAD + REST)
            _read(line, 1)
        line.sendall(2 * (HEAD + REST))
        _read(line, 2)
        assert _ends(line)


def test_who_does_not_fetch_his_answer_is_dropped(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "FETCH_SECONDS", SILENCE)
    ask = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    with serve(Limits(silence_seconds=60.0)) as live:
        with connect(live, ask * 2000, SO_RCVBUF=4096) as line:
            for count in (1, 0):  # it is taken, and it is dropped
                end = time.monotonic() + 20
                while _open(live) != count and time.monotonic() < end:
                    time.sleep(0.01)
                assert _open(live) == count
            line.settimeout(5)
            with contextlib.suppress(ConnectionError):
                while line.recv(1 << 20):
                    pass
        assert live.client.get("/v1/health").status_code == 200


def test_silent_connections_keep_nobody_out(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTIONS", 16)
    with serve() as live, contextlib.ExitStack() as lines:
        silent = [lines.enter_context(connect(live)) for _ in range(40)]
        assert live.client.get("/v1/health").status_code == 200
        assert live.judge(picture_bytes()).status_code == 200
        closed = select.select(silent, [], [], 5)[0]
        assert 24 <= len(closed) <= 26  # those that came first
        assert set(closed) == set(silent[: len(closed)])


def test_long_bodies_are_handed_on_in_pieces() -> None:
    whole = {"type": "http.response.body", "body": bytes(range(256)) * 1000}
    pieces = list(guard._in_pieces(whole))
    assert b"".join(piece["body"] for piece in pieces) == whole["body"]
    assert [piece["more_body"] for piece in pieces] == [True, True, True, False]
    assert max(len(piece["body"]) for piece in pieces) == guard.PIECE
    more = {**whole, "more_body": True}
    assert all(piece["more_body"] for piece in guard._in_pieces(more))
    short = {"type": "http.response.body", "body": b"ab"}
    assert list(guard._in_pieces(short)) == [short]


def _ends(line: socket.socket) -> bool:
    """Wait until the other side closes; False if it sends something instead."""
    try:
        return line.recv(100) == b""
    except ConnectionError:
        return True


def _read(line: socket.socket, count: int) -> None:
    """Read so many answers about the server's health."""
    found = b""
    while found.count(b'"key_needed":false}') < count:
        piece = line.recv(10_000)
        assert piece, found
        found += piece
    assert found.count(b"HTTP/1.1 200") == count


def _open(live: Live) -> int:
    return len(live.server.server_state.connections)
