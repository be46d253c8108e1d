"""JPEG quality against what Pillow was told to save with."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hostile import jpeg_of_scans
from mfclip.media.images import open_image
from mfclip.media.jpeg import count_scans, save_as_jpeg, shared_quality


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8))
    return np.asarray(small.resize((128, 128), Image.Resampling.BICUBIC))


def saved(picture: np.ndarray, quality: int, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("quality", [5, 20, 30, 45, 50, 60, 75, 85, 90, 95, 100])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}])
def test_quality_is_the_one_it_was_saved_with(
    face: np.ndarray, quality: int, options: dict[str, object]
) -> None:
    assert open_image(saved(face, quality, **options)).quality == pytest.approx(quality, abs=1)


def test_other_formats_have_no_quality(tmp_path: Path, face: np.ndarray) -> None:
    for name in ("a.png", "a.webp", "a.gif"):
        Image.fromarray(face).save(tmp_path / name)
        assert open_image(tmp_path / name).quality is None


def test_saving_is_what_a_file_does(tmp_path: Path, face: np.ndarray) -> None:
    Image.fromarray(face).save(tmp_path / "a.jpg", quality=60)
    np.testing.assert_array_equal(
        save_as_jpeg(face, 60), np.asarray(Image.open(tmp_path / "a.jpg").convert("RGB"))
    )
    once = save_as_jpeg(face, 90)
    again = np.abs(save_as_jpeg(once, 90).astype(int) - once).mean()
    assert again < np.abs(once.astype(int) - face).mean()  # what was saved so changes little


def test_shared_quality_needs_all_files_alike(tmp_path: Path, face: np.ndarray) -> None:
    paths = [tmp_path / f"{i}.jpg" for i in range(3)]
    for path in paths:
        path.write_bytes(saved(face, 90))
    assert shared_quality(paths, 128) == 90
    assert shared_quality(paths, 256) is None
    assert shared_quality([], 128) is None
    paths[1].write_bytes(saved(face, 80))
    assert shared_quality(paths, 128) is None
    Image.fromarray(face).save(paths[1], "PNG")
    assert shared_quality(paths, 128) is None
    assert shared_quality([*paths[:1], tmp_path / "absent.jpg"], 128) is None


def test_scans_are_counted_as_a_decoder_meets_them(face: np.ndarray) -> None:
    plain, progressive = saved(face, 90), saved(face, 90, progressive=True)
    assert count_scans(plain) == 1
    assert count_scans(progressive) == 10  # libjpeg's script for colour
    assert count_scans(jpeg_of_scans(64, 64, 77)) == 77
    preview = plain[:2] + b"\xff\xe1" + (len(progressive) + 2).to_bytes(2, "big") + progressive
    assert count_scans(preview + plain[2:]) == 1  # what lies in a segment is not decoded
    assert count_scans(plain + progressive) == 1  # nor what lies behind the end
    restarts = saved(face, 90, restart_marker_rows=1)
    assert count_scans(restarts) == 1
    filled = progressive.replace(b"\xff\xda", b"\xff\xff\xff\xda")  # bytes that fill up
    assert count_scans(filled) == 10
    assert count_scans(b"") == count_scans(b"\xff\xd8") == 0
