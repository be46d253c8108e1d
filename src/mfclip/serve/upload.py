"""A request's body -> one private file and the options beside it; bounded in size and time."""

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

from mfclip.serve.limits import Limits
from mfclip.serve.problem import Problem

MAX_NAME = 255
"""Characters of a file's name that are repeated in the answer."""

MAX_VALUE = 4096
"""Bytes of a field other than the file."""

MAX_OVERHEAD = 64 * 1024
"""Bytes that a form may have besides its file."""


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
    """

    path: Path
    name: str
    options: Options

    def delete(self) -> None:
        """Delete the file and its folder; twice does no harm."""
        shutil.rmtree(self.path.parent, ignore_errors=True)


async def receive_upload(request: Request, folder: Path, limits: Limits) -> Upload:
    """Take in the file of a request.

    Args:
        request: with a form.
        folder: where the upload's own folder is made; deleted again when this fails.
        limits: of size and time.

    Raises:
        Problem: 400, 408, 413, 415 or 422, as ``docs/serve.md`` says.
    """
    kind, parameters = parse_options_header(request.headers.get("content-type"))
    own = Path(tempfile.mkdtemp(dir=folder))
    path = own / secrets.token_hex(16)
    try:
        async with asyncio.timeout(limits.upload_seconds):
            if kind == b"multipart/form-data":
                boundary = parameters.get(b"boundary", b"")
                return await _read_form(request, boundary, path, limits)
        raise Problem(
            415, "not_media", "expected multipart/form-data with the picture or video as 'file'"
        )
    except BaseException as error:
        shutil.rmtree(own, ignore_errors=True)
        if isinstance(error, TimeoutError):
            detail = f"the upload took longer than {limits.upload_seconds:g} seconds"
            raise Problem(408, "slow_upload", detail) from None
        if isinstance(error, ClientDisconnect):
            raise Problem(400, "bad_request", "the connection ended before the body") from None
        raise


async def _read_form(request: Request, boundary: bytes, path: Path, limits: Limits) -> Upload:
    if not boundary:
        raise Problem(400, "bad_request", "the form names no boundary in its Content-Type")
    with path.open("wb") as file:
        form = _Form(file, limits.max_bytes)
        try:
            parser = multipart.MultipartParser(boundary, form.callbacks())  # type: ignore[arg-type]
            async for chunk in _bounded(request, limits.max_bytes + MAX_OVERHEAD):
                parser.write(chunk)
        except FormParserError as error:
            raise Problem(400, "bad_request", f"the form is malformed ({error})") from None
    if not form.ended:
        raise Problem(400, "bad_request", "the form is cut short: its closing boundary is missing")
    if form.name is None:
        raise Problem(422, "bad_field", "file: the form holds no part 'file' with a file name")
    return Upload(path, form.name, read_options(form.fields))


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
    """Read the options of a form.

    Raises:
        Problem: 422, an unknown field or a value that is neither.

    Example:
        >>> read_options({"whole": "true", "async": "false"})
        Options(whole=True, evidence=False, respond_async=False)
    """
    known = {"whole", "evidence", "async"}
    if unknown := sorted(map(show_name, set(fields) - known)):
        raise Problem(422, "bad_field", f"{unknown[0]}: unknown field; expected file or {known}")
    chosen = {name: _read_flag(name, fields[name]) for name in fields}
    return Options(
        chosen.get("whole", False), chosen.get("evidence", False), chosen.get("async", False)
    )


def _read_flag(name: str, value: str) -> bool:
    flags = {"true": True, "false": False}
    if value not in flags:
        raise Problem(422, "bad_field", f"{name}: expected true or false")
    return flags[value]


class _Form:
    """Takes in a form as the parser meets it: the file goes to disk, fields to memory.

    Args:
        file: what is written to.
        max_bytes: of the file.
    """

    def __init__(self, file: BufferedWriter, max_bytes: int) -> None:
        self.name: str | None = None
        self.fields: dict[str, str] = {}
        self.ended = False
        self._file = file
        self._left = max_bytes
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
        if self._field is not None:
            if name in self.fields:
                raise Problem(422, "bad_field", f"{show_name(name)}: given twice")
            return
        if self.name is not None:
            raise Problem(422, "bad_field", "file: expected one file, but got several")
        if b"filename" not in options:
            raise Problem(422, "bad_field", "file: expected a file, with a file name")
        self.name = show_name(options[b"filename"].decode("utf-8", "replace"))

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self._left -= end - start
            if self._left < 0:
                raise _too_large(self._max_bytes)
            self._file.write(data[start:end])
            return
        self._value.extend(data[start:end])
        if len(self._value) > MAX_VALUE:
            raise Problem(413, "too_large", f"{show_name(self._field)}: a value of that length")

    def _close(self) -> None:
        if self._field is not None:
            self.fields[self._field] = self._value.decode("utf-8", "replace")


@contextmanager
def private_folder() -> Iterator[Path]:
    """Make a folder that only this user may enter, and delete it with all uploads at the end."""
    with tempfile.TemporaryDirectory(prefix="mfclip-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
