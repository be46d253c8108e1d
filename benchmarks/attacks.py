"""What an attacker sends: small files that cost their reader much, and senders that never end.

Made on the spot, bounded in size; sent to servers on loopback only (`serve_fuzz.py`, the tests).
"""

from __future__ import annotations

import contextlib
import io
import socket
import threading
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


FORM = {"Content-Type": "multipart/form-data; boundary=cut"}
"""Headers of the forms below."""

_FILE = b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'


def many_fields(count: int = 20_000) -> bytes:
    """Make a form whose file comes after so many empty fields; see `FORM`."""
    fields = (
        b'--cut\r\nContent-Disposition: form-data; name="a%d"\r\n\r\n\r\n' % n for n in range(count)
    )
    return b"".join(fields) + _FILE + photograph(16) + b"\r\n--cut--\r\n"


def nested_json(depth: int = 100_000) -> bytes:
    """Make JSON that sends a recursive reader to the end of its stack."""
    return b'{"a":' * depth + b"1" + b"}" * depth


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
    head = (
        f"POST /v1/predictions HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n"
        f"Content-Type: {FORM['Content-Type']}\r\nContent-Length: 1000000\r\n\r\n"
    )
    with silent_connections(url, count) as lines:
        for line in lines:
            line.sendall(head.encode() + _FILE + b"\xff\xd8")
        yield lines


@contextlib.contextmanager
def dripping_uploads(url: str, count: int) -> Iterator[list[socket.socket]]:
    """Begin the same uploads, and send a byte of each every half second."""
    left = threading.Event()

    def drip() -> None:
        while not left.wait(0.5):
            for line in lines:
                with contextlib.suppress(OSError):  # the server closed it
                    line.sendall(b"x")

    with stalled_uploads(url, count) as lines:
        thread = threading.Thread(target=drip)
        thread.start()
        try:
            yield lines
        finally:
            left.set()
            thread.join(10)


def _connect(url: str) -> socket.socket:
    place = urlsplit(url)
    return socket.create_connection((place.hostname, place.port), 10)
