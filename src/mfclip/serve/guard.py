"""What stands before every route: who may ask, from where, and what every answer carries."""

from __future__ import annotations

import hmac
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mfclip.serve.metrics import Metrics
from mfclip.serve.problem import Problem

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""On every answer, unless the route sets its own."""

OPEN_PATHS = frozenset({"/", "/v1/health", "/openapi.json"})
"""Answered without a key, as is what lies under `PAGE_FILES`."""

PAGE_FILES = "/page/"

PIECE = 64 * 1024
"""Bytes of an answer that are handed to a connection at once."""

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

OWN_SITES = frozenset({"same-origin", "none"})
"""Values of ``Sec-Fetch-Site`` of requests that no other web site caused (W3C Fetch Metadata)."""

PORTS = {"http": ":80", "https": ":443"}
"""How the usual ports stand in an address that names them all the same."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask.

    Attributes:
        key: demanded of everybody; None for no key.
        hosts: names in the ``Host`` header that are answered; None for all.
    """

    key: str | None = None
    hosts: Collection[str] | None = None


class Guard:
    """Refuse strangers, count requests, add headers.

    Args:
        app: what is guarded.
        access: who may ask.
        metrics: what is counted.
    """

    def __init__(self, app: ASGIApp, access: Access, metrics: Metrics) -> None:
        self.app = app
        self.access = access
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = time.perf_counter()
        status = 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            for part in _in_pieces(message):
                await send(part)

        try:
            problem = find_problem(scope, self.access)
            app = problem.response() if problem else self.app
            await app(scope, receive, send_with_headers)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, _method(scope), str(status)).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - begun)


def _in_pieces(message: Message) -> Iterator[Message]:
    """Cut a long body: what a client is slow to fetch stays here once, not once a connection."""
    body = message.get("body", b"")
    if message["type"] != "http.response.body" or len(body) <= PIECE:
        yield message
        return
    for first in range(0, len(body), PIECE):
        is_last = first + PIECE >= len(body)
        more = message.get("more_body", False) or not is_last
        yield {**message, "body": body[first : first + PIECE], "more_body": more}


def find_problem(scope: Scope, access: Access) -> Problem | None:
    """Say why a request is refused; None if it is not."""
    headers = Headers(scope=scope)
    if access.hosts is not None and host_name(headers.get("host", "")) not in access.hosts:
        detail = "this server is not known by that name; start it with --allow-host to add one"
        return Problem(421, "wrong_host", detail)
    if scope["method"] not in {"GET", "HEAD"} and not _is_own_site(headers, access):
        return Problem(403, "cross_site", "requests on behalf of other web sites are refused")
    if access.key is None or _is_open(scope["path"]):
        return None
    scheme, _, given = headers.get("authorization", "").partition(" ")
    known = hmac.compare_digest(given.strip().encode(), access.key.encode())
    if scheme.lower() == "bearer" and known:
        return None
    detail = "expected the header 'Authorization: Bearer KEY' with this server's key"
    return Problem(401, "key_needed", detail, {"WWW-Authenticate": "Bearer"})


def _is_own_site(headers: Headers, access: Access) -> bool:
    """Tell whether no other web site caused a request, as far as a browser says so.

    Browsers send ``Sec-Fetch-Site`` over TLS and to the machine itself only, ``Origin`` always. A
    request with neither comes from another program.
    """
    if (site := headers.get("sec-fetch-site")) is not None:
        return site in OWN_SITES
    if (origin := headers.get("origin")) is None:
        return True
    scheme, _, place = origin.lower().partition("://")
    own = headers.get("host", "").lower()
    port = PORTS.get(scheme, "")
    if not place:  # "null": a page without an address of its own
        return False
    # a server in front may name another host to this one: then the name that it was given counts
    named = set(access.hosts or ()) - LOOPBACK
    return place.removesuffix(port) == own.removesuffix(port) or host_name(place) in named


def host_name(host: str) -> str:
    """Return a ``Host`` header without its port.

    Example:
        >>> host_name("localhost:8000"), host_name("[::1]:8000"), host_name("Example.org")
        ('localhost', '::1', 'example.org')
    """
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(PAGE_FILES)


def _method(scope: Scope) -> str:
    """Return the method, or one word for all made-up ones: each new one would take memory."""
    known = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
    return scope["method"] if scope["method"] in known else "other"
