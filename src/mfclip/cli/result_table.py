"""What ``mfclip predict`` shows on the terminal: tables, notes, counts, and what was not judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from mfclip.predict.prediction import Failure, Prediction
    from mfclip.predict.video_prediction import AnyResult, VideoPrediction

MAX_ROWS = 500
"""Rows of the table; files have no limit."""

MAX_SKIPPED = 10
"""Files that were left out, by name."""

MAX_NOTES = 20
"""Reasons to trust a score less that are listed below the table."""

STYLES = {"fake": "red", "uncertain": "yellow", "real": "green"}
"""Colour of each verdict, which is also written out."""


class ResultTable:
    """Collects what is shown on the terminal.

    Args:
        model: what judged, from `mfclip.predict.predictor.Predictor.describe`.
    """

    def __init__(self, model: Mapping[str, Any]) -> None:
        self.model = model
        self.num_judged = 0
        self.counts = {"fake": 0, "uncertain": 0, "real": 0}
        self.video_counts = dict(self.counts)
        self._shown: list[Prediction] = []
        self._videos: list[VideoPrediction] = []
        self.num_failures = 0
        self._failures: list[Failure] = []
        self.num_skipped = 0
        self._skipped: list[str] = []

    def add(self, result: AnyResult) -> None:
        """Take in one result."""
        from mfclip.predict.prediction import Failure, Skipped  # noqa: PLC0415
        from mfclip.predict.video_prediction import VideoPrediction  # noqa: PLC0415

        if isinstance(result, Failure):
            self.num_failures += 1
            if len(self._failures) < MAX_ROWS:
                self._failures.append(result)
        elif isinstance(result, Skipped):
            self.num_skipped += 1
            self._skipped += [result.path][: MAX_SKIPPED - len(self._skipped)]
        elif isinstance(result, VideoPrediction):
            self.video_counts[result.verdict] += 1
            if len(self._videos) < MAX_ROWS:  # a row needs neither times of frames nor pixels
                self._videos.append(replace(result, contents=None))
        else:
            self.num_judged += 1
            self.counts[result.verdict] += 1
            if len(self._shown) < MAX_ROWS:
                self._shown.append(replace(result, pixels=None, preview=None))

    @property
    def status(self) -> int:
        """Exit status of the command."""
        if not self.num_judged and not self._videos:
            return 2
        return 1 if self.num_failures else 0

    def show(self, *, quiet: bool = False) -> None:
        """Print the table (unless quiet) on the standard output, failures on the other."""
        from rich.console import Console  # noqa: PLC0415

        if (self._shown or self._videos) and not quiet:
            self._show_tables(Console())
        for failure in self._failures:
            name = _printable(failure.path or "array")
            typer.echo(f"not judged: {name}: {_printable(failure.error)}", err=True)
        if more := self.num_failures - len(self._failures):
            typer.echo(f"not judged: {more} more; --out FILE lists them all", err=True)
        if self.num_skipped:
            typer.echo(self._tell_skipped(), err=True)

    def _tell_skipped(self) -> str:
        listed = ", ".join(map(_printable, self._skipped))
        more = self.num_skipped - len(self._skipped)
        rest = f" and {more} more; --out FILE lists them all" if more else ""
        files = "file" if self.num_skipped == 1 else "files"
        return f"left out, neither image nor video: {self.num_skipped} {files}: {listed}{rest}"

    def _show_tables(self, console: Console) -> None:
        from mfclip.report.wording import Words  # noqa: PLC0415

        words = Words()
        shown: list[Prediction | VideoPrediction] = [*self._shown, *self._videos]
        if not console.is_terminal:  # a file or a pipe: keep each result on one line
            console.width = 40 + max(90, *(80 + len(p.path or "") for p in shown))
        if self._shown:
            console.print(_table(self._shown, self.model))
        if self._videos:
            console.print(make_video_table(self._videos, console))
        self._show_notes(console)
        for counts, rows, name in (
            (self.counts, self._shown, "face"),
            (self.video_counts, self._videos, "video"),
        ):
            _show_counts(console, counts, len(rows), name)
        rule = words.bands(shown[0].bands, origin=True)
        console.print(f"{rule} {words('page.evidence')}", highlight=False)
        if any(_indication(one, self.model) for one in self._shown):
            told = " ".join((words("kinds.remark"), *words.kind_hits(self.model)))
            console.print(told, style="dim", highlight=False, markup=False)
        for heading, key in (("Limits", "limits"), ("Licence", "licence")):
            if text := self.model.get(key):
                line = f"{heading} of the weights: {_printable(str(text))}"
                console.print(line, style="dim", highlight=False, markup=False)

    def _show_notes(self, console: Console) -> None:
        notes = [(_name(p), "; ".join(p.warnings)) for p in self._shown if p.warnings]
        notes += [(_printable(v.path), "; ".join(v.warnings)) for v in self._videos if v.warnings]
        for name, note in notes[:MAX_NOTES]:
            console.print(f"note: {name}: {note}", style="yellow", highlight=False, markup=False)
        if len(notes) > MAX_NOTES:
            console.print(f"and {len(notes) - MAX_NOTES} more notes; --out FILE gives all")


def _show_counts(console: Console, counts: Mapping[str, int], num_rows: int, name: str) -> None:
    total = sum(counts.values())
    if not total:
        return
    more = (
        f" The table holds the first {MAX_ROWS}; --out FILE gives all." if total > num_rows else ""
    )
    called = ", ".join(f"{number} {verdict}" for verdict, number in counts.items())
    console.print(f"{total} {name}{'s' * (total > 1)} judged: {called}.{more}", highlight=False)


def _table(predictions: list[Prediction], model: Mapping[str, Any]) -> Table:
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("image", overflow="fold")
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("kind, as an indication", overflow="fold")
    table.add_column("richest patch", no_wrap=True)
    for prediction in predictions:
        patch = prediction.patch
        colour = {"fake": "red", "uncertain": "yellow"}.get(prediction.verdict, "green")
        table.add_row(
            Text(_name(prediction)),
            f"{prediction.score:.3f}",
            Text(prediction.verdict, style=colour),
            Text(_indication(prediction, model)),
            Text(f"at {patch.left},{patch.top}" if patch else ""),
        )
    return table


def _name(prediction: Prediction) -> str:
    name = _printable(prediction.path or "array")
    face = prediction.face
    return f"{name} (face at {face.left},{face.top})" if face else name


def _indication(prediction: Prediction, model: Mapping[str, Any]) -> str:
    """Name the most similar kind of forgery on each level that is worth naming."""
    from mfclip.report.wording import Words, likely_kinds  # noqa: PLC0415

    words, found = Words(), likely_kinds(prediction, model)
    kinds = [
        next((kind for kind in ranked if kind.name != "real"), None) for ranked in found.values()
    ]
    return ", ".join(f"{words.kind(k.name)} {words.percent(k.probability)}" for k in kinds if k)


def _printable(text: str) -> str:
    from mfclip.report.wording import printable  # noqa: PLC0415

    return printable(text)


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
