"""Predictions -> one self-contained HTML page that can be read, printed and sent on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, BinaryIO

from mfclip.media.transforms import Pixels
from mfclip.media.video import Frame
from mfclip.predict.prediction import Prediction, Result
from mfclip.predict.video_prediction import VideoPrediction
from mfclip.report.video_report import show_video
from mfclip.report.views import show_scale, show_thumbnail, show_views
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

MAX_PICTURES = 200
"""Faces shown on one page; it counts the others, so that a browser can still open it."""

MAX_VIDEOS = 50
"""Videos shown on one page, likewise."""


class Report:
    """Collects results and writes the page; memory stays flat beyond `MAX_PICTURES`.

    Args:
        model: what judged, from `mfclip.predict.predictor.Predictor.describe`.
        title: heading of the page.
        captions: what is known about a picture, by its path; shown beneath its name.
        show_heat: lays the heat map over a model input, see `mfclip.report.views.draw_heat`; None
            leaves it out.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        *,
        title: str = "Are these faces forged?",
        captions: Mapping[str, str] | None = None,
        show_heat: Callable[[Pixels], Pixels] | None = None,
    ) -> None:
        self.model = model
        self.title = title
        self.captions = captions or {}
        self.show_heat = show_heat
        self.since = datetime.now(UTC)
        self.tally = Tally()
        self._articles: list[str] = []
        self._videos: list[str] = []
        self._overview: list[str] = []

    def add(self, result: Result) -> None:
        """Take in one result; predictions need `keep_pixels=True` to be shown as pictures."""
        self.tally.add(result)
        if isinstance(result, Prediction) and len(self._articles) < MAX_PICTURES:
            number = len(self._articles) + 1
            self._articles.append(self._article(result, number))
            self._overview.append(self._glance(result, number))

    def add_video(
        self, video: VideoPrediction, moments: Iterable[tuple[Frame, Prediction]]
    ) -> None:
        """Take in one video, and its moments from `mfclip.predict.video.look_closer`."""
        self.tally.add(video)
        if len(self._videos) >= MAX_VIDEOS:
            return
        name = escape(printable(Path(video.path).name))
        named = printable(short_path(video.path))
        shown = show_video(video, moments, self.model, named, self.show_heat)
        caption = self.captions.get(video.path)
        told = f'<p class="soft">{escape(caption)}</p>' if caption else ""
        self._videos.append(
            f'<article id="video-{len(self._videos) + 1}" aria-label="{name}"><h3>{name}</h3>'
            f"{told}{shown}</article>"
        )

    def write(self, path: Path) -> None:
        """Write the page whole or not at all.

        Raises:
            OSError: the folder is not writable or the disk is full.
        """
        with write_whole(path) as file:
            self.save(file.buffer)

    def save(self, file: BinaryIO) -> None:
        """Write the page into an open file."""
        file.write(self.render().encode("utf-8", "replace"))

    def render(self) -> str:
        """Return the page."""
        template = Template(files("mfclip.report").joinpath("report.html").read_text("utf-8"))
        return template.substitute(
            title=escape(self.title),
            summary=escape(self.tally.summary(len(self._articles), len(self._videos))),
            overview=self._glances(),
            videos=self._section("Videos", self._videos),
            pictures=self._section("Pictures", self._articles),
            errors=self._errors(),
            warning=escape(WARNING),
            limits=_limits(self.model),
            reading=_paragraphs(READING),
            origin=_rows(origin_rows(self.model, self.since)),
        )

    def _section(self, heading: str, articles: list[str]) -> str:
        """Head the pictures or the videos; nothing if there are none, unless all else failed."""
        if articles:
            return "\n".join((f"<h2>{heading}</h2>", *articles))
        is_empty = not self._articles and not self._videos
        return "<p>No picture could be judged.</p>" if is_empty and heading == "Pictures" else ""

    def _errors(self) -> str:
        if not self.tally.failures:
            return ""
        shown = self.tally.failures[:MAX_PICTURES]
        rows = _rows([(failure.path or "array", failure.error) for failure in shown])
        more = len(self.tally.failures) - len(shown)
        rest = f"<p>and {more} more</p>" if more else ""
        return f'<h2>Could not be judged</h2><div class="scroll"><table>{rows}</table></div>{rest}'

    def _glances(self) -> str:
        """Show all faces small, each a link to its details; nothing for a single one."""
        if len(self._overview) < 2:  # noqa: PLR2004
            return ""
        return f'<ul class="overview">{"".join(self._overview)}</ul>'

    def _glance(self, prediction: Prediction, number: int) -> str:
        name, verdict = name_of(prediction, number), prediction.verdict
        return (
            f'<li><a href="#face-{number}" title="{escape(name)}">'
            f"{show_thumbnail(prediction, name)}"
            f'<span class="verdict {verdict}">{verdict}</span> {prediction.score:.3f}</a>'
            f"{self._caption(prediction)}</li>"
        )

    def _caption(self, prediction: Prediction) -> str:
        caption = self.captions.get(prediction.path or "")
        return f'<p class="soft">{escape(caption)}</p>' if caption else ""

    def _article(self, prediction: Prediction, number: int) -> str:
        name = name_of(prediction, number)
        notes = "".join(f'<p class="note">{escape(note)}</p>' for note in prediction.warnings)
        heat = None
        if self.show_heat and prediction.pixels is not None:
            heat = self.show_heat(prediction.pixels)
        return (
            f'<article id="face-{number}" aria-label="{escape(name)}">'
            f"<h3>{escape(name)}</h3>{self._caption(prediction)}"
            f"{_score(prediction)}{notes}"
            f'<div class="views">{show_views(prediction, self.model, heat)}</div>'
            f"{_kinds(prediction)}{_table(file_rows(prediction, number))}</article>"
        )


def _score(prediction: Prediction) -> str:
    verdict, score = prediction.verdict, prediction.score
    return (
        f'<p><span class="verdict {verdict}">{VERDICT_WORDS[verdict]}</span>, score {score:.3f}</p>'
        f"{show_scale(score, prediction.bands)}"
        f'<p class="soft">{escape(explain_verdict(verdict, prediction.bands))}</p>'
    )


def _kinds(prediction: Prediction) -> str:
    """Name the nearest kinds of forgery on each level, for a face called fake."""
    rows = kind_rows(prediction)
    if not rows:
        return ""
    return f'<p class="soft">Nearest kinds, an indication only (see below):</p>{_table(rows)}'


def _limits(model: Mapping[str, Any]) -> str:
    splits, rows = error_table(model)
    if not rows:
        measured = "<p>The weights carry no measured error rates: do not rely on the score.</p>"
    else:
        measured = _error_table(splits, rows)
    return _paragraphs(limit_rows(model)) + measured


def _error_table(splits: list[str], rows: list[tuple[str, list[str]]]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in splits)
    lines = "".join(
        f'<tr><th scope="row">{escape(label)}</th>'
        + "".join(f'<td class="number">{escape(cell)}</td>' for cell in cells)
        + "</tr>"
        for label, cells in rows
    )
    return (
        "<p>Measured on faces that were not used for training; in brackets the 95% interval. The "
        "first column is what the verdict was fitted on, so it flatters:</p>"
        f'<div class="scroll"><table><tr><td></td>{head}</tr>{lines}</table></div>'
    )


def _paragraphs(rows: Rows) -> str:
    return "".join(f"<p><strong>{escape(name)}</strong>: {escape(text)}</p>" for name, text in rows)


def _table(rows: Rows) -> str:
    return f'<div class="scroll"><table>{_rows(rows)}</table></div>'


def _rows(rows: Rows) -> str:
    return "".join(
        f'<tr><th scope="row">{escape(printable(name))}</th><td>{escape(printable(text))}</td></tr>'
        for name, text in rows
    )
