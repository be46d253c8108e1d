"""The scores of a video over time: as a picture (SVG) and as one line of text."""

from __future__ import annotations

from html import escape
from itertools import pairwise

from mfclip.card import Verdict
from mfclip.predict.video_prediction import FrameScore, Track, VideoPrediction, timecode

WIDTH, HEIGHT = 720, 240
"""Of the picture, in its own units; it scales."""

LEFT, RIGHT, TOP, BOTTOM = 44, 700, 24, 196
"""Edges of the plot in the picture."""

MAX_OTHERS = 8
"""Lines of other faces, at most: those seen longest."""

MAX_POINTS = 2000
"""Points of a line, at most; of a longer one every n-th is drawn."""

LEVELS = ("▁▂▃▄▅▆▇█", "_.:-=+*#")
"""Eight heights of the line of text, and what stands for them where only ASCII can be shown."""


def draw_timeline(video: VideoPrediction) -> str:
    """Draw score over time as SVG, which needs nothing else and takes the text's colour.

    The suspect face is a thick line with dots, other faces are thin dashed lines; nothing is told
    by colour alone. The band of uncertain scores is shaded. Numbers mark the moments, in the order
    of `video.moments`; ticks on the base show where a frame was looked at.
    """
    label = (
        f"Score over time, from 0, real, to 1, fake: mean {video.score:.2f}, standard deviation "
        f"{video.spread:.2f}, {len(video.suspect.frames)} frames of face {video.suspect.number}"
    )
    others = sorted(
        (track for track in video.tracks if track is not video.suspect),
        key=lambda track: -len(track.frames),
    )
    parts = (
        _bands(video),
        _axes(video),
        *(_line(track, video, is_suspect=False) for track in others[:MAX_OTHERS]),
        _line(video.suspect, video, is_suspect=True),
        _marks(video),
    )
    return (
        f'<svg class="timeline" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(label)}" font-family="system-ui, sans-serif" font-size="12" '
        f'fill="currentColor" stroke="none" width="100%">{"".join(parts)}</svg>'
    )


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


def _x(seconds: float, video: VideoPrediction) -> float:
    return LEFT + (RIGHT - LEFT) * min(1.0, seconds / video.seconds)


def _y(score: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * score


def _bands(video: VideoPrediction) -> str:
    """Shade what decides nothing and name the parts; a single line where nothing is uncertain."""
    low, high = video.bands.real_below, min(1.0, video.bands.fake_from)
    edges = "".join(
        f'<line x1="{LEFT}" x2="{RIGHT}" y1="{_y(edge):.1f}" y2="{_y(edge):.1f}" '
        'stroke="currentColor" stroke-opacity=".55" stroke-dasharray="2 3"/>'
        for edge in sorted({low, high})
    )
    shade = (
        f'<rect x="{LEFT}" width="{RIGHT - LEFT}" y="{_y(high):.1f}" '
        f'height="{_y(low) - _y(high):.1f}" fill-opacity=".13"/>'
    )
    names = [("fake", (1 + high) / 2, 1 - high), ("real", low / 2, low)]
    if video.bands.allow_uncertain:
        names.append(("uncertain", (low + high) / 2, high - low))
    texts = "".join(
        f'<text x="{RIGHT - 4}" y="{_y(middle) + 4:.1f}" text-anchor="end" fill-opacity=".7">'
        f"{name}</text>"
        for name, middle, room in names
        if room * (BOTTOM - TOP) >= 14  # noqa: PLR2004 - a line of text
    )
    return (shade if video.bands.allow_uncertain else "") + edges + texts


def _axes(video: VideoPrediction) -> str:
    scale = "".join(
        f'<text x="{LEFT - 6}" y="{_y(score) + 4:.1f}" text-anchor="end">{score:g}</text>'
        for score in (0.0, 0.5, 1.0)
    )
    times = "".join(
        f'<text x="{LEFT + (RIGHT - LEFT) * part:.1f}" y="{BOTTOM + 22}" '
        f'text-anchor="{anchor}">{timecode(part * video.seconds)}</text>'
        for part, anchor in ((0, "start"), (0.5, "middle"), (1, "end"))
    )
    frame = (
        f'<path d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}" fill="none" stroke="currentColor" '
        'stroke-opacity=".6"/>'
    )
    names = (
        f'<text x="{LEFT}" y="{HEIGHT - 6}" fill-opacity=".7">time, minutes:seconds; thick line: '
        f"face {video.suspect.number}, the most suspect; dashed: other faces</text>"
    )
    return frame + scale + times + names


def _line(track: Track, video: VideoPrediction, *, is_suspect: bool) -> str:
    """A line through the scores of one face, broken where it was out of sight."""
    place = {index: number for number, index in enumerate(video.judged)}
    step = max(1, len(track.frames) // MAX_POINTS)
    frames = track.frames[::step]
    path, dots = f"M{_point(frames[0], video)}", ""
    for previous, frame in pairwise(frames):
        follows = place[frame.index] - place[previous.index] <= step
        path += f"{'L' if follows else 'M'}{_point(frame, video)}"
    if is_suspect:
        dots = "".join(
            f'<circle cx="{_x(f.seconds, video):.1f}" cy="{_y(f.score):.1f}" r="3.2">'
            f"<title>{timecode(f.seconds)}, frame {f.index}, score {f.score:.3f}</title></circle>"
            for f in frames
        )
    style = 'stroke-width="2.2"' if is_suspect else 'stroke-opacity=".55" stroke-dasharray="5 4"'
    return f'<path d="{path}" fill="none" stroke="currentColor" {style}/>{dots}'


def _point(frame: FrameScore, video: VideoPrediction) -> str:
    return f"{_x(frame.seconds, video):.1f} {_y(frame.score):.1f}"


def _marks(video: VideoPrediction) -> str:
    """Number the moments, and tick the frames that were looked at."""
    seconds = video.seconds / max(1, video.num_frames)
    looked = "".join(
        f"M{_x(index * seconds, video):.1f} {BOTTOM}v5"
        for index in video.judged[:: max(1, len(video.judged) // MAX_POINTS)]
    )
    numbers = "".join(
        f'<text x="{_x(moment.seconds, video):.1f}" y="{_y(moment.score) - 7:.1f}" '
        f'text-anchor="middle" font-weight="700">{number}</text>'
        for number, moment in enumerate(video.moments, 1)
    )
    return f'<path d="{looked}" stroke="currentColor" stroke-opacity=".5"/>{numbers}'
