"""All cells of an experiment, shared out among the processes that work on it.

What is finished is never done again.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mfclip.errors import ConfigError
from mfclip.experiment.cell import Notify, run_cell
from mfclip.experiment.cells import Cell
from mfclip.experiment.plan import Experiment
from mfclip.experiment.store import Store, reason_of


@dataclass
class Outcome:
    """What became of the cells.

    Attributes:
        finished: keys of those that were run now.
        kept: keys of those that an earlier run had finished.
        failed: key -> reason.
        elsewhere: keys of those that other processes still work on.
    """

    finished: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    elsewhere: list[str] = field(default_factory=list)


def silent(line: str) -> None:
    """Say nothing."""


def run_experiment(
    experiment: Experiment,
    out: Path,
    *,
    device: str = "auto",
    notify: Notify = silent,
    reuse: Sequence[Path] = (),
) -> Outcome:
    """Run every cell that is not finished yet; a failure does not lose the others.

    A cell that was stopped or that failed goes on from its last checkpoint. Any number of processes
    may work in a folder, on machines that share it: each takes cells that nobody holds, and the run
    of a process ends when the others hold what is left.

    Args:
        experiment: what is run.
        out: folder of the results.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        notify: told what is being done, one line each.
        reuse: folders of experiments whose finished cells need not be trained again where
            settings, seed and training data are the same.

    Raises:
        ConfigError: `out` holds another experiment, or several processes were started to train one
            cell.
        Stopped: Ctrl+C or SIGTERM while a cell trained; the same run goes on from its checkpoint.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("a cell trains in one process; start one command a GPU, without torchrun")
    store, outcome = Store(out), Outcome()
    store.begin(experiment)
    worker = _Worker(experiment, store, store.now(), device, notify, reuse, outcome)
    left = list(enumerate(experiment.cells, start=1))
    while left:
        held = [(number, cell) for number, cell in left if not worker.attend(number, cell)]
        if len(held) == len(left):
            break
        left = held  # who held one may have been stopped meanwhile
    outcome.elsewhere += [cell.key for _, cell in left]
    return outcome


@dataclass(frozen=True)
class _Worker:
    """One process that works on an experiment, since `began` by the clock of its store."""

    experiment: Experiment
    store: Store
    began: float
    device: str
    notify: Notify
    reuse: Sequence[Path]
    outcome: Outcome

    def attend(self, number: int, cell: Cell) -> bool:
        """Run a cell unless that is done; return False if another process holds it."""
        head = f"[{number}/{len(self.experiment.cells)}] {title(cell)}"
        with self.store.claim(cell.key) as is_mine:
            if not is_mine:
                self.notify(f"{head}: another process works on it")
            elif self.store.is_finished(cell.key):
                self.outcome.kept.append(cell.key)
                self.notify(f"{head}: finished before")
            elif reason := self.store.failed_since(cell.key, self.began):
                # one try a command, not one by each process that shares the work
                self.outcome.failed[cell.key] = reason
                self.notify(f"{head}: failed in another process, {reason}")
            else:
                self.notify(head)
                self._run(head, cell)
        return is_mine

    def _run(self, head: str, cell: Cell) -> None:
        store = self.store
        try:
            run_cell(
                self.experiment,
                cell,
                store.unfinished(cell.key),
                device=self.device,
                notify=self.notify,
                reuse=self.reuse,
            )
            store.finish(cell.key)
            self.outcome.finished.append(cell.key)
        except Exception as error:  # whatever it is, the other cells are not lost
            store.fail(cell.key, error)
            self.outcome.failed[cell.key] = reason_of(error)
            self.notify(f"{head}: failed, {reason_of(error)}")
        gc.collect()  # a detector and its optimiser refer to each other


def title(cell: Cell) -> str:
    """Name a cell in words."""
    return f"{cell.label}, trained on {cell.train.name}, seed {cell.seed}"
