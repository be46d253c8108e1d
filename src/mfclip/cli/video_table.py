"""Videos on the terminal: one row each, with the score over time as a line of characters."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from mfclip.predict.video_prediction import VideoPrediction

STYLES = {"fake": "red", "uncertain": "yellow", "real": "green"}
"""Colour of each verdict, which is also written out."""


def make_video_table(videos: list[VideoPrediction], console: Console) -> Table:
    """Return the table of some videos."""
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from mfclip.report.wording import printable  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("video", overflow="fold")
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("score over time", no_wrap=True)
    table.add_column("most suspect at", no_wrap=True)
    table.add_column("frames", no_wrap=True)
    for video in videos:
        table.add_row(
            Text(printable(video.path)),
            f"{video.score:.3f} ± {video.spread:.3f}",
            Text(video.verdict, style=STYLES[video.verdict]),
            _line(video, console),
            _moment(video),
            _counts(video),
        )
    return table


def _line(video: VideoPrediction, console: Console) -> Text:
    from rich.text import Text  # noqa: PLC0415

    from mfclip.report.timeline import sparkline  # noqa: PLC0415

    text = Text()
    ascii_only = not console.encoding.lower().startswith("utf")
    for height, verdict in sparkline(video, ascii_only=ascii_only):
        text.append(height, style=STYLES[verdict] if verdict else "")
    return text


def _moment(video: VideoPrediction) -> str:
    from mfclip.predict.video_prediction import timecode  # noqa: PLC0415

    first = video.moments[0]
    return f"{timecode(first.seconds)} ({first.score:.3f})"


def _counts(video: VideoPrediction) -> str:
    frames = f"{len(video.suspect.frames)} of {len(video.judged)}"
    faces = len(video.tracks)
    return frames if faces == 1 else f"{frames}, face {video.suspect.number} of {faces}"
