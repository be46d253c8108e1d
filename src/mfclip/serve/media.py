"""Tell pictures from videos before anything is decoded."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TypeAlias

from mfclip.media.sniff import HEAD, image_format, sniff
from mfclip.serve.problem import Problem

MediaKind: TypeAlias = Literal["picture", "video"]


def recognise(path: Path) -> MediaKind:
    """Tell from its first bytes whether a file is a picture or a video.

    Only binary formats pass that hold their pictures themselves: FFmpeg also reads playlists, which
    could name other files and addresses.

    Raises:
        Problem: 415, it is neither.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
    if image_format(head) == "HEIF" and find_spec("pillow_heif") is None:
        raise Problem(415, "not_media", "HEIC is not read by this server; save it as JPEG or PNG")
    kind = sniff(head)
    if kind is not None:
        return "picture" if kind == "picture" else "video"
    detail = (
        "neither a picture nor a video that is read; expected JPEG, PNG, WebP, AVIF, TIFF, BMP, "
        "GIF or PPM, or MP4, MOV, MKV, WebM, AVI, MPEG, FLV, WMV or Ogg"
    )
    raise Problem(415, "not_media", detail if head else "the file is empty (0 bytes)")
