"""The process in which one video is decoded; `mfclip.serve.isolation` starts it.

Videos come from strangers, and FFmpeg is large: what goes wrong here ends this process and nothing
else. It has no model. Faces are found here, and judged by the server at the other end of the pipe.
"""

from __future__ import annotations

import io
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from mfclip.card import EngineName, Precision, read_card
from mfclip.engines import Judged
from mfclip.engines.engine import ModelFacts
from mfclip.engines.known_prompts import read_prompts
from mfclip.errors import InputError
from mfclip.media.transforms import Pixels
from mfclip.media.video import VideoInfo, probe, scan
from mfclip.predict.faces import Crop, DetectedFaces, FaceFinder, WholePicture
from mfclip.predict.predictor import Predictor
from mfclip.predict.schema import to_json
from mfclip.predict.video import judge_video, look_closer
from mfclip.predict.video_prediction import VideoPrediction
from mfclip.report.report import Report
from mfclip.report.wording import Language, Words
from mfclip.runtime.isolated import limit_process
from mfclip.runtime.pipe import receive, send

MEMORY = 4 << 30
"""Bytes of private memory."""

FRAME = 960
"""Longer side of the copy of a frame, pixels."""


class RemoteEngine:
    """An engine at the other end of a pipe.

    Args:
        line: to the server.
        about: name, precision and facts of the server's engine.
    """

    def __init__(self, line: Connection, about: dict[str, Any]) -> None:
        self.name: EngineName = about["name"]
        self.precision: Precision = about["precision"]
        self.image_size: int = about["image_size"]
        prompts = read_prompts(about["prompts"])
        self.facts = ModelFacts(self.image_size, about["patch_size"], prompts)
        self._line = line

    def judge(self, images: Float[Tensor, "b 3 h w"]) -> Judged:
        """Let the server judge faces."""
        send(self._line, {"kind": "judge"}, images.numpy())
        header, arrays = receive(self._line.recv_bytes)
        found = zip(header["names"], arrays, strict=True)
        tensors = {name: torch.from_numpy(array) for name, array in found}
        return Judged(tensors["logits"], tensors.get("features"), tensors.get("patch_index"))


class WatchedFinder:
    """Finds faces as another finder does, and keeps a small picture of every frame it is shown.

    Args:
        finder: what finds them.

    Attributes:
        name: of that finder.
        frames: JPEGs with the faces framed, in the order in which they came.
    """

    def __init__(self, finder: FaceFinder) -> None:
        self.name = finder.name
        self.frames: list[np.ndarray] = []
        self._finder = finder

    def find(self, picture: Pixels) -> list[Crop]:
        """Find the faces of one frame."""
        crops: list[Crop] = []
        try:
            crops = self._finder.find(picture)
        finally:
            self.frames.append(draw_frame(picture, crops))
        return crops


def draw_frame(picture: Pixels, crops: list[Crop]) -> np.ndarray:
    """Return a small JPEG of a frame with its faces framed, as bytes in an array."""
    small = Image.fromarray(picture)
    small.thumbnail((FRAME, FRAME))
    scale = small.width / picture.shape[1]
    pen = ImageDraw.Draw(small)
    for box in (crop.box for crop in crops if crop.box):
        corners = [scale * side for side in (box.left, box.top, box.right, box.bottom)]
        pen.rectangle(corners, outline="black", width=4)
        pen.rectangle(corners, outline="white", width=2)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return np.frombuffer(buffer.getvalue(), np.uint8)


def main(line: Connection) -> None:
    """Judge the one video that the first message names; the whole life of the process."""
    task, _ = receive(line.recv_bytes)
    limit_process(MEMORY)
    try:
        predictor, finder = prepare(line, task)
        video = judge(line, task, predictor)
        frames = tuple(finder.frames)
        report = write_report(predictor, video, task["name"], task["language"])
    except InputError as error:
        send(line, {"kind": "refused", "error": str(error)})
        return
    except Exception:  # damaged files raise errors of every kind
        send(line, {"kind": "refused", "error": "the video is damaged; get it anew"})
        return
    found = {"video": to_json(video), "judged": list(video.judged), "report": report}
    send(line, {"kind": "done", **found}, *frames)


def prepare(line: Connection, task: dict[str, Any]) -> tuple[Predictor, WatchedFinder]:
    """Make a predictor that judges as the server's does."""
    finder = WatchedFinder(_finder(task))
    predictor = Predictor(
        RemoteEngine(line, task["engine"]),
        read_card(task["card"]),
        threshold=task["threshold"],
        finder=finder,
    )
    return predictor, finder


def judge(line: Connection, task: dict[str, Any], predictor: Predictor) -> VideoPrediction:
    """Judge a video.

    Raises:
        InputError: it cannot be judged, or is larger or longer than allowed.
    """
    path = Path(task["path"])
    contents = scan(path)
    check(probe(path, contents), task["max_pixels"], task["max_seconds"])
    return judge_video(
        predictor,
        path,
        contents,
        count=task["frames"],
        progress=lambda _, done, total: send(
            line, {"kind": "progress", "done": done, "total": total}
        ),
    )


def write_report(
    predictor: Predictor, video: VideoPrediction, name: str, language: Language
) -> str:
    """Return the page on a video.

    Args:
        predictor: what judged.
        video: what it found.
        name: of the file, as its sender called it.
        language: of the page.
    """
    page = Report(predictor.describe(), words=Words(language))
    page.add_video(video, look_closer(predictor, video, video.moments), name=name)
    return page.render()


def check(info: VideoInfo, max_pixels: int, max_seconds: float) -> None:
    """Refuse a video that is too large or too long.

    Raises:
        InputError: it is.
    """
    if info.width * info.height > max_pixels:
        raise InputError(
            f"frames of {info.width} x {info.height} pixels, more than the {max_pixels:,} that "
            "this server reads; scale it down"
        )
    if info.seconds > max_seconds:
        raise InputError(
            f"a video of {info.seconds:.0f} seconds, more than the {max_seconds:g} that this "
            "server takes; cut it"
        )


def _finder(task: dict[str, Any]) -> FaceFinder:
    if task["whole"]:
        return WholePicture()
    card = read_card(task["card"])
    return DetectedFaces(margin=card.face_margin, align=card.face_align)
