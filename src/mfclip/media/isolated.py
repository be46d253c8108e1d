"""Images decoded in processes that can be ended: for servers, and for formats that hide their cost.

Run as a module it is the other end: it decodes what it is asked for until the line closes. It
imports neither torch nor a model, and takes some 40 MB.
"""

from __future__ import annotations

import atexit
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mfclip.errors import InputError, MissingExtraError
from mfclip.media.images import (
    MAX_BYTES,
    MAX_PIXELS,
    UNBOUNDED_FORMATS,
    EncodedImage,
    ImageFile,
    NotAnImageError,
    open_image,
)
from mfclip.runtime.isolated import (
    CrashError,
    IsolatedProcess,
    Message,
    TimeLimitError,
    answer_requests,
    can_isolate,
)

MEMORY = MAX_BYTES + (512 << 20)
"""Bytes that one process may take: the largest image that is allowed, its file, and the answer."""

LARGE_FILE = 64 << 20
"""Bytes from which on `open_bounded` holds one file at a time."""

SHARED = 2
"""Processes that `open_bounded` starts at most."""

THREADS = 2
"""Of a decoder that has threads of its own, each with memory of its own."""


class IsolatedReader:
    """Reads images as `mfclip.media.images.open_image` does, each in a process under limits.

    The processes are kept for the next image, started when first needed, and started anew after
    one was ended. May be used by any number of threads; those beyond `count` wait for each other.

    Args:
        count: processes at most.
        seconds: time for one image, from when a process takes it.
        memory: bytes for one image.
        max_pixels: largest width x height.

    Example:
        >>> reader = IsolatedReader(count=1, seconds=10)  # doctest: +SKIP
        >>> reader.read(Path("upload.jpg")).sha256  # doctest: +SKIP
    """

    def __init__(
        self,
        count: int = 2,
        *,
        seconds: float = 20.0,
        memory: int = MEMORY,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.seconds = seconds
        self.memory = memory
        self.max_pixels = max_pixels
        self._door = threading.Lock()
        self._is_closed = False
        self._running: set[IsolatedProcess] = set()
        # last in, first out: a process that runs is taken before one has to be started
        self._free: queue.LifoQueue[IsolatedProcess | None] = queue.LifoQueue()
        for _ in range(count):
            self._free.put(None)

    def start(self) -> None:
        """Start all processes now, so that the first images need not wait for them."""
        places = [self._free.get() for _ in range(self._free.qsize())]
        for process in places:
            self._free.put(process or self._start())

    def read(
        self,
        source: Path | bytes,
        *,
        name: str | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> ImageFile:
        """Read one image.

        Args:
            source: a file, or the file's content.
            name: by which errors and the image itself call it; None for its path.
            check: called several times a second while it is read; what it raises ends the work.

        Raises:
            InputError: as `open_image`; also if it takes too long, or makes its decoder crash.
            MissingExtraError: as `open_image`.
            RuntimeError: the reader was closed.
        """
        process = self._free.get()
        try:
            process = process or self._start()
            header, arrays = process.ask(
                self._request(source), _arrays(source), seconds=self.seconds, check=check
            )
        except BaseException as error:
            if process is not None:
                process.end()
                with self._door:
                    self._running.discard(process)
            process = None
            raise self._explain(error, name or _name(source)) from None
        finally:
            self._free.put(process)
        path = name or (None if isinstance(source, bytes) else str(source))
        return _read_answer(header, arrays, path)

    def close(self) -> None:
        """End all processes at once; whoever waits for one gets a `RuntimeError`."""
        with self._door:
            self._is_closed = True
            running, self._running = self._running, set()
        for process in running:
            process.end()

    def __enter__(self) -> IsolatedReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> IsolatedProcess:
        with self._door:
            if self._is_closed:
                raise RuntimeError("the reader was closed")
            process = IsolatedProcess(__name__, memory=self.memory)
            self._running.add(process)
            return process

    def _request(self, source: Path | bytes) -> dict[str, Any]:
        path = None if isinstance(source, bytes) else str(source.absolute())
        return {"path": path, "max_pixels": self.max_pixels}

    def _explain(self, error: BaseException, name: str) -> BaseException:
        if self._is_closed:
            return RuntimeError("the reader was closed")
        if isinstance(error, TimeLimitError):
            message = f"{name}: decoding it took longer than {self.seconds:g} seconds"
            return InputError(f"{message}; save it again as an ordinary JPEG or PNG")
        if isinstance(error, CrashError):
            return InputError(
                f"{name}: it made its decoder crash, or takes more memory than is allowed; it may "
                "be damaged, get it anew"
            )
        return error


@contextmanager
def open_bounded(source: Path | bytes) -> Iterator[ImageFile]:
    """Read an image as `open_image` does, with bounds on the memory of the whole process.

    However many threads read: their images together take `MAX_BYTES`, from the decoding until
    their blocks end, and a large one waits for its turn; of large files one is held at a time.
    Formats whose header does not bound what their decoder takes are decoded in another process,
    where the system can start one.

    Args:
        source: a file, or the file's content.

    Raises:
        InputError: as `IsolatedReader.read`.
        MissingExtraError: likewise.
    """
    size = len(source) if isinstance(source, bytes) else _size(source)
    with _ONE_LARGE_FILE if size > LARGE_FILE else nullcontext():
        encoded = EncodedImage(source)
        with _ROOM.take(encoded.cost):
            if encoded.format in UNBOUNDED_FORMATS and can_isolate():
                image = _shared_reader().read(encoded.content, name=encoded.path or "the image")
            else:
                image = encoded.decode()
            del encoded
            yield image


def _size(path: Path) -> int:
    """Bytes of a file; 0 where it cannot be told, which opening it will explain."""
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return 0


class _Room:
    """Lets threads share a number of bytes."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._changed = threading.Condition()

    @contextmanager
    def take(self, size: int) -> Iterator[None]:
        """Hold `size` bytes, which is at most all of them, while the block runs."""
        with self._changed:
            self._changed.wait_for(lambda: size <= self._left)
            self._left -= size
        try:
            yield
        finally:
            with self._changed:
                self._left += size
                self._changed.notify_all()


_ROOM = _Room(MAX_BYTES)
_ONE_LARGE_FILE = threading.Lock()


@cache
def _shared_reader() -> IsolatedReader:
    reader = IsolatedReader(SHARED, seconds=60.0)
    atexit.register(reader.close)
    return reader


def _name(source: Path | bytes) -> str:
    return "the image" if isinstance(source, bytes) else str(source)


def _arrays(source: Path | bytes) -> list[np.ndarray]:
    return [np.frombuffer(source, np.uint8)] if isinstance(source, bytes) else []


def _read_answer(header: dict[str, Any], arrays: list[np.ndarray], path: str | None) -> ImageFile:
    """Turn the answer of `_answer` into an image, or raise what was raised there."""
    if (error := header.get("error")) is None:
        (pixels,) = arrays
        return ImageFile(pixels=pixels, path=path, **header)
    message = f"{path or 'the image'}: {error}"
    match header.get("kind"):
        case "extra":
            raise MissingExtraError(error)
        case "video" | "other":
            raise NotAnImageError(message, is_video=header["kind"] == "video")
        case _:
            raise InputError(message)


def _answer(header: dict[str, Any], arrays: list[np.ndarray]) -> Message:
    """Decode one image, in the other process."""
    path = header["path"]
    source = Path(path) if path is not None else arrays[0].tobytes()
    del arrays[:]
    try:
        image = open_image(source, max_pixels=header["max_pixels"])
    except MissingExtraError as error:
        return {"error": str(error), "kind": "extra"}, []
    except InputError as error:
        kind = "input"
        if isinstance(error, NotAnImageError):
            kind = "video" if error.is_video else "other"
        return {"error": str(error).removeprefix(f"{_name(source)}: "), "kind": kind}, []
    facts = {name: getattr(image, name) for name in ("sha256", "format", "quality", "damage")}
    return facts, [image.pixels]


def _bound_threads() -> None:
    """Let decoders with threads use few: each takes memory that no header tells of."""
    from PIL import AvifImagePlugin  # noqa: PLC0415

    AvifImagePlugin.DEFAULT_MAX_THREADS = THREADS


if __name__ == "__main__":
    _bound_threads()
    answer_requests(_answer)
