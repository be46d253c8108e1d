"""Files that take their name only once they are whole, and what killed writers leave behind.

What is being written lies beside its target under a hidden name that no other writer has, and is
locked as long as its writer lives. A writer that is killed cannot remove it; `sweep` does.
"""

from __future__ import annotations

import importlib
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

# Windows has no such locks; age alone must tell there.
fcntl: Any = None if sys.platform == "win32" else importlib.import_module("fcntl")

_PARTIAL = re.compile(r"\..{0,40}\.mfclip-[0-9a-f]{12}(\.\w{1,16})?", re.DOTALL)

GRACE = 60.0
"""Seconds for which a partial file without a lock stays: its writer may just be starting."""

GRACE_WITHOUT_LOCKS = 24 * 3600.0
"""The same on systems where a living writer cannot be told from a dead one."""


@contextmanager
def partial_file(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Give an empty file beside `path` that becomes `path` when the block ends without an error.

    For what opens files by name; it keeps the ending of `path`, by which many writers choose the
    format. `write_whole` and `write_bytes` do the same for text and bytes.

    Args:
        path: an older file of that name stays as it is until then, and so does a link to it;
            folders are made. A pipe or device, such as ``/dev/stdout``, is given itself.
        sync: wait until the content is on the disk. Without it a power failure, but no killed
            process, can leave an empty file: for many small files that can be made again.

    Raises:
        OSError: the folder is not writable or the disk is full.
    """
    if path.exists() and not path.is_file():  # never put a file in the place of a device
        yield path
        return
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _unused_name(target)
    try:
        with partial.open("xb") as file:
            lock(file.fileno())
            yield partial
            if sync:  # through any descriptor of the file, whoever wrote it
                os.fsync(file.fileno())
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def write_whole(path: Path, *, newline: str | None = None) -> Iterator[TextIO]:
    """Open a text file that takes its name only once everything is in it; bytes: its ``buffer``.

    Args:
        path: as `partial_file` takes it.
        newline: as `open` takes it; ``""`` for the module `csv`.

    Raises:
        OSError: the folder is not writable or the disk is full.
    """
    with (
        partial_file(path) as partial,
        partial.open("w", encoding="utf-8", errors="replace", newline=newline) as file,
    ):
        yield file


def write_bytes(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Write a file whole or not at all; arguments as `partial_file` takes them.

    Raises:
        OSError: the folder is not writable or the disk is full.
    """
    with partial_file(path, sync=sync) as partial:
        partial.write_bytes(content)


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


@contextmanager
def scratch_folder(beside: Path) -> Iterator[Path]:
    """Make a hidden folder beside a path, on the same disk, and delete it at the end.

    Args:
        beside: what the folder's content is for; it need not exist.

    Raises:
        OSError: the folder cannot be made.
    """
    target = beside.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = _unused_name(target)
    folder.mkdir()
    try:
        with _locked(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(folder: Path, *, recursive: bool = False) -> list[Path]:
    """Remove what killed writers left in a folder; what is still being written stays.

    Args:
        folder: may be absent.
        recursive: also in the folders below.

    Returns:
        What was removed.
    """
    found = folder.rglob(".*") if recursive else folder.glob(".*")
    removed = [path for path in found if _PARTIAL.fullmatch(path.name) and _is_abandoned(path)]
    for path in removed:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return removed


def _unused_name(target: Path) -> Path:
    # The token is what makes it unique; of a name near the file system's limit a part will do.
    ending = target.suffix if re.fullmatch(r"\.\w{1,16}", target.suffix) else ""
    return target.with_name(f".{target.stem[:40]}.mfclip-{secrets.token_hex(6)}{ending}")


def lock(descriptor: int) -> bool | None:
    """Lock an open file or folder until it is closed.

    Returns:
        False if another process holds it, None where there are no locks.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    if fcntl is None:  # nor can a folder be opened there
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _is_abandoned(path: Path) -> bool:
    try:
        age = time.time() - path.stat().st_mtime
        if age < GRACE or fcntl is None:
            return age > GRACE_WITHOUT_LOCKS
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # gone meanwhile, or not ours
        return False
    try:
        locked = lock(descriptor)
    finally:
        os.close(descriptor)
    return age > GRACE_WITHOUT_LOCKS if locked is None else locked
