"""What a run writes while it goes: JSON lines, TensorBoard, a progress bar; and its meter."""

from __future__ import annotations

import json
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


class RunLog:
    """Writes ``log.jsonl`` and TensorBoard files, and draws progress on stderr.

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
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[terms]}"),
            console=self._console,
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
        if self.enabled:
            self._progress.advance(self._task)

    def show(self, text: str) -> None:
        """Replace the text beside the bar."""
        if self.enabled:
            self._progress.update(self._task, terms=text)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if self.enabled:
            self._console.print(text, highlight=False)

    def close(self) -> None:
        """Finish the bar and close the files."""
        if self.enabled:
            self._progress.stop()
            self._file.close()
            self._writer.close()


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
