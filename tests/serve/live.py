"""A live server on loopback, and the client that asks it."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from PIL import Image

from mfclip.predict.predictor import Predictor
from mfclip.serve.app import create_app
from mfclip.serve.guard import Access
from mfclip.serve.limits import Limits
from mfclip.serve.server import Server, bind
from mfclip.serve.service import Service

WAIT = 60.0
"""Seconds after which anything on loopback counts as hung."""


@dataclass
class Live:
    """A running server, and a client for it."""

    service: Service
    client: httpx.Client
    url: str
    server: Server

    def judge(self, content: bytes, name: str = "a.png", **fields: Any) -> httpx.Response:
        data = {key.rstrip("_"): str(value).lower() for key, value in fields.items()}
        return self.client.post("/v1/predictions", files={"file": (name, content)}, data=data)

    def finish(self, answer: httpx.Response) -> dict[str, Any]:
        """Ask for a job until it is over."""
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            job: dict[str, Any] = self.client.get(answer.headers["location"]).json()
            if job["status"] in {"done", "failed"}:
                return job
            time.sleep(0.02)
        raise TimeoutError("the job does not end")


Serve = Callable[..., AbstractContextManager[Live]]


@contextmanager
def run_server(
    predictor: Predictor,
    limits: Limits | None = None,
    access: Access | None = None,
    **options: Any,
) -> Iterator[Live]:
    service = Service(predictor, limits, **options)
    server = Server(create_app(service, access), service)
    (door,) = bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{door.getsockname()[1]}"
    thread = threading.Thread(target=server.run, args=([door],), daemon=True)
    thread.start()
    end = time.monotonic() + WAIT
    while not server.started and time.monotonic() < end:
        time.sleep(0.005)
    assert server.started, "the server does not start"
    try:
        with httpx.Client(base_url=url, timeout=WAIT, trust_env=False) as client:
            yield Live(service, client, url, server)
    finally:
        server.should_exit = True
        thread.join(WAIT)
        assert not thread.is_alive(), "the server does not stop"


def picture_bytes(number: int = 0, size: tuple[int, int] = (48, 40), kind: str = "PNG") -> bytes:
    """Return a coloured, textured picture that differs for every number."""
    rng = np.random.default_rng(number)
    ramp = np.linspace(0, 150, size[0])[None, :, None]
    noise = rng.integers(0, 20 + 8 * (number % 10), (size[1], size[0], 3))
    pixels = (ramp + noise).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()
