"""What scores parts: the same class in this process and in each process of a cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from mfclip.data.shards import open_place, read_tar
from mfclip.errors import InputError, ManifestError
from mfclip.media.images import MAX_FILE
from mfclip.predict.face_reader import Content, FoundFile, Input
from mfclip.predict.faces import WholePicture
from mfclip.predict.mixed import judge_numbered_files
from mfclip.predict.prediction import Failure
from mfclip.predict.predictor import Predictor
from mfclip.report.results import Run
from mfclip.scale.part import Part, PartResult, Row
from mfclip.scale.place import Place, is_address, persist
from mfclip.scale.source import Kind
from mfclip.scale.table import TYPES, records, to_parquet

Faces: TypeAlias = Literal["whole", "detect"]

RECORD = list(TYPES).index("record")


@dataclass(frozen=True, slots=True)
class ScoreJob:
    """Everything that a worker is told, once.

    Attributes:
        out: where results go, a folder or an address.
        root: where relative paths of rows start.
        kind: of source.
        faces: take each picture as one face, or find the faces in it.
        rows_per_part: of a manifest or folder.
        weights: as `Predictor.load` takes them; each worker resolves them itself.
        engine: name of what computes.
        precision: of the engine.
        device: of torch.
        threads: of torch; None leaves them as they are.
        threshold: the user's own; None for the card's bands.
        batch_size: faces that go through the model together; does not change the scores.
        frames: of a video.
        every: look at every n-th frame of a video instead.
        key: of the run, once it is known; a worker that comes to another one is refused.
    """

    out: str
    root: str
    kind: Kind
    faces: Faces
    rows_per_part: int
    weights: str | None = None
    engine: str = "auto"
    precision: str | None = None
    device: str = "auto"
    threads: int | None = None
    threshold: float | None = None
    batch_size: int = 32
    frames: int = 32
    every: int | None = None
    key: str = ""

    def load(self) -> Predictor:
        """Load what judges."""
        return Predictor.load(
            self.weights,
            device=self.device,
            threshold=self.threshold,
            finder=WholePicture() if self.faces == "whole" else None,
            engine=self.engine,
            precision=self.precision,
        )

    def run_of(self, predictor: Predictor) -> Run:
        """Return everything that a result depends on, but for the pictures."""
        settings = {
            "source": self.kind,
            "rows_per_part": self.rows_per_part,
            "frames": self.frames,
            "every": self.every,
        }
        return Run(predictor.describe(), settings)


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What a worker says of itself before it gets a part.

    Attributes:
        run: what it would score with, see `ScoreJob.run_of`.
        pid: of its process.
        device: it computes on.
    """

    run: Run
    pid: int
    device: str


@dataclass(slots=True)
class Worker:
    """Scores parts and writes their files.

    Attributes:
        job: what is to be done.
        predictor: what judges; None loads it when the worker is asked whether it is ready.
    """

    job: ScoreJob
    predictor: Predictor | None = None

    def ready(self) -> WorkerFacts:
        """Load the model, once, and say what it is."""
        if self.job.threads is not None:
            torch.set_num_threads(self.job.threads)
        run = self.job.run_of(self._load())
        return WorkerFacts(run, os.getpid(), self.job.device)

    def score(self, part: Part) -> PartResult:
        """Score a part and write its file.

        Inputs that cannot be judged are rows with an error.

        Raises:
            ManifestError: a shard is absent, damaged, or holds other faces than its list says.
            OSError: the file cannot be written.
        """
        began, processor = time.perf_counter(), time.process_time()
        rows: list[Row] = []
        cells: list[tuple[Any, ...]] = []
        last, face = -1, 0
        inputs = self._inputs(part, rows)
        for number, found in judge_numbered_files(
            self._load(),
            inputs,
            count=self.job.frames,
            every=self.job.every,
            batch_size=self.job.batch_size,
        ):
            last, face = number, (face + 1 if number == last else 1)
            cells += records(part, number, rows[number], face, found)
        if len(rows) != part.num_rows:
            raise ManifestError(
                f"{part.shard} holds {len(rows)} faces and its list says {part.num_rows}; write "
                "the shards anew"
            )
        num_errors = sum(each[RECORD] == "error" for each in cells)
        seconds = time.perf_counter() - began
        facts = {
            "key": self.job.key,
            "rows": len(rows),
            "errors": num_errors,
            "seconds": round(seconds, 3),
            "processor_seconds": round(time.process_time() - processor, 3),
        }
        content = to_parquet(cells, facts)
        name = part.name(self.job.key)
        persist(partial(Place(self.job.out).write, name, content))
        return PartResult(part.number, len(rows), num_errors, seconds)

    def _load(self) -> Predictor:
        if self.predictor is None:
            self.predictor = self.job.load()
        return self.predictor

    def _inputs(self, part: Part, rows: list[Row]) -> Iterator[Input]:
        """Yield what is judged, and note the row of each."""
        if part.shard is not None:
            for record, content in read_tar(part.shard, open_place):
                rows.append(_row_of(record))
                yield Content(rows[-1].path, partial(bytes, content))
            return
        for row in part.rows:
            rows.append(row)
            yield self._input(row)

    def _input(self, row: Row) -> Input:
        if row.error:
            return Failure(row.path, row.error)
        root, name = self.job.root, row.path.replace("\\", "/")
        if is_address(name) or (is_address(root) and not name.startswith("/")):
            address = name if is_address(name) else f"{root.rstrip('/')}/{name}"
            return Content(row.path, _fetching(address))
        path = Path(name) if is_address(root) else Path(root, name)
        return FoundFile(path) if self.job.kind == "folder" else path


def _row_of(record: dict[str, Any]) -> Row:
    return Row(**{name: str(record.get(name) or "") for name in Row._fields[:-1]})


def _fetching(address: str) -> Callable[[], bytes]:
    """Return a function that fetches a file, again if the net fails."""

    def fetch() -> bytes:
        with open_place(address) as file:
            content: bytes = file.read(MAX_FILE + 1)
        if len(content) > MAX_FILE:
            raise InputError(f"a file of more than the {MAX_FILE:,} bytes that are read")
        return content

    return partial(persist, fetch)
