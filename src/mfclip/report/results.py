"""Results as JSON, at once or written as they come in."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from mfclip.predict import schema
from mfclip.predict.prediction import SCHEMA, Failure, Prediction, Skipped
from mfclip.predict.video_prediction import AnyResult, VideoPrediction


def to_json(results: Sequence[AnyResult], model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON form (schema 2), for programs that hold all results in memory.

    Args:
        results: in any order; predictions, videos and errors each keep theirs.
        model: what judged, see `mfclip.predict.predictor.Predictor.describe`.

    Example:
        >>> to_json([Failure("a.jpg", "empty file")], {})["errors"]
        [{'path': 'a.jpg', 'error': 'empty file'}]
    """
    return {
        "schema": SCHEMA,
        "model": dict(model),
        "predictions": [schema.to_json(r) for r in results if isinstance(r, Prediction)],
        "videos": [schema.to_json(r) for r in results if isinstance(r, VideoPrediction)],
        "errors": [schema.to_json(r) for r in results if isinstance(r, Failure)],
        "skipped": [schema.to_json(r) for r in results if isinstance(r, Skipped)],
    }


class JsonResults:
    """Writes the same, one result at a time; only errors and what was skipped are in memory.

    Args:
        file: where to write.
        model: what judged, from `mfclip.predict.predictor.Predictor.describe`.
    """

    def __init__(self, file: TextIO, model: Mapping[str, Any]) -> None:
        self._file = file
        self._errors: list[dict[str, Any]] = []
        self._skipped: list[dict[str, Any]] = []
        self._separators = {"faces": "\n", "videos": "\n"}
        file.write(f'{{"schema": {SCHEMA},\n"model": {_dump(dict(model))},\n"predictions": [')
        self._videos = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115

    def add(self, result: AnyResult) -> None:
        """Write a prediction, or keep a video or an error for the end."""
        if isinstance(result, Failure):
            self._errors.append(schema.to_json(result))
            return
        if isinstance(result, Skipped):
            self._skipped.append(schema.to_json(result))
            return
        is_video = isinstance(result, VideoPrediction)
        kind, file = ("videos", self._videos) if is_video else ("faces", self._file)
        file.write(self._separators[kind] + _dump(schema.to_json(result)))
        self._separators[kind] = ",\n"

    def close(self) -> None:
        """Write videos and errors and end the document; the file stays open."""
        self._file.write('],\n"videos": [')
        with self._videos as videos:
            videos.seek(0)
            shutil.copyfileobj(videos, self._file)
        errors, skipped = (",\n".join(map(_dump, each)) for each in (self._errors, self._skipped))
        self._file.write(f'],\n"errors": [{errors}],\n"skipped": [{skipped}]}}\n')


def _dump(value: dict[str, Any]) -> str:
    return json.dumps(value, allow_nan=False)
