"""Tell pictures from videos, and refuse what is too large, before anything is decoded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, TypeAlias

from PIL import Image

from mfclip.media.images import BYTES_PER_PIXEL
from mfclip.media.sniff import HEAD, sniff
from mfclip.serve.problem import Problem

MediaKind: TypeAlias = Literal["picture", "video"]

PLAIN = re.compile(rb"P[1-6]\s")
"""Beginning of the plain formats PBM, PGM and PPM."""

UNREAD = re.compile(rb"....ftyp(?:hei[cmsx]|hev[cx]|mif1|msf1|crx )", re.DOTALL)
"""Beginning of pictures coded as HEVC, and of raw ones, which are not read."""


def recognise(path: Path) -> MediaKind:
    """Tell from its first bytes whether a file is a picture or a video.

    Only binary formats pass that hold their pictures themselves: FFmpeg also reads playlists, which
    could name other files and addresses.

    Raises:
        Problem: 415, it is neither.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
    if UNREAD.match(head):
        raise Problem(415, "not_media", "HEIC pictures are not read; save it as JPEG or PNG")
    kind = "picture" if PLAIN.match(head) else sniff(head)
    if kind is not None:
        return "picture" if kind == "picture" else "video"
    detail = (
        "neither a picture nor a video that is read; expected JPEG, PNG, WebP, AVIF, TIFF, BMP, "
        "GIF or PPM, or MP4, MOV, MKV, WebM, AVI, MPEG, FLV, WMV or Ogg"
    )
    raise Problem(415, "not_media", detail if head else "the file is empty (0 bytes)")


def check_picture_size(path: Path, max_pixels: int) -> None:
    """Refuse a picture whose header names too many pixels; damage is left to the decoder.

    Raises:
        Problem: 422, more than `max_pixels`.
    """
    found = ""
    try:
        with Image.open(path, formats=tuple(BYTES_PER_PIXEL)) as image:
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
