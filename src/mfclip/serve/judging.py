"""One upload -> what is answered. Runs in threads; knows nothing of HTTP but its problems."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from html import escape

from mfclip.errors import InputError, WeightsError
from mfclip.media.transforms import Pixels
from mfclip.predict.face_scorer import to_images
from mfclip.predict.faces import WholePicture
from mfclip.predict.heat_map import heat_map, overlay
from mfclip.predict.prediction import Failure, Prediction
from mfclip.predict.predictor import Predictor
from mfclip.report.report import Report
from mfclip.report.results import to_json
from mfclip.runtime.isolated import CrashError
from mfclip.serve.evidence import show_evidence, show_picture
from mfclip.serve.isolation import judge_isolated
from mfclip.serve.jobs import Outcome
from mfclip.serve.limits import Limits
from mfclip.serve.media import check_picture_size
from mfclip.serve.problem import Problem
from mfclip.serve.upload import Upload

HEAT_BATCH = 8
"""Faces whose heat maps are computed together."""

MAX_HEAT = 16
"""Faces of a picture that get a heat map, the largest: each takes as long as judging ten."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges uploads.

    Attributes:
        predictor: may be used by several threads at once.
        limits: of pixels, seconds and frames.
    """

    predictor: Predictor
    limits: Limits
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    def judge_picture(self, upload: Upload, *, report: bool = False) -> Outcome:
        """Judge a picture.

        Args:
            upload: the picture.
            report: write the page, too.

        Raises:
            Problem: 422, nothing in it can be judged.
        """
        check_picture_size(upload.path, self.limits.max_pixels)
        predictor = self._predictor(upload)
        found = predictor.iter_predict([upload.path], keep_pixels=True)
        predictions = [_expect(result, upload) for result in found]
        named = [replace(prediction, path=upload.name) for prediction in predictions]
        document = to_json(named, predictor.describe())
        if not upload.options.evidence and not report:
            return Outcome(document)
        faces = [p.pixels for p in predictions if p.pixels is not None]
        heat = self._heat_maps(faces)
        if upload.options.evidence:
            document["picture"] = show_picture(upload.path)
            rows = zip(document["predictions"], predictions, heat, strict=True)
            for entry, prediction, shown in rows:
                entry["evidence"] = show_evidence(prediction, shown)
        page = write_page(predictor, predictions, heat) if report else None
        return Outcome(document, _rename(page, upload) if page else None)

    def judge_video(
        self, upload: Upload, *, check: Callable[[], None], progress: Callable[[int, int], None]
    ) -> Outcome:
        """Judge a video in a process of its own.

        Args:
            upload: the video.
            check: called several times a second; what it raises ends the work.
            progress: told the frames looked at, and how many there will be.

        Raises:
            Problem: 422, it cannot be judged.
        """
        task = {
            "path": os.fspath(upload.path),
            "whole": upload.options.whole,
            "frames": self.limits.max_frames,
            "max_pixels": self.limits.max_pixels,
            "max_seconds": self.limits.max_video_seconds,
        }
        try:
            judged = judge_isolated(self.predictor, task, check=check, progress=progress)
        except InputError as error:
            raise refuse(str(error), upload) from None
        except CrashError:
            detail = "the video made its decoder crash; it is damaged, get it anew"
            raise Problem(422, "unreadable", detail) from None
        document = to_json([], self._predictor(upload).describe())
        document["videos"] = [{**judged.video, "path": upload.name}]
        return Outcome(document, _rename(judged.report, upload), judged.frames)

    def _predictor(self, upload: Upload) -> Predictor:
        if not upload.options.whole:
            return self.predictor
        return self.predictor.using(finder=WholePicture(check=True))

    def _heat_maps(self, faces: Sequence[Pixels]) -> list[Pixels | None]:
        """Show where in the first `MAX_HEAT` faces the score was raised."""
        maps: list[Pixels | None] = []
        with self._one_at_a_time:
            try:
                detector = self.predictor.detector
            except WeightsError:  # an exported graph has no gradients
                return [None] * len(faces)
            place = next(detector.parameters()).device
            for first in range(0, len(faces[:MAX_HEAT]), HEAT_BATCH):
                part = faces[first : min(first + HEAT_BATCH, MAX_HEAT)]
                heat = heat_map(detector, to_images(part).to(place))
                maps += [overlay(*pair) for pair in zip(part, heat, strict=True)]
        return maps + [None] * (len(faces) - len(maps))


def write_page(
    predictor: Predictor, predictions: Sequence[Prediction], heat: Sequence[Pixels | None]
) -> str:
    """Return the page on one picture.

    Args:
        predictor: what judged.
        predictions: of the picture, with pixels; its file must still be there.
        heat: the heat map of each; None where there is none.
    """
    page = Report(predictor.describe())
    for prediction, shown in zip(predictions, heat, strict=True):
        page.show_heat = None if shown is None else partial(_take, shown)
        page.add(prediction)
    return page.render()


def _take(shown: Pixels, _: Pixels) -> Pixels:
    return shown


def _rename(page: str, upload: Upload) -> bytes:
    """Put the sender's name of the file in the place of ours, which stands nowhere else."""
    for ours in (escape(os.fspath(upload.path)), upload.path.name):
        page = page.replace(ours, escape(upload.name))
    return page.encode()


def refuse(error: str, upload: Upload) -> Problem:
    """Say why an upload cannot be judged, in the words of this interface."""
    text = error.replace(os.fspath(upload.path), upload.name).removeprefix(f"{upload.name}: ")
    if not text.startswith("no face found"):
        return Problem(422, "unreadable", text)
    what = text.partition(";")[0]
    detail = f"{what}; send whole=true to judge the whole picture as one face"
    return Problem(422, "no_face", detail)


def _expect(result: Prediction | Failure, upload: Upload) -> Prediction:
    if isinstance(result, Failure):
        raise refuse(result.error, upload)
    return result
