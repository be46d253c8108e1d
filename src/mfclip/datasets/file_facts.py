"""What `doctor` needs to know of a picture file, read once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mfclip.datasets.duplicates import hash_image
from mfclip.errors import InputError, MissingExtraError
from mfclip.media.images import open_image
from mfclip.media.video import check_ends


@dataclass(frozen=True, slots=True)
class Facts:
    """One file's outside, or why it could not be read.

    Attributes:
        problem: why it could not be read; empty when it could, and then the rest is set.
        absent: there is no such file.
        content: equal for equal files.
        look: perceptual hash, four 64-bit words.
        format: Pillow's name, e.g. ``JPEG``; ``video`` for a video that was opened.
        width: pixels, upright.
        height: pixels, upright.
    """

    problem: str = ""
    absent: bool = False
    content: bytes = b""
    look: tuple[int, ...] = ()
    format: str = ""
    width: int = 0
    height: int = 0


def read_video_facts(path: Path) -> Facts:
    """Open one video, if PyAV is there to do so; a damaged or absent file is reported."""
    try:
        check_ends(path)
    except MissingExtraError:
        return Facts() if path.is_file() else Facts("no such file", absent=True)
    except InputError as error:
        return Facts(str(error).removeprefix(f"{path}: "), absent=not path.is_file())
    return Facts(format="video")


def read_facts(path: Path) -> Facts:
    """Read and decode one file; a damaged or absent file is reported, not raised."""
    try:
        image = open_image(path)
    except (InputError, MissingExtraError) as error:
        problem = str(error).removeprefix(f"{path}: ")
        return Facts(problem, absent=not path.is_file() and not path.is_symlink())
    if image.damage:
        return Facts(f"the image is damaged ({image.damage})")
    height, width = image.pixels.shape[:2]
    look = tuple(int(word) for word in hash_image(image.pixels))
    return Facts("", False, bytes.fromhex(image.sha256)[:16], look, image.format, width, height)
