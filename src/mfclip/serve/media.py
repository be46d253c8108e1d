"""Tell pictures from videos, and refuse what is too large, before anything is decoded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, TypeAlias

from PIL import Image

from mfclip.serve.problem import Problem

MediaKind: TypeAlias = Literal["picture", "video"]

HEAD_BYTES = 1024
"""Bytes at a file's beginning that tell what it is."""

TS_PACKET = 188
"""Length of an MPEG transport packet, bytes; each begins with 0x47 (ISO 13818-1)."""

_PICTURE = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|BM|II\*\0|MM\0\*|P[1-6]\s"
    rb"|....ftyp(?:avif|avis)",
    re.DOTALL,
)
_VIDEO = re.compile(
    rb"....ftyp|....(?:moov|mdat|wide|free|skip)|\x1aE\xdf\xa3|RIFF....AVI |FLV\x01"
    rb"|\x00\x00\x01[\xb3\xba]|\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    re.DOTALL,
)
_UNREAD = re.compile(rb"....ftyp(?:heic|heix|hevc|heim|heis|mif1|msf1|crx )", re.DOTALL)


def recognise(path: Path) -> MediaKind:
    """Tell from its first bytes whether a file is a picture or a video.

    Only binary formats pass that hold their pictures themselves: FFmpeg also reads playlists, which
    could name other files and addresses.

    Raises:
        Problem: 415, it is neither.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if _UNREAD.match(head):
        detail = "HEIC pictures are not read; save it as JPEG or PNG"
        raise Problem(415, "not_media", detail)
    if _PICTURE.match(head):
        return "picture"
    if _VIDEO.match(head) or _is_transport_stream(head):
        return "video"
    detail = (
        "neither a picture nor a video that is read; expected JPEG, PNG, WebP, AVIF, TIFF, BMP, "
        "GIF or PPM, or MP4, MOV, MKV, WebM, AVI, MPEG, FLV or WMV"
    )
    raise Problem(415, "not_media", detail if head else "the file is empty (0 bytes)")


def check_picture_size(path: Path, max_pixels: int) -> None:
    """Refuse a picture whose header names too many pixels; damage is left to the decoder.

    Raises:
        Problem: 422, more than `max_pixels`.
    """
    found = ""
    try:
        with Image.open(path) as image:
            width, height = image.size
        if width * height <= max_pixels:
            return
        found = f"{width} x {height} pixels, "
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        pass
    except Exception:  # headers of damaged files raise errors of every kind
        return
    detail = f"{found}more than the {max_pixels:,} pixels that this server reads; scale it down"
    raise Problem(422, "unreadable", detail)


def _is_transport_stream(head: bytes) -> bool:
    starts = head[::TS_PACKET]
    return len(starts) > 2 and set(starts) == {0x47}  # noqa: PLR2004 - two may be by chance
