"""JPEG quality against what Pillow was told to save with."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mfclip.media.jpeg import jpeg_quality, save_as_jpeg, shared_quality


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
    assert jpeg_quality(saved(face, quality, **options)) == pytest.approx(quality, abs=1)


def test_other_formats_have_no_quality(tmp_path: Path, face: np.ndarray) -> None:
    for name in ("a.png", "a.webp", "a.gif"):
        Image.fromarray(face).save(tmp_path / name)
        assert jpeg_quality(tmp_path / name) is None


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
