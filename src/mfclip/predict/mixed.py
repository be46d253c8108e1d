"""Pictures and videos in any mixture -> predictions, in their order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from mfclip.errors import InputError, MissingExtraError
from mfclip.media.sniff import is_video
from mfclip.media.video import VIDEO_SUFFIXES
from mfclip.predict.prediction import Failure
from mfclip.predict.predictor import Predictor
from mfclip.predict.video import judge_video
from mfclip.predict.video_prediction import AnyResult
from mfclip.runtime.parallel import Progress, silent


def judge_files(
    predictor: Predictor,
    inputs: Iterable[Path | Failure],
    *,
    count: int = 32,
    every: int | None = None,
    batch_size: int = 32,
    keep_pixels: bool = False,
    progress: Progress = silent,
) -> Iterator[AnyResult]:
    """Judge pictures and videos; which is which, a file's first bytes tell, and else its ending.

    A video that cannot be judged is a `Failure`, and the others go on.

    Args:
        predictor: judges the pictures, and the videos' frames.
        inputs: files, or failures found earlier, which are passed through.
        count: as `judge_video` takes it.
        every: as `judge_video` takes it.
        batch_size: faces that go through the model together.
        keep_pixels: keep the model input with each picture's prediction.
        progress: told how far each video is.

    Yields:
        In the order of `inputs`.
    """
    for are_videos, group in groupby(inputs, key=_is_video):
        if not are_videos:
            yield from predictor.iter_predict(group, batch_size=batch_size, keep_pixels=keep_pixels)
            continue
        for path in (entry for entry in group if isinstance(entry, Path)):
            try:
                yield judge_video(
                    predictor, path,
                    count=count, every=every, batch_size=batch_size, progress=progress,
                )  # fmt: skip
            except (InputError, MissingExtraError, OSError) as error:
                yield Failure(str(path), str(error).removeprefix(f"{path}: "))


def is_video_file(path: Path) -> bool:
    """Tell whether a file is judged as a video: by its first bytes, else by its ending."""
    return is_video(path, by_name=path.suffix.lower() in VIDEO_SUFFIXES)


def _is_video(entry: Path | Failure) -> bool:
    return isinstance(entry, Path) and is_video_file(entry)
