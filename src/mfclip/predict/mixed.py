"""Images and videos in any mixture -> predictions, in their order."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
from typing import Any

from mfclip.errors import describe_failure
from mfclip.predict.face_reader import Input, VideoFile
from mfclip.predict.prediction import Failure
from mfclip.predict.predictor import Predictor
from mfclip.predict.video import judge_video
from mfclip.predict.video_prediction import AnyResult
from mfclip.runtime.parallel import Progress, silent


def judge_files(
    predictor: Predictor,
    inputs: Iterable[Input],
    *,
    count: int = 32,
    every: int | None = None,
    batch_size: int = 32,
    keep_pixels: bool = False,
    progress: Progress = silent,
) -> Generator[AnyResult, None, None]:
    """Judge images and videos; which is which, a file's first bytes tell, and else its ending.

    An input that cannot be judged is a `Failure`, whatever it raised, and the others go on.

    Args:
        predictor: judges the images, and the videos' frames.
        inputs: files (also those that `mfclip.predict.files.find_files` found), arrays, or failures
            found earlier, which are passed through.
        count: as `judge_video` takes it.
        every: as `judge_video` takes it.
        batch_size: faces that go through the model together.
        keep_pixels: keep the model input and a small copy with each image's prediction.
        progress: told how far each video is.

    Yields:
        In the order of `inputs`.
    """
    numbered = judge_numbered_files(
        predictor,
        inputs,
        count=count,
        every=every,
        batch_size=batch_size,
        keep_pixels=keep_pixels,
        progress=progress,
    )
    with closing(numbered):
        for _, result in numbered:
            yield result


def judge_numbered_files(
    predictor: Predictor,
    inputs: Iterable[Input],
    *,
    count: int = 32,
    every: int | None = None,
    batch_size: int = 32,
    keep_pixels: bool = False,
    progress: Progress = silent,
) -> Generator[tuple[int, AnyResult], None, None]:
    """Do what `judge_files` does, and say of each result which input it belongs to, from 0."""
    options: dict[str, Any] = {"count": count, "every": every, "batch_size": batch_size}
    images = predictor.judge_numbered(inputs, batch_size=batch_size, keep_pixels=keep_pixels)
    with closing(images):
        for number, result in images:
            if not isinstance(result, VideoFile):
                yield number, result
                continue
            path = result.path
            try:
                video = judge_video(predictor, path, **options, progress=progress)
            except Exception as error:  # decoders of damaged files raise errors of every kind
                yield number, Failure(str(path), describe_failure(error, str(path)))
            else:
                yield number, video
