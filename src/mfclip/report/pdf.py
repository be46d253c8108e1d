"""Predictions -> a tidy A4 document that can be filed: the content of the HTML page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from mfclip.card import Bands, Verdict
from mfclip.errors import InputError, require
from mfclip.media.transforms import Pixels
from mfclip.media.video import Frame
from mfclip.predict.prediction import Prediction, Result
from mfclip.predict.video_prediction import VideoPrediction, timecode
from mfclip.report.pdf_pages import PER_ROW, SOFT, Pages
from mfclip.report.views import View, encode, list_views
from mfclip.report.wording import (
    READING,
    VERDICT_WORDS,
    WARNING,
    Rows,
    Tally,
    error_table,
    explain_verdict,
    file_rows,
    kind_rows,
    limit_rows,
    name_of,
    origin_rows,
    printable,
    short_path,
)
from mfclip.runtime.whole_file import write_whole

MAX_ENTRIES = 200
"""Faces and videos shown; the others are counted."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the document shows of one face or video.

    Attributes:
        name: heading.
        caption: what is known about it; may be empty.
        verdict: called so.
        score: probability of fake, in [0, 1].
        bands: which scores get which verdict.
        warnings: reasons to trust the score less.
        views: its pictures.
        rows: kinds, and facts about the file.
        course: of a video's suspect face, time in seconds and score of each frame.
    """

    name: str
    caption: str
    verdict: Verdict
    score: float
    bands: Bands
    warnings: Sequence[str]
    views: Sequence[View]
    rows: Rows
    course: Sequence[tuple[float, float]] = ()

    @property
    def height(self) -> float:
        """What it takes of a page, roughly, millimetres."""
        pictures = 46.0 * math.ceil(len(self.views) / PER_ROW)
        course = 30.0 * bool(self.course)
        return 36.0 + 9.0 * len(self.warnings) + pictures + course + 6.5 * len(self.rows)


class PdfReport:
    """Collects results and writes the document; takes what `mfclip.report.report.Report` takes.

    Args:
        model: what judged, from `mfclip.predict.predictor.Predictor.describe`.
        title: heading of the document.
        captions: what is known about a picture, by its path.
        show_heat: lays the heat map over a model input; None leaves it out.

    Raises:
        MissingExtraError: the package that writes PDF is not installed.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        *,
        title: str = "Are these faces forged?",
        captions: Mapping[str, str] | None = None,
        show_heat: Callable[[Pixels], Pixels] | None = None,
    ) -> None:
        require("fpdf", extra="report")
        self.model = model
        self.title = title
        self.captions = captions or {}
        self.show_heat = show_heat
        self.since = datetime.now(UTC)
        self.tally = Tally()
        self._faces: list[Entry] = []
        self._videos: list[Entry] = []

    def add(self, result: Result) -> None:
        """Take in one result; predictions need `keep_pixels=True` to be shown as pictures."""
        self.tally.add(result)
        if not isinstance(result, Prediction) or len(self._faces) >= MAX_ENTRIES:
            return
        number = len(self._faces) + 1
        heat = None
        if self.show_heat and result.pixels is not None:
            heat = self.show_heat(result.pixels)
        kinds = [(f"Nearest {level}", text) for level, text in kind_rows(result)]
        self._faces.append(
            Entry(
                name_of(result, number),
                self.captions.get(result.path or "", ""),
                result.verdict,
                result.score,
                result.bands,
                result.warnings,
                list_views(result, self.model, heat),
                [*kinds, *file_rows(result, number)],
            )
        )

    def add_video(
        self, video: VideoPrediction, moments: Iterable[tuple[Frame, Prediction]]
    ) -> None:
        """Take in one video, and its moments from `mfclip.predict.video.look_closer`."""
        self.tally.add(video)
        if len(self._videos) >= MAX_ENTRIES:
            return
        views, notes = [], list(video.warnings)
        try:
            for frame, prediction in moments:
                caption = f"At {timecode(frame.seconds)}, score {prediction.score:.3f}"
                size = (prediction.width, prediction.height)
                views.append(View(encode(frame.image), "jpeg", size, caption, prediction.face))
        except InputError as error:
            notes.append(str(error))
        self._videos.append(
            Entry(
                printable(Path(video.path).name),
                self.captions.get(video.path, ""),
                video.verdict,
                video.score,
                video.bands,
                notes,
                views,
                _video_rows(video),
                [(frame.seconds, frame.score) for frame in video.suspect.frames],
            )
        )

    def write(self, path: Path) -> None:
        """Write the document whole or not at all.

        Raises:
            OSError: the folder is not writable or the disk is full.
        """
        with write_whole(path) as file:
            self.save(file.buffer)

    def save(self, file: BinaryIO) -> None:
        """Write the document into an open file."""
        file.write(self.render())

    def render(self) -> bytes:
        """Return the document."""
        page = Pages(self.title)
        page.text(self.title, size=20.0, bold=True)
        page.text(self.tally.summary(len(self._faces), len(self._videos)), size=11.0)
        page.box(f"Evidence, not proof. {WARNING} How often it errs stands at the end.")
        for heading, entries in (("Videos", self._videos), ("Faces in pictures", self._faces)):
            if entries:
                page.heading(heading, follow=entries[0].height)
            for entry in entries:
                _draw(page, entry)
        if failed := self.tally.failures[:MAX_ENTRIES]:
            page.heading("Could not be judged")
            page.rows([(printable(one.path or "array"), one.error) for one in failed])
        page.heading("Limits of this model")
        page.rows(limit_rows(self.model))
        splits, table = error_table(self.model)
        page.table(["", *splits], [[label, *cells] for label, cells in table])
        page.heading("How to read this document")
        page.rows(READING)
        page.heading("How it was made")
        page.rows(origin_rows(self.model, self.since))
        return page.finish()


def _video_rows(video: VideoPrediction) -> Rows:
    suspect = video.suspect
    return [
        (
            "Score",
            f"mean of {len(suspect.frames)} frames of face {suspect.number} of "
            f"{len(video.tracks)}; standard deviation {video.spread:.3f}",
        ),
        ("File", printable(short_path(video.path))),
        (
            "Size",
            f"{video.width} x {video.height} pixels, {timecode(video.seconds)}, {video.codec}; "
            f"{len(video.judged)} of {video.num_frames} frames judged, {video.num_with_face} with "
            "a face",
        ),
        ("SHA-256", video.sha256),
    ]


def _draw(page: Pages, entry: Entry) -> None:
    page.keep_together(entry.height)
    page.text(entry.name, size=12.0, bold=True)
    if entry.caption:
        page.text(entry.caption, size=9.0, colour=SOFT)
    page.text(f"{VERDICT_WORDS[entry.verdict]}, score {entry.score:.3f}", size=11.0, bold=True)
    page.scale(entry.score, entry.bands)
    page.text(explain_verdict(entry.verdict, entry.bands), size=9.0, colour=SOFT)
    for warning in entry.warnings:
        page.box(warning)
    page.course(entry.course, entry.bands)
    page.pictures(entry.views)
    page.rows(entry.rows)
    page.gap(5.0)
