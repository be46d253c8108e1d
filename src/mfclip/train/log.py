"""What a run writes while it goes: JSON lines, TensorBoard, a progress bar; and its meter."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor

from mfclip.errors import require
from mfclip.train.processes import Processes

PLAIN_EVERY = 30.0
"""Seconds between lines of progress where there is no terminal, as in a log file."""


class RunLog:
    """Writes ``log.jsonl`` and TensorBoard files, and shows progress on stderr.

    On a terminal progress is a bar; elsewhere a plain line from time to time.

    Args:
        folder: the run's folder.
        total: batches of the whole run.
        done: batches already trained on, when resuming.
        enabled: False in all processes but the first.
    """

    def __init__(self, folder: Path, *, total: int, done: int, enabled: bool) -> None:
        self.enabled = enabled
        if not enabled:
            return
        tensorboard = require("torch.utils.tensorboard", extra="train")
        self._writer = tensorboard.SummaryWriter(str(folder / "tensorboard"))
        self._file = (folder / "log.jsonl").open("a", encoding="utf-8")
        self._console = Console(stderr=True)
        self._done, self._total, self._terms = done, total, ""
        self._before, self._began = done, time.monotonic()
        self._told = self._began
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[terms]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("train", total=total, completed=done, terms="")
        self._progress.start()

    def record(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Write one record to the file, and its numbers to TensorBoard."""
        if not self.enabled:
            return
        entry = {"kind": kind, "step": step, "time": round(time.time(), 3), **values}
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()
        for name, value in values.items():
            if isinstance(value, (int, float)):
                self._writer.add_scalar(f"{kind}/{name}", value, step)

    def advance(self) -> None:
        """Count one batch."""
        if not self.enabled:
            return
        self._progress.advance(self._task)
        self._done += 1
        each = (time.monotonic() - self._began) / (self._done - self._before)
        left = in_words((self._total - self._done) * each)
        share = 100 * self._done / self._total
        line = f"step {self._done} of {self._total} ({share:.0f}%), {left} left"
        self.tell(f"{line}  {self._terms}".rstrip())

    def tell(self, line: str) -> None:
        """Print a line where there is no terminal, unless the last one is not long ago."""
        if self.enabled and not self._console.is_terminal:
            now = time.monotonic()
            if now - self._told >= PLAIN_EVERY:
                self._told = now
                self.say(line)

    def show(self, text: str) -> None:
        """Replace the text beside the bar."""
        if self.enabled:
            self._terms = text
            self._progress.update(self._task, terms=text)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if self.enabled:
            # a log file is searched line by line, so there lines are not broken
            soft = not self._console.is_terminal
            self._console.print(text, highlight=False, markup=False, soft_wrap=soft)

    def close(self) -> None:
        """Finish the bar and close the files."""
        if self.enabled:
            self._progress.stop()
            self._file.close()
            self._writer.close()


def in_words(seconds: float) -> str:
    """Write a duration so that its size can be seen.

    Example:
        >>> [in_words(s) for s in (42.0, 300.0, 5400.0, 400_000.0, float("nan"))]
        ['42 s', '5 min', '1.5 h', '4.6 days', '?']
    """
    if math.isnan(seconds):
        return "?"
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (unit == "h" and seconds >= size):
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:.0f} s"


class Meter:
    """Means of the loss terms and images a second since the last reading."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._reset()

    def _reset(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = self._images = 0
        self._began = time.perf_counter()

    def add(self, terms: dict[str, Tensor], images: int) -> None:
        """Add one step; nothing is read from the device yet."""
        for name, term in terms.items():
            self._sums[name] = self._sums.get(name, 0) + term
        self._steps += 1
        self._images += images

    def read(self) -> dict[str, float]:
        """Return the means and begin anew; empty if there was no step."""
        if not self._steps:
            return {}
        means = torch.stack(list(self._sums.values())).float() / self._steps
        values = dict(zip(self._sums, self._processes.mean(means).tolist(), strict=True))
        values = {"loss": sum(values.values()), **values}
        seconds = time.perf_counter() - self._began
        values["images_per_second"] = self._images * self._processes.world_size / seconds
        self._reset()
        return values
