"""All cells of an experiment, one after the other; what is finished is never done again."""

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
    """

    finished: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


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

    A cell that was stopped or that failed goes on from its last checkpoint. One process at a time
    may work in a folder.

    Args:
        experiment: what is run.
        out: folder of the results.
        device: ``auto``, ``cpu`` or ``cuda``.
        notify: told what is being done, one line each.
        reuse: folders of experiments whose finished cells need not be trained again where
            settings, seed and training data are the same.

    Raises:
        ConfigError: `out` holds another experiment, or several processes were started.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("an experiment runs in one process; start it without torchrun")
    store, outcome = Store(out), Outcome()
    store.begin(experiment)
    for number, cell in enumerate(experiment.cells, start=1):
        head = f"[{number}/{len(experiment.cells)}] {title(cell)}"
        if store.is_finished(cell.key):
            outcome.kept.append(cell.key)
            notify(f"{head}: finished before")
            continue
        notify(head)
        try:
            folder = store.unfinished(cell.key)
            run_cell(experiment, cell, folder, device=device, notify=notify, reuse=reuse)
            store.finish(cell.key)
            outcome.finished.append(cell.key)
        except Exception as error:  # whatever it is, the other cells are not lost
            store.fail(cell.key, error)
            outcome.failed[cell.key] = reason_of(error)
            notify(f"{head}: failed, {reason_of(error)}")
        gc.collect()  # a detector and its optimiser refer to each other
    return outcome


def title(cell: Cell) -> str:
    """Name a cell in words."""
    return f"{cell.row}, trained on {cell.train.name}, seed {cell.seed}"
