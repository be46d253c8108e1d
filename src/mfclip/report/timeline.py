"""The scores of a video over time: as a plot's data, and as one line of text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from mfclip.card import Verdict
from mfclip.predict.video_prediction import Track, VideoPrediction
from mfclip.report.wording import Words

MAX_OTHERS = 8
"""Lines of other faces, at most: those seen longest."""

MAX_POINTS = 2000
"""Points of a line, at most; of a longer one every n-th is drawn."""

NUM_TICKS = 5
"""Times written under the plot."""

LONG = 20.0
"""Seconds from which the times under the plot need no tenths."""

LEVELS = ("▁▂▃▄▅▆▇█", "_.:-=+*#")
"""Eight heights of the line of text, and what stands for them where only ASCII can be shown."""


@dataclass(frozen=True, slots=True)
class Point:
    """A score at a time.

    Attributes:
        x: share of the video's length, percent from the left.
        y: percent from the top; 0 is a score of 1.
        told: time and score in words.
        joined: a line leads here from the point before; not where the face was out of sight.
    """

    x: float
    y: float
    told: str
    joined: bool


@dataclass(frozen=True, slots=True)
class Line:
    """One face over time.

    Attributes:
        number: of the face.
        is_suspect: whether its score stands for the video.
        points: in the order of showing.
    """

    number: int
    is_suspect: bool
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """A plot of score over time; places are percent of its width and height.

    Attributes:
        label: the plot in one sentence, for those who do not see it.
        caption: beneath it.
        lines: other faces first, the suspect one last, so that it lies on top.
        ticks: places on the base, and the times written there.
        moments: places of the most suspect moments, most suspect first.
        looked: places on the base of the frames that were judged.
    """

    label: str
    caption: str
    lines: tuple[Line, ...]
    ticks: tuple[tuple[float, str], ...]
    moments: tuple[tuple[float, float], ...]
    looked: tuple[float, ...]


def plot_scores(video: VideoPrediction, words: Words) -> Timeline:
    """Lay out the scores of all faces over the time of a video."""
    suspect = video.suspect
    others = sorted(
        (track for track in video.tracks if track is not suspect),
        key=lambda track: -len(track.frames),
    )
    seconds = video.seconds / max(1, video.num_frames)
    shares = [place / (NUM_TICKS - 1) for place in range(NUM_TICKS)]
    decimals = 0 if video.seconds >= LONG else 1
    return Timeline(
        label=words(
            "film.timeline_label",
            score=words.number(video.score),
            spread=words.number(video.spread),
            frames=words.count("frame", len(suspect.frames)),
            number=suspect.number,
        ),
        caption=words("film.timeline_caption", number=suspect.number),
        lines=tuple(
            Line(track.number, track is suspect, tuple(_points(track, video, words)))
            for track in [*others[:MAX_OTHERS], suspect]
        ),
        ticks=tuple((100 * s, words.clock(s * video.seconds, decimals)) for s in shares),
        moments=tuple((_x(m.seconds, video), _y(m.score)) for m in video.moments),
        looked=tuple(
            _x(index * seconds, video)
            for index in video.judged[:: max(1, len(video.judged) // MAX_POINTS)]
        ),
    )


def _points(track: Track, video: VideoPrediction, words: Words) -> Iterator[Point]:
    place = {index: number for number, index in enumerate(video.judged)}
    step = max(1, len(track.frames) // MAX_POINTS)
    frames = track.frames[::step]
    follows = [place[b.index] - place[a.index] <= step for a, b in pairwise(frames)]
    for frame, joined in zip(frames, [False, *follows], strict=True):
        score = words("score.told", score=words.number(frame.score))
        told = f"{words.clock(frame.seconds)}, {score}"
        yield Point(_x(frame.seconds, video), _y(frame.score), told, joined)


def _x(seconds: float, video: VideoPrediction) -> float:
    return round(100 * min(1.0, seconds / video.seconds), 2)


def _y(score: float) -> float:
    return round(100 * (1 - score), 2)


def sparkline(
    video: VideoPrediction, *, width: int = 32, ascii_only: bool = False
) -> list[tuple[str, Verdict | None]]:
    """Show the suspect face's scores as a line of characters.

    Args:
        video: what was judged.
        width: characters, each an equal part of the frames; fewer if fewer were judged.
        ascii_only: for terminals that show nothing else.

    Returns:
        For each part its height (mean score) and verdict; a space and None where the face was not
        seen.
    """
    levels = LEVELS[ascii_only]
    width = max(1, min(width, len(video.judged)))
    parts: list[list[float]] = [[] for _ in range(width)]
    place = {index: number for number, index in enumerate(video.judged)}
    for frame in video.suspect.frames:
        parts[place[frame.index] * width // len(place)].append(frame.score)
    shown: list[tuple[str, Verdict | None]] = []
    for scores in parts:
        if not scores:
            shown.append((" ", None))
            continue
        mean = sum(scores) / len(scores)
        height = levels[min(len(levels) - 1, int(mean * len(levels)))]
        shown.append((height, video.bands.verdict(mean)))
    return shown
