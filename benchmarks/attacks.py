"""What an attacker sends: small files that cost their reader much, and senders that never end.

Made on the spot, bounded in size; sent to servers on loopback only (`serve_fuzz.py`, the tests).
"""

from __future__ import annotations

import contextlib
import io
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

_START_OF_SCAN, _END = b"\xff\xda", b"\xff\xd9"
_PROGRESSIVE_FRAME = b"\xff\xc2"


def many_scans(count: int = 20_000, side: int = 7000) -> bytes:
    """Make a progressive JPEG whose last pass over the image comes again and again.

    Some 60 bytes a pass, and each makes libjpeg walk over all `side` x `side` pixels.
    """
    buffer = io.BytesIO()
    Image.new("L", (16, 16), 100).save(buffer, "JPEG", progressive=True, quality=50)
    content = buffer.getvalue()
    frame = content.index(_PROGRESSIVE_FRAME) + 5  # marker, length, bits a sample; then the size
    size = side.to_bytes(2, "big") * 2
    content = content[:frame] + size + content[frame + 4 :]
    last = content.rindex(_START_OF_SCAN)
    scan = content[last : content.rindex(_END)]
    return content[:last] + scan * count + _END


def flat_avif(side: int = 7000) -> bytes:
    """Make a few kilobytes of AVIF that become `side` x `side` pixels, several times over."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (90, 120, 150)).save(buffer, "AVIF", speed=10, quality=10)
    return buffer.getvalue()


def photograph(side: int = 256) -> bytes:
    """Make an honest JPEG, of noise."""
    pixels = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


@contextlib.contextmanager
def silent_connections(url: str, count: int) -> Iterator[list[socket.socket]]:
    """Open connections and send nothing."""
    with contextlib.ExitStack() as lines:
        yield [lines.enter_context(_connect(url)) for _ in range(count)]


@contextlib.contextmanager
def stalled_uploads(url: str, count: int) -> Iterator[list[socket.socket]]:
    """Begin uploads of a megabyte and stop after the first bytes."""
    part = b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n\xff\xd8'
    head = (
        f"POST /v1/predictions HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n"
        "Content-Type: multipart/form-data; boundary=cut\r\nContent-Length: 1000000\r\n\r\n"
    )
    with silent_connections(url, count) as lines:
        for line in lines:
            line.sendall(head.encode() + part)
        yield lines


def _connect(url: str) -> socket.socket:
    place = urlsplit(url)
    return socket.create_connection((place.hostname, place.port), 10)
