"""One connection of the server: how long it may be silent, and which one gives way to others.

uvicorn itself drops a connection between two requests only: one that sends nothing, a head that
never ends, a body that nobody reads and an answer that nobody fetches hold their place for ever. A
reverse proxy would bound all that, but most of these servers stand alone.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

FETCH_SECONDS = 30.0
"""Time in which a client must fetch 48 KiB of an answer that does not fit the system's buffers."""


class Connection(H11Protocol):
    """HTTP/1.1 that waits for a request no longer than ``timeout_keep_alive``, and for a reader.

    Of more connections than ``limit_concurrency`` the one that has been without a request longest
    gives way to the newest, so that silent ones do not keep others out.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.idle_since = 0.0
        self._silence: asyncio.TimerHandle | None = None
        self._fetching: asyncio.TimerHandle | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered."""
        return self._silence is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; another connection may have to end for it."""
        super().connection_made(cast("asyncio.Transport", transport))
        self._wait_for_request()
        # uvicorn answers 503 once as many as the limit are open, this one included
        while self.limit_concurrency and len(self.connections) >= self.limit_concurrency:
            others = (c for c in self.connections if isinstance(c, Connection) and c is not self)
            oldest = min((c for c in others if c.is_idle), key=_idle_since, default=None)
            if oldest is None:
                break
            oldest.drop()

    def data_received(self, data: bytes) -> None:
        """Take in bytes: only a whole head stops the clock."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """Wait for the next request; what is left of this one's body must come in that time too."""
        answered = self.cycle
        self._wait_for_request()
        super().on_response_complete()
        if self.cycle is not answered:  # the next one had come already
            self._stop_waiting()

    def pause_writing(self) -> None:
        """Wait for the client to fetch its answer."""
        super().pause_writing()
        if self._fetching is None:
            self._fetching = self.loop.call_later(FETCH_SECONDS, self.drop)

    def resume_writing(self) -> None:
        """Stop waiting for that."""
        super().resume_writing()
        if self._fetching is not None:
            self._fetching.cancel()
            self._fetching = None

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._stop_waiting()
        super().connection_lost(exc)
        if self._fetching is not None:
            self._fetching.cancel()

    def drop(self) -> None:
        """End at once, whatever is still to be sent."""
        self._stop_waiting()
        self.connections.discard(self)
        self.transport.abort()

    def _wait_for_request(self) -> None:
        self._stop_waiting()
        self.idle_since = self.loop.time()
        self._silence = self.loop.call_later(self.timeout_keep_alive, self.drop)

    def _stop_waiting(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None


def _idle_since(connection: Connection) -> float:
    return connection.idle_since
