"""What is said about one video: faces followed through its frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from mfclip.card import Bands, Verdict
from mfclip.media.video import Contents
from mfclip.predict.prediction import Box, Kind, Result, Skipped

LEAST_FRAMES = 3
"""Frames in which a face must be seen for its mean score to decide, where there are enough."""

LEAST_SHARE = 0.1
"""And the share of the frames with a face."""


@dataclass(frozen=True, slots=True)
class FrameScore:
    """One face in one frame.

    Attributes:
        index: place of the frame in the video, from 0.
        seconds: time after the first frame.
        score: probability of fake, in [0, 1].
        box: the face in the upright frame, pixels; None when the whole frame was judged.
    """

    index: int
    seconds: float
    score: float
    box: Box | None


@dataclass(frozen=True, slots=True)
class Track:
    """One face followed through the frames that were judged.

    Attributes:
        number: of the face in this video, from 1, in the order in which the faces appear.
        frames: at least one, in the order of showing.
        kinds: as in `mfclip.predict.prediction.Prediction`, mean over the frames.
    """

    number: int
    frames: tuple[FrameScore, ...]
    kinds: Mapping[str, tuple[Kind, ...]]

    @property
    def score(self) -> float:
        """Mean over the frames."""
        return float(np.mean([frame.score for frame in self.frames]))

    @property
    def spread(self) -> float:
        """Standard deviation of the frames' scores; 0 for a single frame."""
        return float(np.std([frame.score for frame in self.frames]))


@dataclass(frozen=True, slots=True)
class Moment:
    """A frame of a face, as the JSON form names it: with a time for reading, and the face."""

    index: int
    seconds: float
    score: float
    box: Box | None
    time: str
    track: int


@dataclass(frozen=True, slots=True)
class VideoPrediction:
    """What the model says about one video.

    Attributes:
        path: the file as it was named by the caller.
        tracks: the faces, in the order in which they appear; at least one.
        suspect: the one of `tracks` whose score stands for the video.
        moments: frames of that track with the highest scores, highest first, not close together.
        bands: which scores get which verdict; fitted on single pictures.
        seconds: length of the video.
        fps: frames a second, on average.
        width: of the upright frame, pixels.
        height: of the upright frame, pixels.
        codec: FFmpeg's name of the coding, e.g. ``h264``.
        num_frames: frames in the file.
        judged: indices of the frames that were looked at, rising.
        num_with_face: of those, frames in which a face was found.
        sha256: of the file's bytes, in hexadecimal.
        warnings: reasons to trust the score less.
        unreliable: those of them for which the score decides nothing, since they hold in most
            frames of the suspect face; the verdict is then ``uncertain``.
        contents: of the file, so that it need not be scanned again. Not part of the JSON form.
    """

    path: str
    tracks: tuple[Track, ...]
    suspect: Track
    moments: tuple[FrameScore, ...]
    bands: Bands
    seconds: float
    fps: float
    width: int
    height: int
    codec: str
    num_frames: int
    judged: tuple[int, ...]
    num_with_face: int
    sha256: str
    warnings: tuple[str, ...] = ()
    unreliable: tuple[str, ...] = ()
    contents: Contents | None = field(default=None, repr=False, compare=False)

    @property
    def score(self) -> float:
        """Mean over the frames of the suspect face, in [0, 1]."""
        return self.suspect.score

    @property
    def spread(self) -> float:
        """Standard deviation over the frames of the suspect face."""
        return self.suspect.spread

    @property
    def kinds(self) -> Mapping[str, tuple[Kind, ...]]:
        """Kinds of the suspect face, mean over its frames."""
        return self.suspect.kinds

    @property
    def verdict(self) -> Verdict:
        """``real``, ``uncertain`` or ``fake``, by the bands of the weights."""
        return "uncertain" if self.unreliable else self.bands.verdict(self.score)

    @property
    def num_judged(self) -> int:
        """Frames that were looked at."""
        return len(self.judged)

    @property
    def told_moments(self) -> tuple[Moment, ...]:
        """`moments`, with a time for reading and the number of their face."""
        return tuple(
            Moment(m.index, m.seconds, m.score, m.box, timecode(m.seconds), self.suspect.number)
            for m in self.moments
        )


AnyResult: TypeAlias = Result | VideoPrediction | Skipped
"""What one input gives: a failure, one prediction for each face, one for a video, or nothing since
it was left out."""


def timecode(seconds: float) -> str:
    """Write a time as minutes, seconds and thousandths, with hours where there are any.

    Example:
        >>> timecode(83.0204), timecode(3725.5)
        ('01:23.020', '1:02:05.500')
    """
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    clock = f"{minutes:02d}:{milliseconds // 1000:02d}.{milliseconds % 1000:03d}"
    return f"{hours}:{clock}" if hours else clock


def find_suspect(tracks: Sequence[Track], num_with_face: int) -> Track:
    """Choose the face that stands for the video: the highest mean of those seen long enough.

    Long enough is a tenth of the frames with a face and at least `LEAST_FRAMES`; of fewer than 12
    frames with a face, a quarter. If no face is, the one seen in most frames.
    """
    least = least_frames(num_with_face)
    long = [track for track in tracks if len(track.frames) >= least]
    if long:
        return max(long, key=lambda track: track.score)
    return max(tracks, key=lambda track: (len(track.frames), track.score))


def least_frames(num_with_face: int) -> int:
    """Frames in which a face must be seen for its score to decide.

    Example:
        >>> [least_frames(count) for count in (1, 4, 8, 12, 32, 1000)]
        [1, 1, 2, 3, 4, 100]
    """
    few = min(LEAST_FRAMES, -(-num_with_face // 4))
    return max(few, -int(-num_with_face * LEAST_SHARE // 1))


def find_moments(track: Track, count: int, apart: float) -> tuple[FrameScore, ...]:
    """Choose the frames with the highest scores, highest first.

    Args:
        track: a face.
        count: frames at most.
        apart: seconds between any two of them, at least.
    """
    chosen: list[FrameScore] = []
    for frame in sorted(track.frames, key=lambda frame: -frame.score):
        if all(abs(frame.seconds - other.seconds) >= apart for other in chosen):
            chosen.append(frame)
        if len(chosen) == count:
            break
    return tuple(chosen)
