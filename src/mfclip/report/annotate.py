"""A copy of a video with each face's box, number and score drawn on every frame."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mfclip.card import Verdict
from mfclip.media.transforms import Pixels
from mfclip.media.video import Frame, frames_at, scan, write_frames
from mfclip.predict.prediction import Box
from mfclip.predict.video_prediction import FrameScore, VideoPrediction
from mfclip.runtime.parallel import Progress, silent

ENDINGS = frozenset({".m4v", ".mkv", ".mov", ".mp4"})
"""Of copies: the containers that hold H.264 and varying frame rates."""

COLOURS: dict[Verdict, tuple[int, int, int]] = {
    "fake": (213, 94, 0),
    "uncertain": (240, 228, 66),
    "real": (86, 180, 233),
}
"""Okabe and Ito's colours, which the colour-blind tell apart; the label says the same in words."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What is drawn of one face on one frame.

    Attributes:
        number: of the face.
        box: where it is, pixels; None for the whole frame.
        score: of the nearest judged frame.
        was_judged: this very frame was judged; otherwise the box lies between two that were.
    """

    number: int
    box: Box | None
    score: float
    was_judged: bool


def annotate(video: VideoPrediction, target: Path, *, progress: Progress = silent) -> None:
    """Write a copy with the same frames at the same times, H.264, without sound.

    On judged frames the box is thick and stands where the face was found. Between two of them in
    which a face was seen it is thin, and moves in a straight line; where the face was seen in one
    of them only, it stays there up to half-way. The score is that of the nearest judged frame.
    The film is read anew and streams through, one frame in memory at a time.

    Args:
        video: from `judge_video`; the file must still be there.
        target: one of `ENDINGS`; written whole or not at all.
        progress: told the frames that were written.

    Raises:
        InputError: the video went away or cannot be decoded.
        OSError: the target cannot be written.
    """
    path = Path(video.path)
    contents = video.contents or scan(path)
    marker = Marker(video)

    def drawn() -> Iterator[Frame]:
        for done, frame in enumerate(frames_at(path, contents, range(contents.count)), 1):
            image = draw_marks(frame.image, marker.marks(frame.index), video)
            yield Frame(image, frame.index, frame.seconds)
            progress(f"writing {target.name}", done, contents.count)

    write_frames(target, drawn(), contents.fps)


class Marker:
    """Knows where each face is on any frame of a judged video."""

    def __init__(self, video: VideoPrediction) -> None:
        self._judged = video.judged
        self._seen: dict[int, dict[int, FrameScore]] = defaultdict(dict)
        for track in video.tracks:
            for frame in track.frames:
                self._seen[frame.index][track.number] = frame

    def marks(self, index: int) -> list[Mark]:
        """Say what is drawn on the frame with this index."""
        place = bisect_left(self._judged, index)
        after = self._judged[place] if place < len(self._judged) else None
        if after == index:
            faces = self._seen.get(index, {})
            return [Mark(number, f.box, f.score, True) for number, f in faces.items()]
        before = self._judged[place - 1] if place else None
        if before is None or after is None:
            nearest = after if before is None else before
            faces = self._seen.get(nearest, {}) if nearest is not None else {}
            return [Mark(number, f.box, f.score, False) for number, f in faces.items()]
        return self._between(before, after, (index - before) / (after - before))

    def _between(self, before: int, after: int, part: float) -> list[Mark]:
        """Marks on the way from one judged frame to the next; `part` of it, 0 to 1, is done."""
        early, late = self._seen.get(before, {}), self._seen.get(after, {})
        marks = []
        for number in sorted({*early, *late}):
            one, other = early.get(number), late.get(number)
            near = one if part <= 1 / 2 else other
            if near is None:
                continue
            box = near.box
            if one and other and one.box and other.box:
                box = _move(one.box, other.box, part)
            marks.append(Mark(number, box, near.score, False))
        return marks


def _move(one: Box, other: Box, part: float) -> Box:
    pairs = ((one.left, other.left), (one.top, other.top), (one.right, other.right),
             (one.bottom, other.bottom))  # fmt: skip
    left, top, right, bottom = (round(a + part * (b - a)) for a, b in pairs)
    return Box(left, top, right, bottom)


def draw_marks(image: Pixels, marks: Sequence[Mark], video: VideoPrediction) -> Pixels:
    """Draw boxes and labels on a copy of a frame, RGB."""
    if not marks:
        return image
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    unit = max(1, round(min(picture.size) / 240))
    font = ImageFont.load_default(max(12, min(picture.size) / 24))
    for mark in marks:
        verdict = video.bands.verdict(mark.score)
        colour = COLOURS[verdict]
        box = mark.box or Box(0, 0, *picture.size)
        corners = (box.left, box.top, box.right - 1, box.bottom - 1)
        pen.rectangle(corners, outline=colour, width=unit * (3 if mark.was_judged else 1))
        label = f"{mark.number}: {mark.score:.2f} {verdict}"
        _write(pen, label, box, font, colour)
    return np.asarray(picture)


def _write(
    pen: ImageDraw.ImageDraw,
    label: str,
    box: Box,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    colour: tuple[int, int, int],
) -> None:
    """Write a label above a box, or inside it where there is no room above."""
    left, top, right, bottom = pen.textbbox((0, 0), label, font=font)
    width, height = right - left + 8, bottom - top + 8
    x = max(0, min(box.left, pen.im.size[0] - width))
    y = box.top - height if box.top >= height else box.top
    pen.rectangle((x, y, x + width, y + height), fill=colour)
    pen.text((x + 4 - left, y + 4 - top), label, font=font, fill=(0, 0, 0))
