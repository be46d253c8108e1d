"""Files written by Pillow and PyAV under wrong names."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from films import draw, encode
from mfclip.media.sniff import is_video


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "gif", "bmp", "tiff", "avif"])
def test_a_picture_is_one_under_the_name_of_a_film(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "film.mp4"
    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(path, kind)
    assert not is_video(path, by_name=True)


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "avi", "ts", "mpg", "flv", "webm", "wmv"])
def test_a_film_is_one_under_the_name_of_a_picture(tmp_path: Path, ending: str) -> None:
    film = tmp_path / f"film.{'mkv' if ending == 'webm' else ending}"
    encode(film, [draw((10, 10, 20, 90))] * 3)
    assert is_video(film.rename(tmp_path / "picture.jpg"), by_name=False)


@pytest.mark.parametrize("content", [b"", b"hello", None])
@pytest.mark.parametrize("by_name", [True, False])
def test_else_the_name_decides(tmp_path: Path, content: bytes | None, by_name: bool) -> None:
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    assert is_video(tmp_path / "file", by_name=by_name) == by_name


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
@pytest.mark.timeout(60)
def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "film.mp4")
    assert is_video(tmp_path / "film.mp4", by_name=True)
