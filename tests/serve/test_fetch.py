"""Files are fetched from public addresses only, within limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mfclip.serve.fetch import fetch, is_public
from mfclip.serve.problem import Problem
from serve.live import Serve, picture_bytes

CONTENT = picture_bytes(7)


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/a.png")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        if self.path == "/drip":
            with suppress(OSError):
                for _ in range(100):
                    self.wfile.write(b"x")
                    time.sleep(0.05)
            return
        self.wfile.write(CONTENT)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def get(url: str, target: Path, **limits: float) -> bytes:
    bounds = {"max_bytes": 10_000, "seconds": 5.0, **limits}
    fetch(
        url,
        target,
        max_bytes=int(bounds["max_bytes"]),
        seconds=bounds["seconds"],
        allow=lambda *_: True,
    )
    return target.read_bytes()


def test_content_arrives_as_it_is(site: str, tmp_path: Path) -> None:
    assert get(f"{site}/a.png?x=1", tmp_path / "a") == CONTENT


@pytest.mark.parametrize(
    ("path", "limits", "status"),
    [("/moved", {}, 502), ("/a.png", {"max_bytes": 20}, 413), ("/drip", {"seconds": 0.3}, 408)],
)
def test_limits(
    site: str, tmp_path: Path, path: str, limits: dict[str, float], status: int
) -> None:
    begun = time.monotonic()
    with pytest.raises(Problem) as caught:
        get(site + path, tmp_path / "a", **limits)
    assert caught.value.status == status
    assert time.monotonic() - begun < 4


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0",
        "fc00::1", "ff02::1", "::ffff:127.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1",
        "2001:0:53aa:64c:0:fbff:f5ff:fffe",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/a.png", "http://localhost/", "http://2130706433/", "http://0x7f.1/",
        "http://[::1]/", "file:///etc/passwd", "ftp://example.org/a", "gopher://example.org",
        "http://user:word@8.8.8.8/", "http://8.8.8.8:22/", "http:///a", "http://8.8.8.8/a b",
        "http://8.8.8.8/a\r\nHost: x", "http://8.8.8.8:99999/", "", "https://[::1",
    ],
)  # fmt: skip
def test_addresses_that_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(Problem) as caught:
        fetch(url, tmp_path / "a", max_bytes=100, seconds=1.0)
    assert caught.value.code == "url_refused"


def test_the_route(serve: Serve, tmp_path: Path) -> None:
    with serve() as live:
        answer = live.client.post("/v1/predictions", json={"url": "http://8.8.8.8/a.png"})
        assert (answer.status_code, answer.json()["code"]) == (403, "url_off")
    with serve(allow_url=True) as live:
        for body, code in (
            ({"url": "http://127.0.0.1/a.png"}, "url_refused"),
            ({"url": 3}, "bad_field"),
            ({"url": "http://8.8.8.8", "whole": "yes"}, "bad_field"),
            ([], "bad_field"),
        ):
            answer = live.client.post("/v1/predictions", json=body)
            assert answer.json()["code"] == code
        headers = {"Content-Type": "application/json"}
        answer = live.client.post("/v1/predictions", content=b"{", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
        assert list(live.service.folder.iterdir()) == []
