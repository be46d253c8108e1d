"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def write_whole(path: Path) -> Iterator[TextIO]:
    """Open a text file that takes its name only once everything is in it.

    Args:
        path: an older file of that name stays as it is until then, and so does a link to it;
            folders are made. A pipe or device, such as ``/dev/stdout``, is written straight.

    Raises:
        OSError: the folder is not writable or the disk is full.
    """
    if path.exists() and not path.is_file():  # never put a file in the place of a device
        with path.open("w", encoding="utf-8", errors="replace") as file:
            yield file
        return
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8", errors="replace") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def write_output(path: Path | None) -> Iterator[TextIO]:
    """Open a file as `write_whole` does; None writes to the standard output once all is known."""
    if path is not None:
        with write_whole(path) as file:
            yield file
        return
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        yield file
        file.seek(0)
        shutil.copyfileobj(file, sys.stdout)
        sys.stdout.flush()
