"""The folder of an experiment: finished cells, unfinished ones, and what all of them share.

::

    DIR/experiment.json          protocol, shared settings, data; written first
    DIR/cells/KEY/               a finished cell, moved here whole
    DIR/unfinished/KEY/          one that is under way, or that failed (failure.json)
    DIR/locks/KEY.lock           held by the process that works on a cell

Several processes, on one machine or on several that share the folder, work in it at once: each
takes the cells that nobody holds.
"""

from __future__ import annotations

import json
import os
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from mfclip.config import build_config
from mfclip.errors import ConfigError, InputError
from mfclip.experiment.plan import Experiment
from mfclip.experiment.protocols import Protocol
from mfclip.runtime.lock import try_lock
from mfclip.runtime.whole_file import write_whole

SHARED = ("protocol", "settings", "tests", "data")
"""Keys of the description that must be the same for cells that stand in one table."""

SCHEMA = 1
"""Version of the JSON files; rises when a key changes its meaning or goes."""

DESCRIPTION = "experiment.json"
RESULT = "result.json"
FAILURE = "failure.json"


class Store:
    """Reads and writes the folder of an experiment; reads several that are parts of one.

    Args:
        root: the folder; it need not exist.
        others: folders with more finished cells of the same experiment, to be read only. Of a cell
            that several hold the first counts.
    """

    def __init__(self, root: Path, others: Sequence[Path] = ()) -> None:
        self.root = root
        self._parts = tuple(Store(other) for other in others)

    def begin(self, experiment: Experiment) -> None:
        """Write what all cells share, or check that the folder's cells share it.

        Raises:
            ConfigError: the folder holds another experiment; the message says what differs.
        """
        shared = _shared(experiment)
        path = self.root / DESCRIPTION
        if not path.exists():
            counts = {split: dict(part) for split, part in _counts(experiment).items()}
            write_json(path, {"schema": SCHEMA, **shared, "counts": counts})
            return
        before = self.description()
        differing = [key for key, value in shared.items() if before.get(key) != value]
        if differing:
            raise ConfigError(
                f"{self.root} holds an experiment with another {', '.join(differing)}; give "
                "another --out, or the same command as before"
            )

    def description(self) -> dict[str, Any]:
        """Read what all cells share.

        Raises:
            InputError: the folder holds no experiment, or a damaged one, or another part is none of
                the same experiment.
        """
        path = self.root / DESCRIPTION
        if not path.is_file():
            raise InputError(f"no experiment in {self.root}; start one with mfclip experiment run")
        own = read_json(path)
        for part in self._parts:
            other = part.description()
            differing = [key for key in SHARED if other.get(key) != own.get(key)]
            if differing:
                raise InputError(
                    f"{self.root} and {part.root} hold experiments with another "
                    f"{', '.join(differing)}, which cannot stand in one report"
                )
        return own

    def protocol(self) -> Protocol:
        """Return the protocol that the folder's cells belong to."""
        return Protocol.model_validate(self.description()["protocol"])

    def finished(self, key: str) -> Path:
        """Folder of a finished cell, in whichever part holds it."""
        own = self.root / "cells" / key
        found = (part.finished(key) for part in self._parts if part.is_finished(key))
        return own if (own / RESULT).is_file() else next(found, own)

    def unfinished(self, key: str) -> Path:
        """Folder of a cell that is under way."""
        return self.root / "unfinished" / key

    def is_finished(self, key: str) -> bool:
        """Whether a cell's results are there."""
        return (self.finished(key) / RESULT).is_file()

    def finish(self, key: str) -> None:
        """Move a cell to the finished ones, in one step."""
        (self.unfinished(key) / FAILURE).unlink(missing_ok=True)
        self.finished(key).parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.unfinished(key), self.finished(key))

    def claim(self, key: str) -> AbstractContextManager[bool]:
        """Hold a cell while the block runs, if no other process does; yields whether it is held."""
        return try_lock(self.root / "locks" / f"{key}.lock")

    def now(self) -> float:
        """Return the time by the clock that the folder's files go by, seconds since 1970.

        The machines that share a folder may disagree, so a file made here is asked.
        """
        with tempfile.NamedTemporaryFile(dir=self.root, prefix=".now-") as file:
            return os.stat(file.name).st_mtime

    def failed_since(self, key: str, time: float) -> str | None:
        """Return why a cell failed, if that was after a time by `now`; else None."""
        path = self.unfinished(key) / FAILURE
        if not path.is_file() or path.stat().st_mtime < time:
            return None
        return str(read_json(path)["reason"])

    def fail(self, key: str, error: Exception) -> None:
        """Keep the reason of a failure beside what the cell has done so far."""
        text = "".join(traceback.format_exception(error))
        reason = {"schema": SCHEMA, "reason": reason_of(error), "traceback": text}
        write_json(self.unfinished(key) / FAILURE, reason)

    def results(self) -> list[dict[str, Any]]:
        """Return the results of all finished cells, by name of their folders."""
        stores = (self, *self._parts)
        found = {path.parent.name for store in stores for path in store._files("cells", RESULT)}
        return [read_json(self.finished(key) / RESULT) for key in sorted(found)]

    def failures(self) -> dict[str, str]:
        """Return the reason of each unfinished cell that failed when it was last tried."""
        found = {
            path.parent.name: str(read_json(path)["reason"])
            for store in (self, *self._parts)
            for path in store._files("unfinished", FAILURE)
        }
        return {k: found[k] for k in sorted(found) if not (self.finished(k) / RESULT).is_file()}

    def _files(self, folder: str, name: str) -> list[Path]:
        return sorted(self.root.glob(f"{folder}/*/{name}"))


def reason_of(error: Exception) -> str:
    """Say in words why a cell failed.

    Example:
        >>> reason_of(RuntimeError("out of memory"))
        'RuntimeError: out of memory'
    """
    return f"{type(error).__name__}: {error}"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    with write_whole(path) as file:
        file.write(text + "\n")


def read_json(path: Path, *, schema: int = SCHEMA) -> dict[str, Any]:
    """Read a JSON object that names its version.

    Args:
        path: the file.
        schema: the version that can be read.

    Raises:
        InputError: it is damaged, or of another version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); delete its folder and run again") from None
    if not isinstance(content, dict) or content.get("schema") != schema:
        raise InputError(f"{path} is not of this version of mfclip (schema {schema})")
    return content


def _shared(experiment: Experiment) -> dict[str, Any]:
    """Return what must not differ between cells in one table, as JSON gives it back: `SHARED`."""
    content = {
        "protocol": experiment.protocol.model_dump(mode="json"),
        "settings": build_config(experiment.base).model_dump(
            mode="json", exclude={"seed": True, "data": {"workers", "cache"}}
        ),
        "tests": experiment.tests,
        "data": experiment.manifest.fingerprint,
    }
    shared: dict[str, Any] = json.loads(json.dumps(content))
    return shared


def _counts(experiment: Experiment) -> dict[str, Mapping[str, int]]:
    splits = sorted({sample.split for sample in experiment.manifest})
    return {split: experiment.manifest.split(split).counts() for split in splits}
