"""The first bytes of a file -> picture, video or neither, whatever its name says."""

from __future__ import annotations

from pathlib import Path

HEAD = 400
"""Bytes that are looked at."""

PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*")
"""Beginnings of JPEG, PNG, GIF, BMP and TIFF."""

VIDEOS = (b"\x1a\x45\xdf\xa3", b"FLV", b"\0\0\1\xba", b"\0\0\1\xb3", b"\x30\x26\xb2\x75", b"OggS")
"""Beginnings of Matroska and WebM, Flash, MPEG program and elementary streams, ASF, Ogg."""

STILL_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
"""Brands of ISO base media files that hold pictures; the others hold videos."""

TS_PACKET = 188
"""Bytes of a packet of an MPEG transport stream; each begins with 0x47."""


def is_video(path: Path, *, by_name: bool) -> bool:
    """Tell by its first bytes whether a file is a video.

    Args:
        path: a file; one that cannot be opened counts as one whose bytes say nothing.
        by_name: the answer where the bytes say nothing.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return by_name
    kind = sniff(head)
    return by_name if kind is None else kind == "video"


def sniff(head: bytes) -> str | None:
    r"""Return ``picture``, ``video``, or None for neither, from the first `HEAD` bytes.

    Example:
        >>> sniff(b"\x89PNG...."), sniff(b"....ftypisom"), sniff(b"hello")
        ('picture', 'video', None)
    """
    if head[4:8] == b"ftyp":
        return "picture" if head[8:12] in STILL_BRANDS else "video"
    if head[:4] == b"RIFF":
        return {b"WEBP": "picture", b"AVI ": "video"}.get(head[8:12])
    if head.startswith(PICTURES):
        return "picture"
    is_transport = head[:1] == head[TS_PACKET : TS_PACKET + 1] == b"\x47"
    return "video" if is_transport or head.startswith(VIDEOS) else None
