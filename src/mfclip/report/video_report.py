"""A judged video on the report page: verdict, score over time, best moments, all faces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from mfclip.errors import InputError
from mfclip.media.transforms import Pixels
from mfclip.media.video import Frame
from mfclip.predict.prediction import Prediction
from mfclip.predict.video_prediction import Track, VideoPrediction, timecode
from mfclip.report.timeline import draw_timeline
from mfclip.report.views import THUMBNAIL, embed, show_figure, show_scale, show_views
from mfclip.report.wording import VERDICT_WORDS

MAX_FACES = 30
"""Faces that are listed: those seen longest."""


def show_video(
    video: VideoPrediction,
    moments: Iterable[tuple[Frame, Prediction]],
    model: Mapping[str, Any],
    named: str,
    show_heat: Callable[[Pixels], Pixels] | None = None,
) -> str:
    """Show what was found in a video, as HTML to stand below its heading.

    Args:
        video: what was judged.
        moments: its most suspect ones, from `mfclip.predict.video.look_closer`; taken one by one.
        model: what judged, from `mfclip.predict.predictor.Predictor.describe`.
        named: the file, as the page may name it.
        show_heat: lays the heat map over the first moment's model input; None leaves it out.
    """
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in video.warnings)
    return (
        f'{_score(video)}{notes}<figure class="wide">{draw_timeline(video)}'
        "<figcaption>Score over time. Numbers mark the most suspect moments; ticks on the base are "
        "the frames that were judged.</figcaption></figure>"
        f"{_moments(video, moments, model, show_heat)}{_faces(video)}{_facts(video, named)}"
    )


def _score(video: VideoPrediction) -> str:
    suspect, verdict = video.suspect, video.verdict
    whose = "" if len(video.tracks) == 1 else f", face {suspect.number} of {len(video.tracks)}"
    return (
        f'<p><span class="verdict {verdict}">{VERDICT_WORDS[verdict]}</span>, score '
        f"{video.score:.3f} "
        f'<span class="soft">(mean of {len(suspect.frames)} frames{whose}; standard deviation '
        f"{video.spread:.3f})</span></p>"
        f"{show_scale(video.score, video.bands)}"
    )


def _moments(
    video: VideoPrediction,
    moments: Iterable[tuple[Frame, Prediction]],
    model: Mapping[str, Any],
    show_heat: Callable[[Pixels], Pixels] | None,
) -> str:
    """Show frame and face of each moment; what the model looks at only for the first."""
    places = {moment.index: place for place, moment in enumerate(video.moments, 1)}
    shown: dict[int, str] = {}
    try:
        for frame, prediction in moments:
            place = places[frame.index]
            views, pixels = _frame(frame, prediction, place), prediction.pixels
            if place == 1:
                heat = show_heat(pixels) if show_heat and pixels is not None else None
                views += show_views(prediction, model, heat)
            elif pixels is not None:
                size = (prediction.image_size, prediction.image_size)
                views += show_figure(embed(pixels), size, None, f"{place}: what the model saw")
            shown[place] = f'<div class="{"views" if place == 1 else "pair"}">{views}</div>'
    except InputError as error:
        return f'<p class="note">{escape(str(error))}</p>'
    first = shown.pop(1, "")
    others = "".join(shown[place] for place in sorted(shown))
    return f'<h4>Most suspect moments</h4>{first}<div class="views">{others}</div>'


def _frame(frame: Frame, prediction: Prediction, place: int) -> str:
    small = Image.fromarray(frame.image)
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    caption = (
        f"{place}: at {timecode(frame.seconds)}, frame {frame.index}, score {prediction.score:.3f}"
    )
    size = (prediction.width, prediction.height)
    return show_figure(embed(np.asarray(small)), size, prediction.face, caption)


def _faces(video: VideoPrediction) -> str:
    """List the faces, the most suspect first; nothing for a single one."""
    if len(video.tracks) == 1:
        return ""
    longest = sorted(video.tracks, key=lambda track: -len(track.frames))[:MAX_FACES]
    rows = "".join(_face(track, video) for track in sorted(longest, key=lambda track: -track.score))
    more = len(video.tracks) - len(longest)
    rest = f'<p class="soft">and {more} seen more briefly</p>' if more else ""
    heads = ("face", "score", "deviation", "verdict", "frames", "first seen", "last seen")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return (
        f'<h4>Faces</h4><div class="scroll"><table><tr>{head}</tr>{rows}</table></div>{rest}'
        '<p class="soft">The most suspect face that is seen long enough gives the video its '
        "score.</p>"
    )


def _face(track: Track, video: VideoPrediction) -> str:
    name = f"{track.number}" + (", decides" if track is video.suspect else "")
    cells = (
        f"{track.score:.3f}",
        f"{track.spread:.3f}",
        video.bands.verdict(track.score),
        f"{len(track.frames)}",
        timecode(track.frames[0].seconds),
        timecode(track.frames[-1].seconds),
    )
    row = "".join(f'<td class="number">{cell}</td>' for cell in cells)
    return f'<tr><th scope="row">{name}</th>{row}</tr>'


def _facts(video: VideoPrediction, named: str) -> str:
    return (
        f'<p class="soft">{escape(named)}, {video.width} x '
        f"{video.height} pixels, {timecode(video.seconds)}, {video.num_frames} frames, "
        f"{video.fps:.4g} a second, {escape(video.codec)}; {len(video.judged)} frames judged, "
        f"{video.num_with_face} with a face<br>SHA-256 <code>{video.sha256}</code></p>"
    )
