"""A request's body -> a private file and the options beside it; bounded in size, rate and time."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from typing import Any

import python_multipart as multipart
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from mfclip.report.wording import Language
from mfclip.serve.limits import Limits
from mfclip.serve.problem import Problem, busy

OPTIONS = ("whole", "evidence", "async")
"""Fields of the form besides the file."""

MAX_NAME = 255
"""Characters of a file's name that are repeated in the answer."""

MAX_VALUE = 4096
"""Bytes of a field other than the file."""

MAX_OVERHEAD = 64 * 1024
"""Bytes that a form may have besides its file."""

LEAST_RATE = 4 * 1024
"""Bytes a second that a sender must reach on average; the slowest mobile networks do."""

EXPECTED_RATE = 256 * 1024
"""Bytes a second from which an upload is never made to give way to another."""

GRACE_SECONDS = 1.0
"""Time in which nothing is said about an upload's rate."""

RETRY_SECONDS = 1
"""When to come back after all places for uploads were taken."""

EXPECTED = f"expected one part 'file' with a file name, and at most the fields {', '.join(OPTIONS)}"


@dataclass(frozen=True, slots=True)
class Options:
    """What is wanted, as fields of the form.

    Attributes:
        whole: take the whole picture as one face.
        evidence: add pictures that show why.
        respond_async: make a job of a picture too.
    """

    whole: bool = False
    evidence: bool = False
    respond_async: bool = False


@dataclass(frozen=True, slots=True)
class Upload:
    """A file in a folder of its own.

    Attributes:
        path: under a name of ours.
        name: what the sender called it; for showing only.
        options: what is wanted.
        language: of the report, as the sender's browser prefers.
    """

    path: Path
    name: str
    options: Options
    language: Language = "en"

    def delete(self) -> None:
        """Delete the file and its folder; twice does no harm."""
        shutil.rmtree(self.path.parent, ignore_errors=True)


class Uploads:
    """Receives the uploads of one server, at most `Limits.queue` at the same time.

    Where all places are taken by senders slower than `EXPECTED_RATE`, the slowest of them gives way
    to who comes next: otherwise a few that send a byte a second would shut everybody else out.

    Args:
        folder: where each upload gets a folder of its own.
        limits: of number, size and time.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder = folder
        self._limits = limits
        self._running: set[_Pace] = set()

    def __len__(self) -> int:
        return len(self._running)

    async def receive(self, request: Request) -> Upload:
        """Take in the form of a request; nothing is left behind when this fails.

        Raises:
            Problem: 400, 408, 413, 415, 422 or 429, as ``docs/serve.md`` says.
        """
        kind, parameters = parse_options_header(request.headers.get("content-type"))
        if kind != b"multipart/form-data":
            detail = "expected multipart/form-data with the picture or video as 'file'"
            raise Problem(415, "not_media", detail)
        if not (boundary := parameters.get(b"boundary", b"")):
            raise Problem(400, "bad_request", "the form names no boundary in its Content-Type")
        self._make_room()
        own = Path(tempfile.mkdtemp(dir=self._folder))
        pace = _Pace(self._limits)
        self._running.add(pace)
        try:
            async with pace.timeout:
                pace.advance(0)
                return await self._read_form(request, boundary, own / secrets.token_hex(16), pace)
        except BaseException as error:
            shutil.rmtree(own, ignore_errors=True)
            if isinstance(error, TimeoutError):
                raise Problem(408, "slow_upload", pace.reason) from None
            if isinstance(error, ClientDisconnect):
                raise Problem(400, "bad_request", "the connection ended before the body") from None
            raise
        finally:
            self._running.discard(pace)

    def _make_room(self) -> None:
        if len(self._running) < self._limits.queue:
            return
        slowest = min(self._running, key=lambda pace: pace.rate)
        if slowest.rate >= EXPECTED_RATE:
            raise busy(f"{self._limits.queue} uploads are under way already", RETRY_SECONDS)
        self._running.discard(slowest)  # its place is free before its task has noticed
        slowest.give_way()

    async def _read_form(
        self, request: Request, boundary: bytes, path: Path, pace: _Pace
    ) -> Upload:
        max_bytes = self._limits.max_bytes
        with path.open("wb") as file:
            form = _Form(file, max_bytes)
            try:
                parser = multipart.MultipartParser(boundary, form.callbacks())  # type: ignore[arg-type]
                async for chunk in _bounded(request, max_bytes + MAX_OVERHEAD):
                    pace.advance(len(chunk))
                    parser.write(chunk)
                    if pace.received - form.taken > MAX_OVERHEAD:
                        raise Problem(413, "too_large", "the form holds too much besides its file")
            except FormParserError as error:
                detail = f"the form is malformed ({error})"
                raise Problem(400, "bad_request", detail) from None
        if not form.ended:
            detail = "the form is cut short: its closing boundary is missing"
            raise Problem(400, "bad_request", detail)
        if form.name is None:
            raise Problem(422, "bad_field", f"the form holds no file; {EXPECTED}")
        return Upload(path, form.name, read_options(form.fields))


class _Pace:
    """How fast an upload comes in, and the moment at which it is given up.

    Args:
        limits: the whole time, and how long a sender may be silent or below `LEAST_RATE`.
    """

    def __init__(self, limits: Limits) -> None:
        self.received = 0
        self.reason = f"the upload took longer than {limits.upload_seconds:g} seconds"
        self._limits = limits
        self._now = asyncio.get_running_loop().time
        self._begun = self._now()
        self.timeout = asyncio.timeout(None)

    @property
    def rate(self) -> float:
        """Bytes a second so far; infinite in the first moments, which tell nothing."""
        seconds = self._now() - self._begun
        return self.received / seconds if seconds > GRACE_SECONDS else float("inf")

    def advance(self, count: int) -> None:
        """Note bytes that came in, and push the end further away."""
        self.received += count
        silence, begun = self._limits.silence_seconds, self._begun
        # whoever keeps to the least rate stays ahead of the second bound
        slow = min(self._now(), begun + self.received / LEAST_RATE) + silence
        end = begun + self._limits.upload_seconds
        if slow < end:
            self.reason = (
                f"the upload came too slowly: nothing for {silence:g} seconds, or less than "
                f"{LEAST_RATE // 1024} KiB a second"
            )
        self.timeout.reschedule(min(slow, end))

    def give_way(self) -> None:
        """End the upload in favour of another one."""
        self.reason = "too many uploads at once, and this one was the slowest; send it again later"
        if not self.timeout.expired():
            self.timeout.reschedule(self._now())


async def _bounded(request: Request, max_bytes: int) -> AsyncIterator[bytes]:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > max_bytes:
            raise _too_large(max_bytes)
        if chunk:
            yield chunk


def _too_large(max_bytes: int) -> Problem:
    return Problem(413, "too_large", f"more than the {max_bytes:,} bytes that are taken")


def show_name(name: str) -> str:
    r"""Make a name that anybody may have sent safe to repeat: its last part, printable, not long.

    Example:
        >>> show_name("../../etc/pass\nwd"), show_name("")
        ('pass\ufffdwd', 'upload')
    """
    last = name.replace("\\", "/").rpartition("/")[2][-MAX_NAME:]
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in last) or "upload"


def read_options(fields: Mapping[str, str]) -> Options:
    """Read the fields besides the file.

    Raises:
        Problem: 422, a value that is neither true nor false.

    Example:
        >>> read_options({"whole": "true", "async": "false"})
        Options(whole=True, evidence=False, respond_async=False)
    """
    chosen = {}
    for name, value in fields.items():
        if value not in {"true", "false"}:
            raise Problem(422, "bad_field", f"{name}: expected true or false")
        chosen[name] = value == "true"
    return Options(*(chosen.get(name, False) for name in OPTIONS))


class _Form:
    """Takes in a form as the parser meets it: the file goes to disk, fields to memory.

    Args:
        file: what is written to.
        max_bytes: of the file.

    Attributes:
        name: what the sender called the file; None before it came.
        fields: the others.
        taken: bytes of the file so far.
        ended: whether the closing boundary was met.
    """

    def __init__(self, file: BufferedWriter, max_bytes: int) -> None:
        self.name: str | None = None
        self.fields: dict[str, str] = {}
        self.ended = False
        self.taken = 0
        self._file = file
        self._max_bytes = max_bytes
        self._headers: list[tuple[bytearray, bytearray]] = []
        self._field: str | None = None
        self._value = bytearray()

    def callbacks(self) -> dict[str, Any]:
        """Return what the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_begin": lambda: self._headers.append((bytearray(), bytearray())),
            "on_header_field": lambda d, i, j: self._headers[-1][0].extend(d[i:j]),
            "on_header_value": lambda d, i, j: self._headers[-1][1].extend(d[i:j]),
            "on_headers_finished": self._open,
            "on_part_data": self._take,
            "on_part_end": self._close,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._headers.clear()
        self._value.clear()

    def _end(self) -> None:
        self.ended = True

    def _open(self) -> None:
        headers = {bytes(name).lower(): bytes(value) for name, value in self._headers}
        _, options = parse_options_header(headers.get(b"content-disposition", b""))
        if b"name" not in options:
            raise Problem(400, "bad_request", "a part of the form has no name")
        name = options[b"name"].decode("utf-8", "replace")
        self._field = None if name == "file" else name
        if self._field is None:
            if self.name is not None:
                raise Problem(422, "bad_field", "file: expected one file, but got several")
            if b"filename" not in options:
                raise Problem(422, "bad_field", f"file: it has no file name; {EXPECTED}")
            self.name = show_name(options[b"filename"].decode("utf-8", "replace"))
        elif name not in OPTIONS or b"filename" in options:
            # at once, since the number of fields is bounded by this, and other services call the
            # file otherwise: who sends it as `image` must not hear that a field is too long
            raise Problem(422, "bad_field", f"{show_name(name)}: unknown field; {EXPECTED}")
        elif name in self.fields:
            raise Problem(422, "bad_field", f"{name}: given twice")

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self.taken += end - start
            if self.taken > self._max_bytes:
                raise _too_large(self._max_bytes)
            self._file.write(data[start:end])
            return
        self._value.extend(data[start:end])
        if len(self._value) > MAX_VALUE:
            raise Problem(413, "too_large", f"{self._field}: expected true or false")

    def _close(self) -> None:
        if self._field is not None:
            self.fields[self._field] = self._value.decode("utf-8", "replace")


@contextmanager
def private_folder() -> Iterator[Path]:
    """Make a folder that only this user may enter, and delete it with all uploads at the end."""
    with tempfile.TemporaryDirectory(prefix="mfclip-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
