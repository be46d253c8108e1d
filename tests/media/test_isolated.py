"""Images read in a process that can be ended: the same images, and bounds that hold."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hostile import corrupt_jpeg, jpeg_of_scans
from mfclip.errors import InputError
from mfclip.media.images import MAX_SCANS, ImageFile, NotAnImageError, open_image
from mfclip.media.isolated import IsolatedReader

RNG = np.random.default_rng(0)
PICTURE = np.asarray(
    Image.fromarray(RNG.integers(0, 256, (10, 14, 3), np.uint8)).resize((140, 100))
)


def encode(format_: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PICTURE).save(buffer, format_, **options)
    return buffer.getvalue()


def same(one: ImageFile, other: ImageFile) -> bool:
    left, right = asdict(one), asdict(other)
    np.testing.assert_array_equal(left.pop("pixels"), right.pop("pixels"))
    return left == right


def test_reads_as_without_a_process(tmp_path: Path) -> None:
    with IsolatedReader(count=1) as reader:
        for format_ in ("JPEG", "PNG", "AVIF", "TIFF"):
            path = tmp_path / f"täst.{format_.lower()}"
            path.write_bytes(encode(format_))
            assert same(reader.read(path), open_image(path))
            assert same(reader.read(path.read_bytes()), open_image(path.read_bytes()))
        corrupt = corrupt_jpeg(PICTURE)
        assert "Corrupt JPEG data" in reader.read(corrupt).damage
        assert same(reader.read(corrupt), open_image(corrupt))


def test_refuses_in_the_same_words(tmp_path: Path) -> None:
    film = tmp_path / "film.jpg"
    film.write_bytes(b"\0\0\0\x18ftypisom" + bytes(100))
    text = tmp_path / "text.jpg"
    text.write_text("hello")
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(encode("JPEG")[:200])
    with IsolatedReader(count=1, max_pixels=140 * 99) as reader:
        for path in (film, text, cut, tmp_path / "absent.jpg", tmp_path):
            with pytest.raises(InputError) as expected:
                open_image(path)
            with pytest.raises(InputError) as found:
                reader.read(path)
            assert str(found.value) == str(expected.value)
            assert type(found.value) is type(expected.value)
            if isinstance(found.value, NotAnImageError):
                assert found.value.is_video == (path == film)
        with pytest.raises(InputError, match=r"the image: 140 x 100 pixels, more than the 13,860"):
            reader.read(encode("PNG"))


def test_takes_its_time_and_no_more() -> None:
    slow = jpeg_of_scans(5000, 5000, MAX_SCANS)
    with IsolatedReader(count=1, seconds=0.5) as reader:
        reader.start()
        begun = time.monotonic()
        with pytest.raises(InputError, match=r"the image: decoding it took longer than 0\.5 sec"):
            reader.read(slow)
        assert time.monotonic() - begun < 5
        reader.seconds = 60.0
        assert reader.read(encode("PNG")).format == "PNG"  # a new process


def test_takes_its_memory_and_no_more() -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (2500, 2500), (9, 9, 9, 9)).save(buffer, "PNG")
    with IsolatedReader(count=1, memory=20 << 20, seconds=60.0) as reader:
        with pytest.raises(InputError, match="more memory than"):
            reader.read(buffer.getvalue())
        assert reader.read(encode("JPEG")).format == "JPEG"


def test_a_crash_is_told_and_the_next_image_is_read() -> None:
    with IsolatedReader(count=1, seconds=60.0) as reader:
        reader.start()
        (process,) = reader._running
        os.kill(process._process.pid, signal.SIGSEGV)
        with pytest.raises(InputError, match="made its decoder crash, or takes more memory"):
            reader.read(encode("PNG"))
        assert reader.read(encode("PNG")).format == "PNG"


def test_what_the_check_raises_ends_the_work() -> None:
    class NotWantedError(Exception):
        pass

    def check() -> None:
        raise NotWantedError

    with IsolatedReader(count=1, seconds=60.0) as reader:
        reader.start()
        with pytest.raises(NotWantedError):
            reader.read(jpeg_of_scans(5000, 5000, MAX_SCANS), check=check)
        assert reader.read(encode("PNG")).format == "PNG"


def test_closing_ends_everything_at_once() -> None:
    reader = IsolatedReader(count=1, seconds=300.0)
    reader.start()
    slow = jpeg_of_scans(5000, 5000, MAX_SCANS)
    ended: list[BaseException] = []

    def work() -> None:
        try:
            reader.read(slow)
        except RuntimeError as error:
            ended.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]  # one works, two wait
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    begun = time.monotonic()
    reader.close()
    for thread in threads:
        thread.join(timeout=20)
    assert time.monotonic() - begun < 10
    assert [str(error) for error in ended] == ["the reader was closed"] * 3
    with pytest.raises(RuntimeError, match="closed"):
        reader.read(slow)


def test_many_threads_share_few_processes() -> None:
    images = [encode("JPEG", quality=quality) for quality in range(30, 62)]
    with IsolatedReader(count=2, seconds=60.0) as reader, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(reader.read, images))
        assert len(reader._running) <= 2
    assert all(same(*pair) for pair in zip(found, map(open_image, images), strict=True))


def test_no_process_is_left_behind() -> None:
    with IsolatedReader(count=2, seconds=60.0) as reader:
        reader.start()
        numbers = [process._process.pid for process in reader._running]
        assert len(numbers) == 2
    for number in numbers:
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)
