"""Forms that were made by hand, whole, damaged and hostile."""

from __future__ import annotations

import random
import socket

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfclip.serve.limits import Limits
from mfclip.serve.upload import show_name
from serve.live import Live, Serve, picture_bytes

FORM = {"Content-Type": "multipart/form-data; boundary=cut"}


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    told = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename else "")
    return b"--cut\r\nContent-Disposition: " + told.encode() + b"\r\n\r\n" + content + b"\r\n"


FILE = part("file", picture_bytes(1), "a.png")
END = b"--cut--\r\n"


def post(live: Live, body: bytes, headers: dict[str, str] = FORM) -> httpx.Response:
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
        (FILE + part("whole", b"x" * 5000) + END, 413, "too_large"),
        (FILE + part("whole", b"x" * 2_000_000) + END, 413, "too_large"),
    ],
)
def test_bad_forms(live: Live, body: bytes, status: int, code: str) -> None:
    answer = post(live, body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
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
        ("application/json", 415),  # no address is fetched
    ],
)
def test_other_types(live: Live, kind: str, status: int) -> None:
    assert post(live, FILE + END, {"Content-Type": kind}).status_code == status


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


def test_slow_uploads_end(serve: Serve) -> None:
    with (
        serve(Limits(upload_seconds=0.2)) as live,
        socket.create_connection(("127.0.0.1", live.client.base_url.port or 0), 10) as line,
    ):
        head = f"Content-Type: {FORM['Content-Type']}\r\nContent-Length: 1000\r\n\r\n--cut"
        line.sendall(f"POST /v1/predictions HTTP/1.1\r\nHost: x\r\n{head}".encode())
        assert line.recv(100).startswith(b"HTTP/1.1 408")
        assert list(live.service.folder.iterdir()) == []


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
