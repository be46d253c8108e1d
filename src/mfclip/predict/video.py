"""A video -> a score for every face and time, and one for the most suspect face.

Flow: packets -> chosen frames -> faces -> followed -> the predictor's own scoring -> mean of each.
Frames are read and searched in a thread, a few ahead of the model; of a frame only its numbers are
kept, so that memory does not grow with the film.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mfclip.errors import InputError
from mfclip.media.tracking import FaceTracker, look_of
from mfclip.media.video import CUT_SHORT, Contents, Frame, frames_at, scan
from mfclip.predict.face_reader import FaceReader, FoundFace
from mfclip.predict.prediction import Box, Failure, Kind, Prediction
from mfclip.predict.predictor import Predictor
from mfclip.predict.video_prediction import (
    FrameScore,
    Track,
    VideoPrediction,
    find_moments,
    find_suspect,
    least_frames,
    timecode,
)
from mfclip.runtime.ahead import read_ahead
from mfclip.runtime.parallel import Progress, silent
from mfclip.runtime.provenance import hash_file

WAITING = 4
"""Frames whose faces wait for the model, at most."""

MISSING_FRAMES = 8
"""A face may be out of sight for so many of the frames looked at before it counts as another."""

MISSING_SECONDS = 2.0
"""Or for so long, where that is more frames."""

MOMENTS = 5
"""Most suspect moments that are named."""

APART = 1 / 40
"""Distance between them, as a part of the video's length."""

PARTLY = 0.25
"""Share of frames that would be called fake from which a video that is not gets a warning."""

SAME = 0.5
"""Overlap from which a face found again is the one that was judged."""


@dataclass(frozen=True, slots=True)
class _Look:
    """One frame: its faces and their numbers."""

    index: int
    seconds: float
    size: tuple[int, int]
    faces: Sequence[FoundFace]
    numbers: Sequence[int]


@dataclass(frozen=True, slots=True)
class _Sighting:
    """One face on its way through the model."""

    index: int
    seconds: float
    number: int
    face: FoundFace


@dataclass(slots=True)
class _Tally:
    """What is known of one face so far."""

    frames: list[FrameScore] = field(default_factory=list)
    shares: dict[str, dict[str, float]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    warned: Counter[str] = field(default_factory=Counter)
    unreliable: Counter[str] = field(default_factory=Counter)

    def add(self, seen: _Sighting, result: Prediction) -> None:
        self.frames.append(FrameScore(seen.index, seen.seconds, result.score, seen.face.box))
        for level, kinds in result.kinds.items():
            shares = self.shares.setdefault(level, {})
            for kind in kinds:
                shares[kind.name] = shares.get(kind.name, 0.0) + kind.probability
        for warning in result.warnings:
            subject = _subject(warning)
            if not self.warned[subject]:
                self.warnings.append(warning)
            self.warned[subject] += 1
        self.unreliable.update(map(_subject, result.unreliable))

    def to_track(self, number: int) -> Track:
        kinds = {level: _mean(shares, len(self.frames)) for level, shares in self.shares.items()}
        return Track(number, tuple(self.frames), kinds)

    def notes(self) -> list[str]:
        """Warnings of single frames, each said once."""
        return [self._note(first) for first in self.warnings]

    def doubts(self) -> tuple[str, ...]:
        """Those that make most of the frames unreliable, and so their mean."""
        most = len(self.frames) / 2
        return tuple(
            self._note(first) for first in self.warnings if self.unreliable[_subject(first)] > most
        )

    def _note(self, first: str) -> str:
        count = self.warned[_subject(first)]
        return f"in {count} of {len(self.frames)} frames of this face: {first}"


@dataclass(slots=True)
class _Watch:
    """What the frames gave, filled while they go by."""

    judged: list[int] = field(default_factory=list)
    num_with_face: int = 0
    size: tuple[int, int] = (0, 0)
    tallies: dict[int, _Tally] = field(default_factory=dict)


def _subject(warning: str) -> str:
    """What a warning is about, without the numbers of one frame."""
    return warning.partition(" (")[0].partition(":")[0]


def judge_video(
    predictor: Predictor,
    path: str | Path,
    contents: Contents | None = None,
    *,
    count: int = 32,
    every: int | None = None,
    batch_size: int = 32,
    progress: Progress = silent,
) -> VideoPrediction:
    """Judge the faces of a video.

    Faces are found by `predictor.finder`, followed from frame to frame, and scored as those of a
    picture are. The score of a face is its mean over the frames; that of the video is the score of
    the most suspect face that is seen long enough (`find_suspect`).

    Args:
        predictor: its bands, fitted on single pictures, give the verdict too.
        path: of any coding that FFmpeg reads; sound is neither needed nor read.
        contents: of the file, if it was scanned already.
        count: frames that are looked at, evenly spaced; all if there are fewer.
        every: look at the frames 0, n, 2n, ... instead.
        batch_size: faces that go through the model together; does not change the scores.
        progress: told the frames that were looked at and how many there will be.

    Raises:
        InputError: no such file, no video, cut off so that nothing can be decoded, no face in any
            frame, or `count` or `every` below 1.
        MissingExtraError: the package that reads videos is not installed.
    """
    path, named = Path(path), str(path)
    contents = contents or scan(path)
    wanted = contents.choose(count=count, every=every)
    watch = _Watch()
    looks = read_ahead(_look(path, contents, wanted, predictor.reader), WAITING)
    try:
        _score(predictor, looks, watch, batch_size, lambda n: progress(named, n, len(wanted)))
    finally:
        looks.close()
    if not watch.tallies:
        raise InputError(_no_face(path, watch))
    return _conclude(predictor, named, contents, watch, len(wanted))


def look_closer(
    predictor: Predictor, video: VideoPrediction, moments: Sequence[FrameScore]
) -> Iterator[tuple[Frame, Prediction]]:
    """Judge faces of single frames again, with everything that is said about pictures.

    Args:
        predictor: the one that judged the video.
        video: from `judge_video`.
        moments: from its moments or its tracks' frames.

    Yields:
        In the order of showing: the frame, and the prediction with `pixels`; its `path` and
        `sha256` are the video's.

    Raises:
        InputError: the file went away or changed.
    """
    path = Path(video.path)
    wanted = {moment.index: moment for moment in sorted(moments, key=lambda m: m.index)}
    for frame in frames_at(path, video.contents or scan(path), list(wanted)):
        if frame.index not in wanted:
            raise InputError(_changed(path))
        box = wanted[frame.index].box
        crop = max(predictor.finder.find(frame.image), key=lambda crop: _overlap(crop.box, box))
        if _overlap(crop.box, box) < SAME:
            raise InputError(_changed(path))
        face = predictor.reader.prepare_crop(crop, frame.image)
        (result,) = predictor.scorer.score([face], keep_pixels=True)
        if isinstance(result, Failure):
            raise InputError(f"{path}: {result.error}")
        yield (
            frame,
            replace(
                result,
                path=video.path,
                face=box,
                width=video.width,
                height=video.height,
                sha256=video.sha256,
            ),
        )


def _changed(path: Path) -> str:
    return f"{path}: the video changed since it was judged"


def _overlap(one: Box | None, other: Box | None) -> float:
    """Shared area as a part of the area of both together."""
    if one is None or other is None:
        return float(one is other)
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    shared = max(0, width) * max(0, height)
    return shared / max(1, one.width * one.height + other.width * other.height - shared)


def _look(
    path: Path, contents: Contents, wanted: Sequence[int], reader: FaceReader
) -> Generator[_Look, None, None]:
    """Find and follow the faces of the wanted frames."""
    step = contents.duration / max(1, len(wanted))
    tracker = FaceTracker(patience=max(MISSING_FRAMES, math.ceil(MISSING_SECONDS / step)))
    for frame in frames_at(path, contents, wanted):
        try:
            crops = reader.finder.find(frame.image)
        except InputError:  # no face
            crops = []
        height, width = frame.image.shape[:2]
        boxes = [_rectangle(crop.box, width, height) for crop in crops]
        looks = [look_of(crop.pixels) if crop.box else None for crop in crops]
        numbers = tracker.follow(boxes, looks)
        faces = [reader.prepare_crop(crop, frame.image) for crop in crops]
        yield _Look(frame.index, frame.seconds, (width, height), faces, numbers)


def _rectangle(box: Box | None, width: int, height: int) -> tuple[float, float, float, float]:
    if box is None:
        return (0.0, 0.0, float(width), float(height))
    return (float(box.left), float(box.top), float(box.right), float(box.bottom))


def _score(
    predictor: Predictor,
    looks: Iterable[_Look],
    watch: _Watch,
    batch_size: int,
    told: Callable[[int], None],
) -> None:
    """Send all faces through the model, a batch at a time, and add each result to its face."""
    waiting: list[_Sighting] = []

    def judge(batch: Sequence[_Sighting]) -> None:
        results = predictor.scorer.score([seen.face for seen in batch]) if batch else []
        for seen, result in zip(batch, results, strict=True):
            if isinstance(result, Failure):
                raise InputError(result.error)
            watch.tallies.setdefault(seen.number, _Tally()).add(seen, result)

    for look in looks:
        watch.judged.append(look.index)
        watch.num_with_face += bool(look.faces)
        watch.size = look.size
        told(len(watch.judged))
        waiting += (
            _Sighting(look.index, look.seconds, number, face)
            for face, number in zip(look.faces, look.numbers, strict=True)
        )
        while len(waiting) >= batch_size:
            judge(waiting[:batch_size])
            del waiting[:batch_size]
    judge(waiting)


def _conclude(
    predictor: Predictor, named: str, contents: Contents, watch: _Watch, num_wanted: int
) -> VideoPrediction:
    order = sorted(watch.tallies)
    tracks = tuple(watch.tallies[key].to_track(number) for number, key in enumerate(order, 1))
    suspect = find_suspect(tracks, watch.num_with_face)
    width, height = watch.size
    video = VideoPrediction(
        path=named,
        tracks=tracks,
        suspect=suspect,
        moments=find_moments(suspect, MOMENTS, APART * contents.duration),
        bands=predictor.bands,
        seconds=contents.duration,
        fps=contents.count / contents.duration,
        width=width,
        height=height,
        codec=contents.codec,
        num_frames=contents.count,
        judged=tuple(watch.judged),
        num_with_face=watch.num_with_face,
        sha256=hash_file(Path(named)),
        contents=contents,
    )
    tally = watch.tallies[order[suspect.number - 1]]
    video = replace(video, unreliable=tally.doubts())
    return replace(video, warnings=(*_cautions(video, contents, num_wanted), *tally.notes()))


def _cautions(video: VideoPrediction, contents: Contents, num_wanted: int) -> Iterator[str]:
    """Reasons to trust the score less that lie in the video as a whole."""
    if contents.is_cut_short:
        yield CUT_SHORT
    judged, suspect = len(video.judged), video.suspect
    if judged < num_wanted:
        yield f"{num_wanted - judged} of {num_wanted} frames could not be decoded"
    if 2 * video.num_with_face < judged:
        yield f"a face was found in only {video.num_with_face} of {judged} frames"
    least = least_frames(video.num_with_face)
    if len(suspect.frames) < least:
        yield (
            f"no face is seen in {least} frames or more: the verdict rests on "
            f"{len(suspect.frames)}; look at more frames with --frames or --every"
        )
    called = [f.seconds for f in suspect.frames if video.bands.verdict(f.score) == "fake"]
    if video.verdict != "fake" and len(called) >= max(2, PARTLY * len(suspect.frames)):
        yield (
            f"{len(called)} of {len(suspect.frames)} frames of this face, from "
            f"{timecode(called[0])} to {timecode(called[-1])}, would be called fake by themselves: "
            "perhaps only a part of the video is forged"
        )
    for track in video.tracks:
        is_short = len(track.frames) < least
        if is_short and track is not suspect and video.bands.verdict(track.score) == "fake":
            yield (
                f"face {track.number}, seen in {len(track.frames)} of {judged} frames only, has "
                f"score {track.score:.3f}; that is too short to decide"
            )


def _no_face(path: Path, watch: _Watch) -> str:
    count = len(watch.judged)
    looked = "the one frame" if count == 1 else f"any of the {count} frames"
    return (
        f"{path}: no face found in {looked} looked at; look at more with --frames or --every, or "
        "use --whole to judge whole frames as one face"
    )


def _mean(shares: Mapping[str, float], count: int) -> tuple[Kind, ...]:
    kinds = (Kind(name, total / count) for name, total in shares.items())
    return tuple(sorted(kinds, key=lambda kind: -kind.probability))
