"""Frames out of a video, evenly spaced and timestamped, read as a stream with PyAV (FFmpeg).

The file is first run through without decoding, which gives every frame's time exactly, also where
the header states no length or the frame rate varies; then only what leads to a wanted frame is
decoded.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfclip.errors import InputError, require
from mfclip.media.sniff import HEAD, is_video, video_format
from mfclip.runtime.whole_file import partial_file

VIDEO_SUFFIXES = frozenset({
    ".3g2", ".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg",
    ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv",
})  # fmt: skip
"""Endings, in lower case, that promise a video; at use the content decides."""

QUALITY = 18
"""Constant rate factor of written videos, 0 to 51, lower is better; 18 is visually lossless."""

TICK = Fraction(1, 90_000)
"""Seconds to which the times of written frames are rounded; the clock of MPEG."""

WORTH_A_JUMP = 8
"""Frames that are decoded rather than jumped over: those read in a row are never sought."""

CUT_SHORT = "its end is missing; the file was cut short, get it anew"

SLACK = 0.5
"""Seconds by which the stated end of a whole video may lie behind its last frame."""


def is_picture(path: Path) -> bool:
    """Tell by its ending that a file is not taken for a video.

    Example:
        >>> is_picture(Path("a.png")), is_picture(Path("a.MP4"))
        (True, False)
    """
    return path.suffix.lower() not in VIDEO_SUFFIXES


def is_video_file(path: Path) -> bool:
    """Tell whether a file is read as a video: by its first bytes, else by its ending."""
    return is_video(path, by_name=path.suffix.lower() in VIDEO_SUFFIXES)


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a video.

    Attributes:
        image: RGB, height x width x 3, upright, pixel values in [0, 255].
        index: place in the video in the order of showing, from 0.
        seconds: time after the first frame.
    """

    image: NDArray[np.uint8]
    index: int
    seconds: float


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a video is.

    Attributes:
        width: of the upright picture, pixels.
        height: of the upright picture, pixels.
        num_frames: frames that are in the file, whatever its header says.
        seconds: from the start of the first frame to the end of the last.
        fps: frames a second, on average.
        codec: FFmpeg's name of the coding, e.g. ``h264``.
        rotation: counter-clockwise turn that makes the stored picture upright, degrees.
    """

    width: int
    height: int
    num_frames: int
    seconds: float
    fps: float
    codec: str
    rotation: int


@dataclass(frozen=True)
class Contents:
    """What `scan` finds in a video.

    Attributes:
        count: frames that are in the file, whatever its header says.
        stamps: time of each frame, rising, in `unit`; empty where the packets carry none.
        keys: times of the frames that can be decoded by themselves, likewise.
        unit: seconds.
        fps: frames a second, on average.
        codec: FFmpeg's name of the coding, e.g. ``h264``.
        container: FFmpeg's name of the file's format.
        is_cut_short: the header states a later end.
    """

    count: int
    stamps: NDArray[np.int64]
    keys: NDArray[np.int64]
    unit: float
    fps: float
    codec: str
    container: str
    is_cut_short: bool

    def seconds(self, index: int) -> float:
        """Time of a frame after the first one."""
        if not len(self.stamps):
            return index / self.fps
        return float(self.stamps[index] - self.stamps[0]) * self.unit

    @property
    def duration(self) -> float:
        """Seconds from the start of the first frame to the end of the last."""
        return self.seconds(self.count - 1) + 1 / self.fps

    def choose(self, *, count: int = 32, every: int | None = None) -> list[int]:
        """Choose frames by their index.

        Args:
            count: number of frames, the middle one of as many equal parts; all if there are fewer.
            every: take the frames 0, n, 2n, ... instead.

        Raises:
            InputError: `count` or `every` is below 1.
        """
        if count < 1 or (every is not None and every < 1):
            raise InputError(f"expected count and every of at least 1, but got {count} and {every}")
        return _evenly(self.count, count) if every is None else [*range(0, self.count, every)]


def frames(path: Path, *, count: int = 32, every: int | None = None) -> Iterator[Frame]:
    """Yield evenly spaced frames, one in memory at a time; arguments as in `Contents.choose`.

    A frame that is damaged is passed over for the next good one. Sound is neither needed nor read.

    Raises:
        InputError: no such file, no video, nothing in it that can be decoded, or `count` or
            `every` below 1.
    """
    contents = scan(path)
    yield from frames_at(path, contents, contents.choose(count=count, every=every))


def frames_at(path: Path, contents: Contents, indices: Sequence[int]) -> Iterator[Frame]:
    """Yield chosen frames, one in memory at a time.

    Args:
        path: the video.
        contents: from `scan`.
        indices: rising.

    Raises:
        InputError: the file went away, or none of these frames can be decoded.
    """
    found = 0
    for frame, index in _decode(path, contents, indices):
        yield Frame(_upright(frame), index, contents.seconds(index))
        found += 1
    if not found:
        raise InputError(f"{path}: no frame of this video can be decoded; get the file anew")


def probe(path: Path, contents: Contents | None = None) -> VideoInfo:
    """Say how large and long a video is, by looking at all of it.

    Args:
        path: the video.
        contents: from `scan`, if it was scanned already.

    Raises:
        InputError: no such file, no video, or nothing in it that can be decoded.
    """
    contents = contents or scan(path)
    for frame, _ in _decode(path, contents, [0]):
        height, width = _upright(frame).shape[:2]
        count, seconds = contents.count, contents.duration
        turn = int(frame.rotation)
        return VideoInfo(width, height, count, seconds, count / seconds, contents.codec, turn)
    raise InputError(f"{path}: no frame of this video can be decoded; get the file anew")


def check_ends(path: Path) -> None:
    """Decode the first frame and look for the last: finds videos that are broken or cut short.

    Quick, since nothing between is read: damage in the middle is not found, nor a missing end where
    the header states no length (Matroska).

    Raises:
        InputError: no such file, no video, no frame at its start, or nothing at its end.
    """
    with _open(path) as (container, stream):
        if next(_good_frames(container, stream), None) is None:
            raise InputError(f"{path}: its first frames cannot be decoded; get the file anew")
        if not stream.duration:
            return
        end = (stream.start_time or 0) + stream.duration
        container.seek(end, stream=stream, backward=True)
        last = max((p.pts or 0 for p in _packets(container, stream) if p.size), default=0)
        if _is_cut_short(stream, last):
            raise InputError(f"{path}: {CUT_SHORT}")


def write_video(path: Path, images: Iterable[NDArray[np.uint8]], fps: float) -> None:
    """Write pictures, RGB, uint8, as a video of `fps` frames a second; see `write_frames`."""
    write_frames(path, (Frame(image, i, i / fps) for i, image in enumerate(images)), fps)


def write_frames(path: Path, shown: Iterable[Frame], fps: float) -> None:
    """Write frames as an H.264 video without sound, whole or not at all.

    An odd width or height grows by one pixel, since the colour format halves both.

    Args:
        path: file to write; its ending names the container, e.g. ``.mp4``.
        shown: all of one size; each is shown at its time, so that the rate may vary.
        fps: frames a second, on average.

    Raises:
        InputError: there is no picture, or one differs in size from the first.
    """
    av = require("av", extra="video")
    stream, shape = None, None
    with partial_file(path) as partial, av.open(str(partial), "w") as container:
        for frame in shown:
            image = frame.image
            if stream is None:
                shape = image.shape
                stream = _add_stream(container, image, fps)
            if image.shape != shape:
                raise InputError(f"expected pictures of {shape}, but got {image.shape}")
            container.mux(stream.encode(_to_video_frame(frame, fps)))
        if stream is None:
            raise InputError(f"no picture to write to {path}")
        container.mux(stream.encode())


def _add_stream(container: Any, image: NDArray[np.uint8], fps: float) -> Any:
    rate = Fraction(fps).limit_denominator(1001)
    stream = container.add_stream("libx264", rate=rate, options={"crf": str(QUALITY)})
    stream.height, stream.width = (side + side % 2 for side in image.shape[:2])
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = TICK
    return stream


def _to_video_frame(frame: Frame, fps: float) -> Any:
    """Even in width and height, timed in ticks."""
    height, width = frame.image.shape[:2]
    pad = ((0, height % 2), (0, width % 2), (0, 0))
    whole = np.ascontiguousarray(np.pad(frame.image, pad, mode="edge"))
    made = require("av", extra="video").VideoFrame.from_ndarray(whole, format="rgb24")
    made.pts, made.time_base = round(frame.seconds / TICK), TICK
    made.duration = round(1 / fps / TICK)
    return made


def _is_cut_short(stream: Any, last: int) -> bool:
    """Whether a stream's header states an end that lies well behind its last time stamp."""
    if not stream.duration:
        return False
    end = (stream.start_time or 0) + stream.duration
    missing = float((end - last) * stream.time_base)
    return missing > SLACK + float(1 / (stream.average_rate or 25))


@contextmanager
def _open(path: Path, container_format: str | None = None) -> Iterator[tuple[Any, Any]]:
    """Open the first video stream that is not a cover picture.

    Whatever goes wrong while it is open, FFmpeg's own errors or those of PyAV on what FFmpeg makes
    of a damaged file, becomes an `InputError` that names the file.
    """
    av = require("av", extra="video")
    container_format = container_format or _recognise(path)
    try:
        # names in any alphabet; no other demuxer than the one that is meant, see `media.sniff`
        container = av.open(str(path), format=container_format, metadata_errors="replace")
    except FileNotFoundError:  # gone since it was scanned
        raise InputError(f"{path}: no such file; check the path") from None
    except (av.FFmpegError, OSError):
        message = f"{path}: not a video that FFmpeg can read, or its header is cut off"
        raise InputError(message) from None
    try:
        with container:
            cover = av.stream.Disposition.attached_pic
            streams = [s for s in container.streams.video if not s.disposition & cover]
            if not streams:
                raise InputError(f"{path}: the file holds no video, only other streams")
            stream = streams[0]
            if stream.codec_context is None:
                message = f"{path}: the video's coding is unknown, or its header is damaged"
                raise InputError(f"{message}; get the file anew")
            stream.thread_type = "AUTO"
            yield container, stream
    except InputError:
        raise
    except Exception as error:  # damaged files raise errors of every kind
        raise InputError(f"{path}: the video is damaged ({error}); get it anew") from error


def _recognise(path: Path) -> str:
    """Return the name of the demuxer that is meant for a file."""
    if not path.is_file():
        reason = "no such file; check the path"
        if path.exists():
            reason = "not a regular file; expected a video"
        raise InputError(f"{path}: {reason}")
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head:
        raise InputError(f"{path}: the file is empty (0 bytes); expected a video")
    if (found := video_format(head)) is None:
        expected = "expected MP4, MOV, MKV, WebM, AVI, MPEG, FLV, WMV or Ogg"
        raise InputError(f"{path}: not a video in a format that is read; {expected}")
    return found


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """Packets up to the end, or to where the file is broken beyond repair."""
    av = require("av", extra="video")
    source = container.demux(stream)
    while True:
        try:
            yield next(source)
        except (StopIteration, av.FFmpegError):
            return


def scan(path: Path) -> Contents:
    """Go through the packets of a video, without decoding: 8 bytes a frame are kept.

    Raises:
        InputError: no such file, no video, or no frame in it.
    """
    stamps, keys, count, timeless, last = array("q"), array("q"), 0, False, 0
    container_format = _recognise(path)
    with _open(path, container_format) as (container, stream):
        codec = str(stream.codec_context.name)
        unit = float(stream.time_base)
        rate = stream.average_rate or stream.guessed_rate
        for packet in _packets(container, stream):
            if packet.size and packet.pts is not None:
                last = max(last, packet.pts)
            if not packet.size or packet.is_discard or packet.is_corrupt:
                continue
            count += 1
            timeless = timeless or packet.pts is None
            if not timeless:
                stamps.append(packet.pts)
                if packet.is_keyframe:
                    keys.append(packet.pts)
        is_cut_short = _is_cut_short(stream, last)
    if not count:
        raise InputError(f"{path}: the video holds no frame; it may have been cut short")
    known = np.unique(np.array(() if timeless else stamps, np.int64))
    if len(known) > 1:
        spread = float(known[-1] - known[0]) * unit
        fps = (len(known) - 1) / spread
    else:
        fps = float(rate or 25)
    times = np.sort(np.array(keys, np.int64))
    return Contents(
        len(known) or count, known, times, unit, fps, codec, container_format, is_cut_short
    )


def _evenly(total: int, count: int) -> list[int]:
    """Middle of each of `count` equal parts.

    Example:
        >>> _evenly(10, 2), _evenly(3, 5)
        ([2, 7], [0, 1, 2])
    """
    count = min(total, count)
    return [(2 * part + 1) * total // (2 * count) for part in range(count)]


def _decode(path: Path, contents: Contents, wanted: Sequence[int]) -> Iterator[tuple[Any, int]]:
    """Decode the wanted frames, jumping to the keyframe before each where that saves work."""
    with _open(path, contents.container) as (container, stream):
        source = _good_frames(container, stream)
        if not len(contents.stamps):
            yield from _count_through(source, wanted)
            return
        reached: Any = None
        for index, following in zip(wanted, [*wanted[1:], contents.count], strict=True):
            target = int(contents.stamps[index])
            key = _key_before(contents.keys, target)
            here = contents.stamps[0] if reached is None else reached.pts
            skipped = np.diff(np.searchsorted(contents.stamps, [here, key or here]))[0]
            if skipped > WORTH_A_JUMP:
                container.seek(key, stream=stream, backward=True)
                source = _good_frames(container, stream)
            reached = _first_from(target, reached, source)
            if reached is None:
                return
            place = int(np.searchsorted(contents.stamps, reached.pts))
            if place < following:
                yield reached, place


def _first_from(target: int, reached: Any, source: Iterator[Any]) -> Any:
    """First frame shown at `target` or later; the one reached last may be it."""
    frames = source if reached is None else chain([reached], source)
    return next((f for f in frames if f.pts is not None and f.pts >= target), None)


def _count_through(source: Iterator[Any], wanted: Sequence[int]) -> Iterator[tuple[Any, int]]:
    ask = set(wanted)
    for index, frame in enumerate(source):
        if index in ask:
            yield frame, index


def _key_before(keys: NDArray[np.int64], target: int) -> int | None:
    place = int(np.searchsorted(keys, target, side="right")) - 1
    return int(keys[place]) if place >= 0 else None


def _good_frames(container: Any, stream: Any) -> Iterator[Any]:
    """Decoded frames; packets and frames that are damaged are passed over."""
    av = require("av", extra="video")
    for packet in _packets(container, stream):
        try:
            decoded = stream.decode(packet)
        except av.FFmpegError:
            continue
        yield from (frame for frame in decoded if not frame.is_corrupt)


def _upright(frame: Any) -> NDArray[np.uint8]:
    """RGB with the display rotation applied; FFmpeg counts it counter-clockwise."""
    image: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))
