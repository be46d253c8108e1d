"""Pictures and videos of a manifest -> face crops and the manifest of the crops.

In the output folder::

    options.json        what the crops were made with; a second run must ask for the same
    crops/ab/*.png      the faces
    records/ab/*.json   one an input, written after its crops: the unit of resuming
    crops.csv           of each crop: source, frame, seconds, person, box, pose
    failures.csv        inputs that gave no crop, and why
    manifest.csv        crops with the labels, split and group of their source
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from mfclip.data.manifest import Manifest, Sample
from mfclip.datasets.crop_input import PrepareOptions, Task, crop_input, make_task, read_record
from mfclip.errors import ConfigError, InputError, MfclipError
from mfclip.media.faces import FaceDetector
from mfclip.runtime.parallel import Progress, silent
from mfclip.runtime.whole_file import sweep, write_bytes, write_whole

DETECTOR = "mtcnn 1.0.0, mfclip 1"
"""Stored with the options, so that the crops of two detectors do not mix in one folder."""

CROP_COLUMNS = (
    *("path", "source", "frame", "seconds", "person", "confidence"),
    *("left", "top", "right", "bottom", "roll", "yaw"),
)
FAILURE_COLUMNS = ("path", "failure", "reason", "label", "generator", "split")

OUTPUTS = ("options.json", "crops.csv", "failures.csv", "manifest.csv")
"""Names of the tables in the output folder."""

CHANGED: dict[str, Any] = {
    "failure": "unreadable",
    "reason": "the file changed while faces were being found; run again",
    "crops": [],
}
"""Stands for the record of an input that was finished and is no longer what it was."""


@dataclass(frozen=True, slots=True)
class PrepareReport:
    """What came of it.

    Attributes:
        inputs: pictures and videos named by the manifest.
        resumed: those that an earlier run had finished.
        crops: faces in the new manifest.
        without_face: inputs that were read and hold no face, by generator (``real`` for reals).
        unreadable: inputs that could not be read, likewise.
        manifest: the crops and their labels.
        failures: the list of both kinds of failure.
    """

    inputs: int
    resumed: int
    crops: int
    without_face: Counter[str]
    unreadable: Counter[str]
    manifest: Path
    failures: Path


def prepare(
    manifest: Manifest,
    out: Path,
    options: PrepareOptions | None = None,
    *,
    workers: int = 0,
    progress: Progress = silent,
) -> PrepareReport:
    """Cut the faces out of every picture and video of a manifest.

    May be killed at any moment: a second call with the same arguments goes on where it stopped
    and ends with the same files. An input whose size or date changed is done anew.

    Args:
        manifest: rows whose path has a video's ending give up to `num_frames` crops a person.
        out: folder to write to.
        options: how crops are made; the defaults if omitted.
        workers: number of processes; 0 works in this one. With more than 0 a script must guard
            its start with ``if __name__ == "__main__":``, as `multiprocessing` demands.
        progress: told the count of inputs done.

    Raises:
        ConfigError: `out` holds crops made with other options.
        InputError: no input gave a face; ``failures.csv`` says why.
        MissingExtraError: a package that finds faces or reads videos is not installed.
    """
    out, options = out.absolute(), options or PrepareOptions()
    sweep(out, recursive=True)
    _keep_options(out / "options.json", options)
    tasks = {s.path: make_task(s.path, manifest.root, out, options) for s in manifest}
    waiting = [task for task in tasks.values() if read_record(task) is None]
    resumed = len(tasks) - len(waiting)
    progress("finding faces", resumed, len(tasks))
    for done, _ in enumerate(_run(waiting, workers), start=resumed + 1):
        progress("finding faces", done, len(tasks))
    return replace(_collect(manifest, tasks, out), resumed=resumed)


def _keep_options(path: Path, options: PrepareOptions) -> None:
    """Store the options of the first run; refuse others later."""
    wanted = {"detector": DETECTOR, **asdict(options)}
    if not path.exists():
        write_bytes(path, json.dumps(wanted, indent=1).encode())
        return
    stored = json.loads(path.read_bytes())
    if stored != wanted:
        names = sorted(n for n in stored | wanted if stored.get(n) != wanted.get(n))
        changes = ", ".join(f"{n}={stored.get(n)!r} there, {wanted.get(n)!r} now" for n in names)
        message = (
            f"{path.parent} holds crops made with other options ({changes}); name a new folder"
        )
        raise ConfigError(message)


def _run(tasks: Sequence[Task], workers: int) -> Iterator[None]:
    """Do the tasks in any order, a few ahead of the processes; yields once a task."""
    if workers < 1:
        with _one_thread():
            yield from map(_work, tasks)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    todo = iter(tasks)
    try:
        running: set[Future[None]] = {pool.submit(_work, t) for t in islice(todo, 2 * workers)}
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
                running |= {pool.submit(_work, task) for task in islice(todo, 1)}
    except BrokenProcessPool:
        message = (
            "a process that finds faces was ended from outside, perhaps for want of memory; what "
            "is finished is kept: run again, with fewer workers"
        )
        raise MfclipError(message) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A pool's processes would wait for ever if the main one is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Networks this small only wait for each other on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _work(task: Task) -> None:
    crop_input(task, _detector())


@cache
def _detector() -> FaceDetector:
    return FaceDetector()


def _collect(manifest: Manifest, tasks: Mapping[Path, Task], out: Path) -> PrepareReport:
    """Join the records, in the order of the manifest, to the three tables."""
    samples: list[Sample] = []
    lost: dict[str, Counter[str]] = {"without_face": Counter(), "unreadable": Counter()}
    crops, failures = out / "crops.csv", out / "failures.csv"
    with _table(crops, CROP_COLUMNS) as crop_rows, _table(failures, FAILURE_COLUMNS) as lost_rows:
        for sample in manifest:
            record = read_record(tasks[sample.path]) or CHANGED
            if record["failure"]:
                lost[record["failure"]][_class(sample)] += 1
                lost_rows.writerow(_failure(sample, record))
            for crop in record["crops"]:
                crop_rows.writerow({"source": sample.path.as_posix(), **crop})
                samples.append(_crop_sample(sample, tasks[sample.path], out, crop))
    if not samples:
        raise InputError(f"no face in any of {len(tasks)} inputs; the reasons are in {failures}")
    Manifest(tuple(samples), out).write(out / "manifest.csv")
    return PrepareReport(
        inputs=len(tasks),
        resumed=0,
        crops=len(samples),
        without_face=lost["without_face"],
        unreadable=lost["unreadable"],
        manifest=out / "manifest.csv",
        failures=failures,
    )


def _crop_sample(sample: Sample, task: Task, out: Path, crop: Mapping[str, Any]) -> Sample:
    video_id = sample.video_id or (task.name if task.is_video else None)
    return replace(sample, path=out / crop["path"], video_id=video_id)


def _class(sample: Sample) -> str:
    return (sample.labels.generator or "unknown") if sample.labels.is_fake else "real"


def _failure(sample: Sample, record: Mapping[str, Any]) -> dict[str, str]:
    return {
        "path": sample.path.as_posix(),
        "failure": record["failure"],
        "reason": record["reason"],
        "label": "fake" if sample.labels.is_fake else "real",
        "generator": sample.labels.generator or "",
        "split": sample.split,
    }


@contextmanager
def _table(path: Path, columns: Sequence[str]) -> Iterator[csv.DictWriter[str]]:
    """A CSV file that is there whole or not at all."""
    with write_whole(path, newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        yield writer
