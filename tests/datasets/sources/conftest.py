"""Small trees with real file names and tiny real media."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

Plant = Callable[..., Path]


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One 16x16 picture or two-frame video for each ending, as bytes."""
    return {
        ".mp4": _video(tmp_path_factory.mktemp("media") / "tiny.mp4"),
        ".png": _picture("PNG"),
        ".jpg": _picture("JPEG"),
    }


@pytest.fixture
def plant(tmp_path: Path, media: dict[str, bytes]) -> Plant:
    """Write files below a folder: media by their ending, others with the given text."""

    def write(*names: str, **texts: str) -> Path:
        root = tmp_path / "copy"
        root.mkdir(exist_ok=True)
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(media.get(path.suffix, b"no image, no video"))
        for name, text in texts.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return root

    return write


def _picture(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 120, 90)).save(buffer, kind)
    return buffer.getvalue()


def _video(path: Path) -> bytes:
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        for level in (60, 180):
            array = np.full((16, 16, 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode(None))
    return path.read_bytes()
