"""The first bytes of a file -> the one decoder that is meant for it, whatever its name says.

Pillow and FFmpeg know hundreds of formats, some of which start other programs (EPS) or name other
files and addresses (playlists). Only a format that is listed here is ever handed to them, and with
its name, so that they try no other.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, TypeAlias

ImageFormat: TypeAlias = Literal["AVIF", "BMP", "GIF", "HEIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"]
"""Image formats that are read, by Pillow's names."""

HEAD = 400
"""Bytes that are looked at."""

_IMAGES: tuple[tuple[ImageFormat, re.Pattern[bytes]], ...] = (
    ("JPEG", re.compile(rb"\xff\xd8\xff")),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("GIF", re.compile(rb"GIF8[79]a")),
    ("WEBP", re.compile(rb"RIFF....WEBP", re.DOTALL)),
    ("TIFF", re.compile(rb"II[*+]\x00|MM\x00[*+]")),
    ("PPM", re.compile(rb"P[1-6]\s")),
    # two letters alone would also be a text: the size of the header that follows has to fit
    ("BMP", re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\x00\x00\x00", re.DOTALL)),
)

_VIDEOS: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    ("matroska", re.compile(rb"\x1a\x45\xdf\xa3")),
    ("avi", re.compile(rb"RIFF....AVI ", re.DOTALL)),
    ("flv", re.compile(rb"FLV")),
    ("mpeg", re.compile(rb"\x00\x00\x01\xba")),
    ("mpegvideo", re.compile(rb"\x00\x00\x01\xb3")),
    ("asf", re.compile(rb"\x30\x26\xb2\x75")),
    ("ogg", re.compile(rb"OggS")),
    # streams without a container begin with their parameters, or with a mark before each frame
    ("h264", re.compile(rb"\x00\x00\x00?\x01[\x09\x27\x47\x67]")),
    ("hevc", re.compile(rb"\x00\x00\x00?\x01[\x40\x46]\x01")),
    # packets of 188 bytes, or of 192 with a time before each (cameras); all begin with 0x47
    ("mpegts", re.compile(rb"\x47.{187}\x47|.{4}\x47.{191}\x47", re.DOTALL)),
    # QuickTime files that are older than the box `ftyp`
    ("mov", re.compile(rb"....(?:moov|mdat|wide|free|skip|pnot)", re.DOTALL)),
)

_AVIF = {b"avif", b"avis"}
_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
_RAW = {b"crx "}
"""Brands of ISO base media files that hold images; the others hold videos, but for raw photos."""


def image_format(head: bytes) -> ImageFormat | None:
    r"""Tell an image's format from the first `HEAD` bytes; None for anything else.

    Example:
        >>> image_format(b"\x89PNG\r\n\x1a\n"), image_format(b"%!PS-Adobe-3.0 EPSF-3.0")
        ('PNG', None)
    """
    brands = _brands(head)
    if brands & (_AVIF | _HEIF):
        return "AVIF" if brands & _AVIF else "HEIF"
    return next((name for name, begin in _IMAGES if begin.match(head)), None)


def video_format(head: bytes) -> str | None:
    """Tell the name of FFmpeg's demuxer from the first `HEAD` bytes; None for no video.

    Example:
        >>> video_format(b"....ftypisom"), video_format(b"#EXTM3U")
        ('mov', None)
    """
    if brands := _brands(head):
        return None if brands & (_AVIF | _HEIF | _RAW) else "mov"
    return next((name for name, begin in _VIDEOS if begin.match(head)), None)


def sniff(head: bytes) -> Literal["picture", "video"] | None:
    r"""Return ``picture``, ``video``, or None for neither, from the first `HEAD` bytes.

    Example:
        >>> sniff(b"\x89PNG\r\n\x1a\n"), sniff(b"....ftypisom"), sniff(b"hello")
        ('picture', 'video', None)
    """
    if image_format(head) is not None:
        return "picture"
    return None if video_format(head) is None else "video"


def is_video(path: Path, *, by_name: bool) -> bool:
    """Tell by its first bytes whether a file is a video.

    Args:
        path: a file; one that cannot be opened counts as one whose bytes say nothing, and so does a
            pipe, which may never be written to.
        by_name: the answer where the bytes say nothing.
    """
    if not path.is_file():
        return by_name
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return by_name
    kind = sniff(head)
    return by_name if kind is None else kind == "video"


def _brands(head: bytes) -> set[bytes]:
    """Major and compatible brands of an ISO base media file (ISO/IEC 14496-12, section 4.3)."""
    if head[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))}
