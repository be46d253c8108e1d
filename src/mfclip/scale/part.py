"""The unit of work: some rows, or one shard; its result is one file, named by what it came from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Row(NamedTuple):
    """One input as its source names it; a cell is empty where nothing is known."""

    path: str
    label: str = ""
    manipulation: str = ""
    family: str = ""
    generator: str = ""
    split: str = ""
    group: str = ""
    video_id: str = ""
    error: str = ""
    """Why it cannot be judged, where the source knows already."""


@dataclass(frozen=True, slots=True)
class Part:
    """Inputs that are scored together, and anew if their worker dies.

    Attributes:
        number: of the part in its source, from 0.
        start: number of its first row in the source, from 0.
        num_rows: inputs in it.
        digest: hash of what its source says of it: its rows, or a shard's name, size and version.
        rows: the inputs; empty for a shard, whose worker reads them with the pictures.
        shard: its address; None for rows.
    """

    number: int
    start: int
    num_rows: int
    digest: str
    rows: tuple[Row, ...] = ()
    shard: str | None = None

    def name(self, key: str) -> str:
        """Return the name of its result file.

        Args:
            key: hash of everything else that a score depends on, `mfclip.report.results.Run.key`.
        """
        both = hashlib.sha256(f"{self.digest} {key}".encode()).hexdigest()[:16]
        return f"part-{self.number:07d}-{both}.parquet"


@dataclass(frozen=True, slots=True)
class PartResult:
    """What a worker says of a part whose file is written."""

    number: int
    num_rows: int
    num_errors: int
    seconds: float


@dataclass(frozen=True, slots=True)
class FailedPart:
    """A part without a result.

    Attributes:
        number: of the part.
        start: number of its first row in the source, from 0.
        stop: number behind its last row.
        tries: how often it was tried.
        reason: what happened the last time.
    """

    number: int
    start: int
    stop: int
    tries: int
    reason: str


def digest_rows(rows: Iterable[Row]) -> str:
    """Return a hash of rows; equal rows in equal order, and no others, have the same."""
    digest = hashlib.sha256()
    for row in rows:
        for cell in row:
            digest.update(cell.encode("utf-8", "surrogateescape") + b"\x1f")
        digest.update(b"\x1e")
    return digest.hexdigest()
