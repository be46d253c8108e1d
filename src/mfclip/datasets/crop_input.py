"""One picture or video -> its face crops and one record that says they are complete."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mfclip.data.manifest import relative_name
from mfclip.errors import ConfigError, InputError
from mfclip.media.faces import Face, FaceDetector, crop_face
from mfclip.media.images import read_image
from mfclip.media.tracking import FaceTracker
from mfclip.media.video import VIDEO_SUFFIXES, Frame, frames
from mfclip.runtime.whole_file import write_bytes

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
        if self.num_frames < 1 or self.size < 1 or not self.margin > 0:
            message = (
                "expected num_frames and size of at least 1 and a positive margin, but got "
                f"{self.num_frames}, {self.size} and {self.margin}"
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
    """

    source: Path
    name: str
    out: Path
    options: PrepareOptions

    @property
    def is_video(self) -> bool:
        """Told by the ending of the file."""
        return self.source.suffix.lower() in VIDEO_SUFFIXES

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


def make_task(source: Path, root: Path, out: Path, options: PrepareOptions) -> Task:
    """Name an input after its file and a hash of its path within the data set."""
    digest = hashlib.sha256(relative_name(source, root).encode()).hexdigest()[:12]
    return Task(source, f"{source.stem[:40]}-{digest}", out, options)


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
        kind, reason = ("", "") if crops else ("without_face", _no_face(task))
    except InputError as error:
        crops, kind, reason = [], "unreadable", str(error)
    if not task.options.every_face:
        crops = _main_person(crops)
    rows = [_write(task, crop) for crop in crops]
    record = {"stamp": stamp, "failure": kind, "reason": reason, "crops": rows}
    write_bytes(task.record, json.dumps(record).encode(), sync=False)


def _find(task: Task, detector: FaceDetector) -> Iterator[_Crop]:
    tracker = FaceTracker()
    for frame in _look(task):
        faces = detector.detect(frame.image)
        people = tracker.follow([face.box for face in faces])
        for face, person in list(zip(faces, people, strict=True))[: _limit(task)]:
            content = _encode(frame.image, face, task.options)
            yield _Crop(frame.index, frame.seconds, person, face, content)


def _limit(task: Task) -> int | None:
    if task.options.every_face:
        return None
    return RIVALS if task.is_video else 1


def _look(task: Task) -> Iterator[Frame]:
    if task.is_video:
        return frames(task.source, count=task.options.num_frames)
    return iter([Frame(read_image(task.source), 0, 0.0)])


def _main_person(crops: Sequence[_Crop]) -> list[_Crop]:
    """Crops of the person whose faces have the largest area together."""
    area: dict[int, float] = {}
    for crop in crops:
        area[crop.person] = area.get(crop.person, 0.0) + crop.face.side**2
    return [crop for crop in crops if area[crop.person] == max(area.values())]


def _encode(image: NDArray[np.uint8], face: Face, options: PrepareOptions) -> bytes:
    crop = crop_face(image, face, size=options.size, margin=options.margin, align=options.align)
    buffer = io.BytesIO()
    if options.quality is None:
        Image.fromarray(crop).save(buffer, "PNG", compress_level=3)
    else:
        Image.fromarray(crop).save(buffer, "JPEG", quality=options.quality, subsampling=0)
    return buffer.getvalue()


def _write(task: Task, crop: _Crop) -> dict[str, Any]:
    """Write one crop; returns its row of ``crops.csv``, box and landmarks in source pixels."""
    ending = "png" if task.options.quality is None else "jpg"
    name = f"{task.name}_{crop.frame:06d}_{crop.person}.{ending}"
    path = Path("crops") / task.name[-2:] / name
    write_bytes(task.out / path, crop.content, sync=False)
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
    }


def _no_face(task: Task) -> str:
    where = f"in {task.options.num_frames} frames" if task.is_video else "in the picture"
    return f"no face found {where}"


def _stamp(path: Path) -> list[int]:
    """Size in bytes and date in nanoseconds; empty if the file is not there."""
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]
