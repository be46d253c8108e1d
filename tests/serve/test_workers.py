"""Images are read as the predictor reads them, by processes that may hang, crash and be ended."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mfclip.errors import InputError
from mfclip.media.images import read_image
from mfclip.predict.face_reader import PREVIEW, FaceReader, FoundFace
from mfclip.predict.faces import DetectedFaces, WholePicture
from mfclip.serve import workers as workers_module
from mfclip.serve.workers import Workers
from serve.live import picture_bytes

WAIT = 60.0
DEMO = Path(__file__).resolve().parents[2] / "src" / "mfclip" / "assets" / "demo"
READER = FaceReader(WholePicture(check=True), resize=40, image_size=32)


@pytest.fixture
def make() -> Iterator[Callable[..., Workers]]:
    made: list[Workers] = []

    def start(reader: FaceReader = READER, **options: float) -> Workers:
        made.append(Workers(reader, **{"max_pixels": 1_000_000, "count": 2, **options}))  # type: ignore[arg-type]
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    path.write_bytes(picture_bytes(3))
    return path


def assert_same(found: list[FoundFace], expected: list[FoundFace], name: str) -> None:
    assert len(found) == len(expected) >= 1
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
        assert one.path == name
        for fact in ("box", "width", "height", "sha256", "warnings", "void", "poor"):
            assert getattr(one, fact) == getattr(other, fact)


def test_faces_are_those_that_the_reader_finds(make: Callable[..., Workers]) -> None:
    path = next(DEMO.glob("photo/*.jpg"))
    reader = FaceReader(DetectedFaces(), resize=256, image_size=224, jpeg_quality=90)
    workers = make(reader)
    found = workers.read(path, whole=False, name="x.jpg", preview=True)
    assert_same(found, reader.read(path), "x.jpg")  # type: ignore[arg-type]
    expected = Image.fromarray(read_image(path))
    expected.thumbnail((PREVIEW, PREVIEW))
    assert found[0].preview is not None
    np.testing.assert_array_equal(found[0].preview, np.asarray(expected))
    whole = workers.read(path, whole=True, name="x.jpg")
    reader = FaceReader(WholePicture(check=True), resize=256, image_size=224, jpeg_quality=90)
    assert_same(whole, reader.read(path), "x.jpg")  # type: ignore[arg-type]
    assert whole[0].preview is None


def test_what_cannot_be_read_is_told_without_the_path(
    make: Callable[..., Workers], tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(picture_bytes()[:150])
    workers = make()
    with pytest.raises(InputError, match=r"^the image is damaged"):
        workers.read(path, whole=True, name="x.png")
    Image.new("RGB", (2000, 600)).save(path)
    with pytest.raises(InputError, match=r"^2000 x 600 pixels, more than the 1,000,000"):
        workers.read(path, whole=True, name="x.png")


def test_many_threads_share_the_processes(make: Callable[..., Workers], tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(20)]
    for number, path in enumerate(paths):
        path.write_bytes(picture_bytes(number))
    workers = make()

    def read(path: Path) -> list[FoundFace]:
        return workers.read(path, whole=True, name=path.name)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(read, paths))
    for path, found in zip(paths, answers, strict=True):
        assert_same(found, READER.read(path), path.name)  # type: ignore[arg-type]
    assert len(workers._running) <= 2


def test_a_process_that_hangs_is_ended_and_replaced(
    make: Callable[..., Workers], image: Path
) -> None:
    workers = make(seconds=3.0)
    workers.start()
    old = {worker.pid for worker in workers._running}
    for pid in old:
        os.kill(pid, signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises(InputError, match="longer than 3 seconds"):
        workers.read(image, whole=True, name="a.png")
    assert 2.9 < time.monotonic() - begun < WAIT
    assert_same(workers.read(image, whole=True, name="b"), READER.read(image), "b")  # type: ignore[arg-type]
    assert len(old & {worker.pid for worker in workers._running}) == 1


def test_a_process_that_crashes_is_replaced(make: Callable[..., Workers], image: Path) -> None:
    workers = make()
    workers.start()
    for worker in workers._running.copy():
        os.kill(worker.pid, signal.SIGSEGV)
    with pytest.raises(InputError, match="made its decoder crash"):
        workers.read(image, whole=True, name="a.png")
    assert len(workers.read(image, whole=True, name="a.png")) == 1


def test_memory_is_bounded(
    make: Callable[..., Workers], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a header does not tell of meets the limit of the process, and that process only."""
    monkeypatch.setattr(workers_module, "BYTES_PER_PIXEL", {"PNG": 0})
    monkeypatch.setattr(workers_module, "SPARE", 32 << 20)
    path = tmp_path / "a.png"
    Image.new("RGB", (5000, 5000)).save(path)
    workers = make(max_pixels=30_000_000)
    with pytest.raises(InputError, match="more memory than"):
        workers.read(path, whole=True, name="a.png")
    path.write_bytes(picture_bytes())
    assert len(workers.read(path, whole=True, name="a.png")) == 1


def test_giants_leave_a_process_to_the_others(
    make: Callable[..., Workers], image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_module, "LARGE", 2000)  # the image has 1920
    giant = tmp_path / "giant.png"
    Image.new("RGB", (60, 60)).save(giant)
    workers = make()
    with ThreadPoolExecutor(4) as threads:
        assert workers._large.acquire(timeout=WAIT)  # as if one were read all the time
        try:
            waiting = [threads.submit(workers.read, giant, whole=True, name="g") for _ in range(4)]
            for _ in range(5):
                assert len(workers.read(image, whole=True, name="a")) == 1
            assert not any(one.done() for one in waiting)
        finally:
            workers._large.release()
        assert [len(one.result(WAIT)) for one in waiting] == [1] * 4


def test_what_nobody_waits_for_is_left(make: Callable[..., Workers], image: Path) -> None:
    workers = make()
    workers.start()
    for worker in workers._running:
        os.kill(worker.pid, signal.SIGSTOP)
    is_over = threading.Event()

    def check() -> None:
        if is_over.is_set():
            raise InterruptedError

    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(workers.read, image, whole=True, name="a", check=check)
        is_over.set()
        assert isinstance(reading.exception(WAIT), InterruptedError)


def test_closing_ends_what_hangs_at_once(make: Callable[..., Workers], image: Path) -> None:
    workers = make(seconds=1000.0)
    workers.start()
    pids = [worker.pid for worker in workers._running]
    os.kill(pids[0], signal.SIGSTOP)
    os.kill(pids[1], signal.SIGSTOP)
    with ThreadPoolExecutor(3) as threads:
        reading = [threads.submit(workers.read, image, whole=True, name="a") for _ in range(3)]
        end = time.monotonic() + WAIT
        while workers._free.qsize() and time.monotonic() < end:
            time.sleep(0.01)
        workers.close()
        for one in reading:
            assert "closed" in str(one.exception(WAIT))
    with pytest.raises(RuntimeError, match="closed"):
        workers.read(image, whole=True, name="a")
    end = time.monotonic() + WAIT
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
