"""Fetch a file from a public address, and from no other."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from mfclip.serve.problem import Problem

CHUNK = 64 * 1024
SILENCE = 10.0
"""Seconds for which the other server may say nothing."""

PORTS = {"http": 80, "https": 443}


def is_public(address: str) -> bool:
    """Tell whether an IP address can be reached by everybody.

    Example:
        >>> is_public("1.1.1.1"), is_public("127.0.0.1"), is_public("::ffff:10.0.0.1")
        (True, False, False)
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None) or ip
    if getattr(ip, "teredo", None) or ip in ipaddress.ip_network("64:ff9b::/96"):
        return False
    return bool(ip.is_global and inner.is_global and not ip.is_multicast)


def fetch(
    url: str,
    target: Path,
    *,
    max_bytes: int,
    seconds: float,
    allow: Callable[[str, int], bool] | None = None,
) -> None:
    """Write what an address answers to a file.

    The name is looked up once, and the address found is the one that is used.

    Args:
        url: ``http`` or ``https``, on the usual port, without user or password.
        target: file to write.
        max_bytes: of the answer.
        seconds: for all of it.
        allow: IP address and port -> may it be asked; None for public addresses on usual ports.

    Raises:
        Problem: 403, the address is refused; 413, too large; 502, no answer, or not 200.
    """
    end = time.monotonic() + seconds
    parts = _split(url)
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    address = _look_up(host, port, allow or _may_ask)
    try:
        with _connect(parts.scheme, host, address, port) as connection, _ended(connection, end):
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", path, headers={"Accept": "image/*, video/*"})
            with connection.getresponse() as answer:
                if answer.status != HTTPStatus.OK:
                    detail = f"the other server answered {answer.status}; no redirect is followed"
                    raise Problem(502, "url_failed", detail)
                _save(answer, target, max_bytes, end)
    except (OSError, http.client.HTTPException, ValueError) as error:
        detail = f"the other server gave no proper answer ({type(error).__name__})"
        raise Problem(502, "url_failed", detail) from None


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise _refused("it is no well-formed address") from None
    if parts.scheme not in PORTS or not parts.hostname:
        raise _refused("expected http:// or https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise _refused("it holds a user or password")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise _refused("it holds characters that have to be escaped")
    return parts


def _may_ask(address: str, port: int) -> bool:
    return is_public(address) and port in PORTS.values()


def _look_up(host: str, port: int, allow: Callable[[str, int], bool]) -> str:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Problem(502, "url_failed", "no such host is known") from None
    addresses = [str(entry[4][0]) for entry in found]
    if not addresses or not all(allow(address, port) for address in addresses):
        raise _refused("only public addresses on the usual ports are asked")
    return addresses[0]


class _Connection(http.client.HTTPConnection):
    """Connects to the address that was checked, under the host's name.

    Args:
        host: name, for the Host header and the certificate.
        address: IP address.
        port: of the other server.
        context: for TLS; None for none.
    """

    def __init__(self, host: str, address: str, port: int, context: ssl.SSLContext | None) -> None:
        super().__init__(host, port, timeout=SILENCE)
        self._address = address
        self._context = context
        self.line: socket.socket | None = None

    def connect(self) -> None:
        """Open the connection."""
        self.sock = socket.create_connection((self._address, self.port), SILENCE)
        if self._context:
            self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host)
        self.line = self.sock  # the library forgets its own before the answer is read

    def __enter__(self) -> _Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _connect(scheme: str, host: str, address: str, port: int) -> _Connection:
    context = ssl.create_default_context() if scheme == "https" else None
    return _Connection(host, address, port, context)


@contextmanager
def _ended(connection: _Connection, end: float) -> Iterator[None]:
    """Cut the connection when its time is over, however slowly the other server drips."""

    def cut() -> None:
        if connection.line is not None:
            with suppress(OSError):  # closed by then
                connection.line.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, end - time.monotonic()), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _save(answer: http.client.HTTPResponse, target: Path, max_bytes: int, end: float) -> None:
    size = 0
    with target.open("wb") as file:
        while chunk := answer.read1(CHUNK):
            size += len(chunk)
            if size > max_bytes:
                raise Problem(413, "too_large", f"more than the {max_bytes:,} bytes that are taken")
            file.write(chunk)
    if time.monotonic() > end:  # the connection was cut then
        raise Problem(408, "slow_upload", "the other server took too long")


def _refused(why: str) -> Problem:
    return Problem(403, "url_refused", f"this address is not asked: {why}")
