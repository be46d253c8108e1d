"""The server itself: the address it takes, what it says once it listens, and how it ends."""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from mfclip.errors import ConfigError
from mfclip.serve.connection import Connection
from mfclip.serve.service import Service

CONNECTIONS = 512
"""Open at the same time, at most."""

END_SECONDS = 3
"""How long an answer under way may take when the server is told to stop."""

LAST_SECONDS = 10.0
"""After which the process ends whatever still hangs: what asked it to stop would kill it next."""


def bind(host: str, port: int) -> list[socket.socket]:
    """Take an address, without listening yet: before the model is loaded, not minutes after.

    Raises:
        ConfigError: it is taken, not of this machine, or may not be used.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        message = f"no address is known for --host {host} ({error.strerror})"
        raise ConfigError(f"{message}; name one of this machine") from None
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            taken = socket.socket(family, kind, protocol)
            sockets.append(taken)
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:  # 0.0.0.0 has a socket of its own
                taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            taken.bind(address)
    except OSError as error:
        for taken in sockets:
            taken.close()
        raise ConfigError(_why_not(error, host, port)) from None
    return sockets


def _why_not(error: OSError, host: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} of {host} is taken by another program; use another --port"
        case errno.EACCES:
            return f"port {port} needs rights that this user lacks; use one from 1024 upwards"
        case _:
            reason = f"cannot listen on {host}, port {port} ({error.strerror})"
            return f"{reason}; check --host and --port"


class Server(uvicorn.Server):
    """Serves one application until it is told to stop.

    Args:
        app: from `mfclip.serve.app.create_app`.
        service: what stands behind it.
        announce: called once it listens.
    """

    def __init__(
        self, app: ASGIApp, service: Service, announce: Callable[[], object] = lambda: None
    ) -> None:
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            access_log=False,
            log_level="error",
            server_header=False,
            proxy_headers=False,  # no address is looked at, so none has to be believed
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=service.limits.silence_seconds,  # type: ignore[arg-type]
            timeout_graceful_shutdown=END_SECONDS,
        )
        # both warn of every malformed request, so that strangers could fill the disk
        logging.getLogger("python_multipart").setLevel(logging.ERROR)
        super().__init__(config)
        self._service = service
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so.

        Raises:
            ConfigError: another server was quicker.
        """
        try:
            await super().startup(sockets)
        except OSError as error:
            await self.lifespan.shutdown()
            host, port = (sockets or [])[0].getsockname()[:2]
            raise ConfigError(_why_not(error, host, port)) from None
        self._announce()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop at a signal: in order if possible, else by force after `LAST_SECONDS`."""
        super().handle_exit(sig, frame)
        last = threading.Timer(LAST_SECONDS, self._end_now, (128 + sig,))
        last.daemon = True
        last.start()

    def _end_now(self, status: int) -> None:
        self._service.kill()
        os._exit(status)  # threads that decode or compute cannot be ended in any other way
