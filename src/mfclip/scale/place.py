"""Where results go: a folder of this disk, or of an object store by its address."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from mfclip.errors import require
from mfclip.runtime.whole_file import write_bytes

T = TypeVar("T")

TRIES = 3
"""How often a file is read or written before that counts as failed."""

PAUSE = 1.0
"""Seconds before the second try; twice as long before each further one."""


def is_address(name: str) -> bool:
    """Tell an address such as ``s3://bucket/faces`` from a path.

    Example:
        >>> is_address("s3://bucket/faces"), is_address("faces/manifest.csv")
        (True, False)
    """
    return "://" in name


def open_store(address: str) -> tuple[Any, str]:
    """Return fsspec's file system for an address, and the path within it."""
    store, path = require("fsspec", extra="cluster").core.url_to_fs(address)
    return store, str(path)


def persist(action: Callable[[], T]) -> T:
    """Do something again if the disk or the net refuses; what is absent stays absent.

    Raises:
        OSError: it was refused every time.
    """
    for tried in range(TRIES - 1):
        try:
            return action()
        except (FileNotFoundError, PermissionError):
            raise
        except OSError:
            time.sleep(PAUSE * 2**tried)
    return action()


class Place:
    """A folder of results. A file in it is whole or not there.

    On a disk each is written aside and renamed; to an object store it is one PUT, which appears
    whole or not at all.

    Args:
        address: path of a folder, or an address.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/") if is_address(address) else str(Path(address).absolute())
        self.is_remote = is_address(address)

    def __str__(self) -> str:
        return self.address

    def names(self) -> set[str]:
        """List the files; what is being written does not count."""
        if not self.is_remote:
            folder = Path(self.address)
            found = folder.iterdir() if folder.is_dir() else iter(())
            return {path.name for path in found if not path.name.startswith(".")}
        store, path = self._store()
        store.invalidate_cache()  # another process may have written since
        try:
            return {name.rpartition("/")[2] for name in store.ls(path, detail=False)}
        except FileNotFoundError:
            return set()

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None if there is none."""
        try:
            with self.open(name) as file:
                content: bytes = file.read()
        except FileNotFoundError:
            return None
        return content

    def open(self, name: str) -> Any:
        """Open a file for reading, at any place in it."""
        if not self.is_remote:
            return (Path(self.address) / name).open("rb")
        store, path = self._store()
        return store.open(f"{path}/{name}", "rb")

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all.

        Raises:
            OSError: the disk is full, or the store refuses.
        """
        if not self.is_remote:
            write_bytes(Path(self.address) / name, content)
            return
        store, path = self._store()
        store.pipe_file(f"{path}/{name}", content)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        if not self.is_remote:
            (Path(self.address) / name).unlink(missing_ok=True)
            return
        store, path = self._store()
        with suppress(FileNotFoundError):
            store.rm_file(f"{path}/{name}")

    def _store(self) -> tuple[Any, str]:
        return open_store(self.address)
