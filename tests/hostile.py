"""Small files that ask for much: what a stranger may send, made on the spot."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def jpeg_of_scans(width: int, height: int, scans: int) -> bytes:
    """A valid progressive grey JPEG whose coefficients come in many scans, all of them zero.

    Every scan after the first is some runs of 32,767 empty blocks, 15 bits each (ITU-T T.81,
    section G.1.2.2), so that a thousand scans take a few kilobytes.
    """

    def segment(marker: int, data: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data

    one_code = bytes([1] + [0] * 15)  # a single code, of one bit
    blocks = -(-width // 8) * -(-height // 8)
    runs = -(-blocks // 32_767)
    bits = "011111111111111" * runs
    bits += "1" * (-len(bits) % 8)
    body = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")
    scan = segment(0xDA, bytes([1, 1, 0, 1, 63, 0])) + body
    return b"".join((
        b"\xff\xd8",
        segment(0xDB, b"\0" + bytes([1] * 64)),
        segment(0xC2, struct.pack(">BHHB", 8, height, width, 1) + bytes([1, 0x11, 0])),
        segment(0xC4, b"\x00" + one_code + b"\x00"),
        segment(0xC4, b"\x10" + one_code + b"\xe0"),
        segment(0xDA, bytes([1, 1, 0, 0, 0, 0])) + bytes(-(-blocks // 8)),
        scan * (scans - 1),
        b"\xff\xd9",
    ))  # fmt: skip


def png(width: int, height: int, *, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG put together by hand (PNG specification, sections 5 and 11)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def claim_size(content: bytes, width: int, height: int) -> bytes:
    """Let a JPEG, WebP (lossy), AVIF or HEIC say in its header that it is of another size."""
    data = bytearray(content)
    if data[:2] == b"\xff\xd8":
        at = next(i for i in range(len(data)) if data[i] == 0xFF and data[i + 1] in {0xC0, 0xC2})
        data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    elif data[:4] == b"RIFF":
        at = data.index(b"\x9d\x01\x2a")
        data[at + 3 : at + 7] = struct.pack("<HH", width, height)
    else:
        at = data.index(b"ispe")
        data[at + 8 : at + 16] = struct.pack(">II", width, height)
    return bytes(data)


def corrupt_jpeg(image: np.ndarray, *, share: float = 0.5, **options: object) -> bytes:
    """A JPEG cut short and closed with an end marker, which Pillow decodes without a word."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", **options)
    content = buffer.getvalue()
    return content[: int(share * len(content))] + b"\xff\xd9"
