"""One upload -> what is answered. Runs in threads; knows nothing of HTTP but its problems."""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

from mfclip.predict.faces import WholePicture
from mfclip.predict.prediction import Failure, Prediction, to_json
from mfclip.predict.predictor import Predictor
from mfclip.serve.evidence import show_evidence, show_picture
from mfclip.serve.limits import Limits
from mfclip.serve.media import check_picture_size
from mfclip.serve.problem import Problem
from mfclip.serve.upload import Upload


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges uploads.

    Attributes:
        predictor: may be used by several threads at once.
        limits: of pixels, seconds and frames.
    """

    predictor: Predictor
    limits: Limits

    def judge_picture(self, upload: Upload) -> tuple[dict[str, Any], list[Prediction]]:
        """Return the document on a picture, and its predictions with pixels.

        Raises:
            Problem: 422, nothing in it can be judged.
        """
        check_picture_size(upload.path, self.limits.max_pixels)
        found = self._predictor(upload).iter_predict([upload.path], keep_pixels=True)
        predictions = [_expect(result, upload) for result in found]
        document = to_json(rename(predictions, upload.name), self.predictor.describe())
        if upload.options.evidence:
            self._add_evidence(document, upload, predictions)
        return document, predictions

    def _predictor(self, upload: Upload) -> Predictor:
        if not upload.options.whole:
            return self.predictor
        whole = copy(self.predictor)
        whole.finder = WholePicture()
        return whole

    def _add_evidence(
        self, document: dict[str, Any], upload: Upload, predictions: Sequence[Prediction]
    ) -> None:
        document["picture"] = show_picture(upload.path)
        for entry, prediction in zip(document["predictions"], predictions, strict=True):
            entry["evidence"] = show_evidence(prediction, None)


def rename(predictions: Sequence[Prediction], name: str) -> list[Prediction]:
    """Put the sender's name of the file in the place of ours."""
    return [replace(prediction, path=name) for prediction in predictions]


def refuse(error: str, upload: Upload) -> Problem:
    """Say why an upload cannot be judged, in the words of this interface."""
    text = error.replace(os.fspath(upload.path), upload.name).removeprefix(f"{upload.name}: ")
    code = "no_face" if text.startswith("no face found") else "unreadable"
    if code == "no_face":
        text = "no face found; send whole=true to judge the whole picture as one face"
    return Problem(422, code, text)


def _expect(result: Prediction | Failure, upload: Upload) -> Prediction:
    if isinstance(result, Failure):
        raise refuse(result.error, upload)
    return result
