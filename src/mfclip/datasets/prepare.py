"""Pictures and videos of a manifest -> face crops and the manifest of the crops.

In the output folder::

    options.json        what the crops were made with; a second run must ask for the same
    framing.json        margin and alignment alone: `mfclip train` takes them from here
    crops/ab/*.png      the faces
    records/ab/*.json   one an input, written after its crops: the unit of resuming
    crops.csv           of each crop: source, frame, seconds, person, box, pose
    failures.csv        inputs that gave no crop, and why
    manifest.csv        crops with the labels, split and group of their source
"""

from __future__ import annotations

import csv
import hashlib
import io
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

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mfclip.data.manifest import (
    FRAMING,
    Framing,
    Manifest,
    Sample,
    parse_landmarks,
    relative_name,
    write_landmarks,
)
from mfclip.errors import ConfigError, InputError, MfclipError, MissingExtraError, describe_failure
from mfclip.media.faces import Face, FaceDetector, crop_face, place_in_crop
from mfclip.media.images import read_image
from mfclip.media.tracking import FaceTracker
from mfclip.media.video import Frame, frames, is_video_file
from mfclip.runtime.parallel import Progress, silent
from mfclip.runtime.whole_file import sweep, write_bytes, write_whole

DETECTOR = "mtcnn 1.0.0, mfclip 1"
"""Stored with the options, so that the crops of two detectors do not mix in one folder."""

CROP_COLUMNS = (
    *("path", "source", "frame", "seconds", "person", "confidence"),
    *("left", "top", "right", "bottom", "roll", "yaw", "landmarks", "mask"),
)
FAILURE_COLUMNS = ("path", "failure", "reason", "label", "generator", "split")

OUTPUTS = ("options.json", FRAMING, "crops.csv", "failures.csv", "manifest.csv")
"""Names of the tables in the output folder."""

CHANGED: dict[str, Any] = {
    "failure": "unreadable",
    "reason": "the file changed while faces were being found; run again",
    "crops": [],
}
"""Stands for the record of an input that was finished and is no longer what it was."""


RIVALS = 3
"""Faces a frame that may turn out to be the person of the video; bounds the memory."""


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """How crops are made; the same for real and fake, since nothing here sees a label.

    Attributes:
        num_frames: frames taken from a video, evenly spaced.
        size: side of a crop, pixels.
        margin: how many times wider than the bare face the view is.
        align: bring eyes, nose and mouth to fixed places.
        every_face: keep all faces; otherwise the largest, in a video the person whose face is
            largest over all frames.
        quality: of JPEG, 1 to 100, colour at full resolution; None writes PNG, without loss.
    """

    num_frames: int = 32
    size: int = 256
    margin: float = 1.3
    align: bool = True
    every_face: bool = False
    quality: int | None = None

    def __post_init__(self) -> None:
        if self.num_frames < 1 or self.size < 1 or not 0.1 <= self.margin <= 10:  # noqa: PLR2004
            message = (
                "expected num_frames and size of at least 1 and a margin of 0.1 to 10, as weights "
                f"may name it, but got {self.num_frames}, {self.size} and {self.margin}"
            )
            raise ConfigError(message)
        if self.quality is not None and not 1 <= self.quality <= 100:  # noqa: PLR2004
            raise ConfigError(f"expected a JPEG quality of 1 to 100, but got {self.quality}")


@dataclass(frozen=True, slots=True)
class Task:
    """One input to crop.

    Attributes:
        source: the picture or video.
        name: of its files, unique in the output folder.
        out: the output folder.
        options: how.
        mask: picture of what was forged, cut like its picture; None if there is none. Videos of
            masks are not read.
    """

    source: Path
    name: str
    out: Path
    options: PrepareOptions
    mask: Path | None = None

    @property
    def is_video(self) -> bool:
        """Told by the first bytes of the file, else by its ending."""
        return is_video_file(self.source)

    @property
    def record(self) -> Path:
        """File that exists when the input is finished."""
        return self.out / "records" / self.name[-2:] / f"{self.name}.json"


@dataclass(frozen=True, slots=True)
class _Crop:
    frame: int
    seconds: float
    person: int
    face: Face
    content: bytes
    mask: bytes | None = None


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
    tasks = {s.path: make_task(s, manifest.root, out, options) for s in manifest}
    waiting = [task for task in tasks.values() if read_record(task) is None]
    resumed = len(tasks) - len(waiting)
    progress("finding faces", resumed, len(tasks))
    for done, _ in enumerate(_run(waiting, workers), start=resumed + 1):
        progress("finding faces", done, len(tasks))
    framing = Framing(options.margin, options.align)
    return replace(_collect(manifest, tasks, out, framing), resumed=resumed)


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
    todo, running = iter(tasks), dict[Future[None], Task]()
    try:
        for task in islice(todo, 2 * workers):
            running[pool.submit(_work, task)] = task
        while running:
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()
                del running[future]
                yield
                for task in islice(todo, 1):
                    running[pool.submit(_work, task)] = task
    except BrokenProcessPool:
        names = ", ".join(sorted(str(task.source) for task in running.values()))
        message = (
            "a process that finds faces exited unexpectedly, for want of memory or because a file "
            f"made its decoder crash; what is finished is kept: run again with fewer workers, and "
            f"if it happens again, look at what was in work: {names}"
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


def make_task(sample: Sample, root: Path, out: Path, options: PrepareOptions) -> Task:
    """Name an input after its file and a hash of its path within the data set."""
    source = sample.path
    digest = hashlib.sha256(relative_name(source, root).encode()).hexdigest()[:12]
    return Task(source, f"{source.stem[:40]}-{digest}", out, options, sample.mask)


def read_record(task: Task) -> dict[str, Any] | None:
    """What a finished input gave; None if it is not finished or was changed since."""
    try:
        record: dict[str, Any] = json.loads(task.record.read_bytes())
    except (OSError, ValueError):
        return None
    return record if record["stamp"] == _stamp(task.source) else None


def crop_input(task: Task, detector: FaceDetector) -> None:
    """Write the crops of one input, and last its record: crops, or the reason for none."""
    stamp = _stamp(task.source)
    try:
        crops = list(_find(task, detector))
        where = f"in {task.options.num_frames} frames" if task.is_video else "in the picture"
        kind, reason = ("", "") if crops else ("without_face", f"no face found {where}")
    except MissingExtraError:  # nothing is wrong with the input, and the next one would fail, too
        raise
    except Exception as error:  # decoders of damaged files raise errors of every kind
        name = str(task.source)
        crops, kind = [], "unreadable"
        reason = f"{name}: {describe_failure(error, name)}"
    if not task.options.every_face:
        crops = _main_person(crops)
    rows = [_write(task, crop) for crop in crops]
    record = {"stamp": stamp, "failure": kind, "reason": reason, "crops": rows}
    write_bytes(task.record, json.dumps(record).encode(), sync=False)


def _find(task: Task, detector: FaceDetector) -> Iterator[_Crop]:
    tracker = FaceTracker()
    kept = None if task.options.every_face else RIVALS if task.is_video else 1
    if task.is_video:
        seen = frames(task.source, count=task.options.num_frames)
    else:
        seen = iter([Frame(read_image(task.source), 0, 0.0)])
    for frame in seen:
        faces = detector.detect(frame.image)
        people = tracker.follow([face.box for face in faces])
        for face, person in list(zip(faces, people, strict=True))[:kept]:
            content = _encode(frame.image, face, task.options)
            mask = _cut_mask(task, frame.image.shape, face)
            yield _Crop(frame.index, frame.seconds, person, face, content, mask)


def _main_person(crops: Sequence[_Crop]) -> list[_Crop]:
    """Crops of the person whose faces have the largest area together."""
    area: dict[int, float] = {}
    for crop in crops:
        area[crop.person] = area.get(crop.person, 0.0) + crop.face.side**2
    return [crop for crop in crops if area[crop.person] == max(area.values())]


def _cut_mask(task: Task, shape: tuple[int, ...], face: Face) -> bytes | None:
    """The part of a mask that belongs to one face, grey, as PNG; None if there is no mask.

    Raises:
        InputError: the mask cannot be read, or is of another size than its picture.
    """
    if task.mask is None or task.is_video or is_video_file(task.mask):
        return None
    mask = read_image(task.mask)
    if mask.shape != shape:
        sizes = [" x ".join(map(str, each[1::-1])) for each in (shape, mask.shape)]
        raise InputError(f"{task.mask}: expected a mask of {sizes[0]} pixels, but got {sizes[1]}")
    options = task.options
    crop = crop_face(mask, face, size=options.size, margin=options.margin, align=options.align)
    buffer = io.BytesIO()
    Image.fromarray(crop).convert("L").save(buffer, "PNG")
    return buffer.getvalue()


def _encode(image: NDArray[np.uint8], face: Face, options: PrepareOptions) -> bytes:
    crop = crop_face(image, face, size=options.size, margin=options.margin, align=options.align)
    buffer = io.BytesIO()
    if options.quality is None:
        Image.fromarray(crop).save(buffer, "PNG", compress_level=3)
    else:
        Image.fromarray(crop).save(buffer, "JPEG", quality=options.quality, subsampling=0)
    return buffer.getvalue()


def _write(task: Task, crop: _Crop) -> dict[str, Any]:
    """Write one crop; returns its row of ``crops.csv``, the box in pixels of the source."""
    ending = "png" if task.options.quality is None else "jpg"
    name = f"{task.name}_{crop.frame:06d}_{crop.person}.{ending}"
    path = Path("crops") / task.name[-2:] / name
    write_bytes(task.out / path, crop.content, sync=False)
    mask = Path("crops") / task.name[-2:] / f"{path.stem}_mask.png"
    if crop.mask is not None:
        write_bytes(task.out / mask, crop.mask, sync=False)
    options = task.options
    places = place_in_crop(crop.face, margin=options.margin, align=options.align)
    left, top, right, bottom = (round(side, 1) for side in crop.face.box)
    return {
        "path": path.as_posix(),
        "frame": crop.frame,
        "seconds": round(crop.seconds, 4),
        "person": crop.person,
        "confidence": round(crop.face.confidence, 4),
        "left": left,
        "top": top,
        "right": right,
        "bottom": bottom,
        "roll": round(crop.face.roll, 1),
        "yaw": round(crop.face.yaw, 1),
        "landmarks": write_landmarks(places),
        "mask": mask.as_posix() if crop.mask is not None else "",
    }


def _stamp(path: Path) -> list[int]:
    """Size in bytes and date in nanoseconds; empty if the file is not there."""
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _collect(
    manifest: Manifest, tasks: Mapping[Path, Task], out: Path, framing: Framing
) -> PrepareReport:
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
    Manifest(tuple(samples), out, framing).write(out / "manifest.csv")
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
    mask = crop.get("mask")
    return replace(
        sample,
        path=out / crop["path"],
        video_id=video_id,
        mask=out / mask if mask else None,
        landmarks=parse_landmarks(crop.get("landmarks", "")),
    )


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
