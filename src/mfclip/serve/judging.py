"""One upload -> what is answered. Runs in threads; knows nothing of HTTP but its problems."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from mfclip.errors import InputError, WeightsError
from mfclip.media.transforms import Pixels
from mfclip.predict.face_scorer import to_images
from mfclip.predict.faces import WholePicture
from mfclip.predict.heat_map import heat_map, overlay
from mfclip.predict.prediction import Failure, Prediction
from mfclip.predict.predictor import Predictor
from mfclip.report.report import Report
from mfclip.report.results import to_json
from mfclip.report.wording import Words
from mfclip.runtime.isolated import CrashError
from mfclip.serve.evidence import embed, show_evidence
from mfclip.serve.isolation import judge_isolated
from mfclip.serve.jobs import Outcome
from mfclip.serve.limits import Limits
from mfclip.serve.problem import Problem
from mfclip.serve.upload import Upload
from mfclip.serve.workers import Workers

HEAT_BATCH = 4
"""Faces whose heat maps are computed together."""

MAX_HEAT = 16
"""Faces of an image that get a heat map, the largest: each takes as long as judging ten."""

HEAT_SECONDS = 10.0
"""For all heat maps of an image; faces that are not reached in that time get none."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges uploads.

    Attributes:
        predictor: may be used by several threads at once.
        limits: of pixels, seconds and frames.
        workers: read the images.
    """

    predictor: Predictor
    limits: Limits
    workers: Workers
    # one thread, since each that computes would keep a team of helpers of its own
    _heat: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "mfclip-heat"))

    def judge_image(
        self, upload: Upload, *, check: Callable[[], None], report: bool = False
    ) -> Outcome:
        """Judge an image; it is read and searched for faces by another process.

        Args:
            upload: the image.
            check: called several times a second; what it raises ends the work.
            report: write the page, too.

        Raises:
            Problem: 422, nothing in it can be judged.
        """
        options, predictor = upload.options, self._predictor(upload)
        is_shown = options.evidence or report
        try:
            faces = self.workers.read(
                upload.path,
                whole=options.whole,
                name=upload.name,
                preview=is_shown,
                check=check,
            )
        except InputError as error:
            raise refuse(str(error), upload) from None
        judged = predictor.judge(faces, keep_pixels=is_shown)
        predictions = [_expect(result, upload) for result in judged]
        document = to_json(predictions, predictor.describe())
        small = faces[0].preview
        if small is None:
            return Outcome(document)
        pixels = [prediction.pixels for prediction in predictions if prediction.pixels is not None]
        heat = self._heat_maps(pixels, check)
        if options.evidence:
            document["picture"] = embed(small)
            rows = zip(document["predictions"], predictions, heat, strict=True)
            for entry, prediction, shown in rows:
                entry["evidence"] = show_evidence(prediction, shown)
        if not report:
            return Outcome(document)
        page = Report(predictor.describe(), words=Words(upload.language))
        for prediction, shown in zip(predictions, heat, strict=True):
            page.add(prediction, name=upload.name, heat=shown)
        return Outcome(document, page.render().encode("utf-8", "replace"))

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
            "name": upload.name,
            "language": upload.language,
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
        return Outcome(document, judged.report.encode(), judged.frames)

    def _predictor(self, upload: Upload) -> Predictor:
        if not upload.options.whole:
            return self.predictor
        return self.predictor.using(finder=WholePicture(check=True))

    def _heat_maps(self, faces: Sequence[Pixels], check: Callable[[], None]) -> list[Pixels | None]:
        """Show where in the first faces the score was raised, as far as the time reaches."""
        end = time.monotonic() + HEAT_SECONDS
        maps = self._heat.submit(self._draw_heat, faces[:MAX_HEAT], end, check).result()
        return [*maps, *[None] * (len(faces) - len(maps))]

    def _draw_heat(
        self, faces: Sequence[Pixels], end: float, check: Callable[[], None]
    ) -> list[Pixels]:
        """Draw heat maps until a moment that would be passed by the next few."""
        try:
            detector = self.predictor.detector
        except WeightsError:  # an exported graph has no gradients
            return []
        place = next(detector.parameters()).device
        maps: list[Pixels] = []
        begun = now = time.monotonic()
        while len(maps) < len(faces) and now + (now - begun) * HEAT_BATCH / max(1, len(maps)) < end:
            check()
            part = faces[len(maps) : len(maps) + HEAT_BATCH]
            heat = heat_map(detector, to_images(part).to(place))
            maps += [overlay(*pair) for pair in zip(part, heat, strict=True)]
            now = time.monotonic()
        return maps


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
