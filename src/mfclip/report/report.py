"""Predictions -> one report, as a page that needs nothing from elsewhere or as PDF to file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from PIL import ImageFile

from mfclip.card import Verdict
from mfclip.errors import MissingExtraError, require
from mfclip.media.transforms import Pixels
from mfclip.media.video import Frame
from mfclip.predict.prediction import Failure, Prediction, Result
from mfclip.predict.video_prediction import VideoPrediction
from mfclip.report.document import (
    NARROW,
    Article,
    Document,
    find_limits,
    find_origin,
    find_reading,
    show_file,
    show_video,
)
from mfclip.report.wording import Words, printable
from mfclip.runtime.page import render_page
from mfclip.runtime.whole_file import write_whole

MAX_FACES = 200
"""Faces in pictures that one report shows; it counts the others, so that a browser can open it."""

MAX_VIDEOS = 50
"""Videos that it shows, likewise."""

MAX_FAILURES = 200
"""Failures that it lists, likewise."""


@dataclass(slots=True)
class Tally:
    """Counts results, to say in one sentence what came out.

    Attributes:
        faces: verdict to the number of faces in pictures.
        videos: verdict to the number of videos.
        failures: files that could not be judged.
    """

    faces: Counter[Verdict] = field(default_factory=Counter)
    videos: Counter[Verdict] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def add(self, result: Prediction | VideoPrediction | Failure) -> None:
        """Count one result."""
        if isinstance(result, Failure):
            self.failures.append(result)
        else:
            counts = self.faces if isinstance(result, Prediction) else self.videos
            counts[result.verdict] += 1

    def summary(self, words: Words, num_faces: int, num_videos: int) -> str:
        """Say what came out, and how many faces and videos of it a report shows."""
        judged, filmed = self.faces.total(), self.videos.total()
        told = [_counted("video", self.videos, words)] if filmed else []
        if judged or not filmed:
            told.append(_counted("face", self.faces, words))
        if self.failures:
            told.append(words("report.failed", what=words.count("file", len(self.failures))))
        if judged > num_faces:
            told.append(words("report.only", what=words.count("face", num_faces)))
        if filmed > num_videos:
            told.append(words("report.only", what=words.count("video", num_videos)))
        return " ".join(told)


def _counted(noun: str, counts: Counter[Verdict], words: Words) -> str:
    calls = {verdict: counts[verdict] for verdict in ("fake", "uncertain", "real")}
    return words("report.judged", what=words.count(noun, counts.total()), **calls)


class Report:
    """Collects results and writes them; memory stays flat beyond what is shown.

    Args:
        model: what judged, from `mfclip.predict.predictor.Predictor.describe`.
        title: heading; None for the usual one.
        captions: what is known about a file, by its path; shown beneath its name.
        show_heat: lays the heat map over a model input, see `mfclip.report.views.draw_heat`; None
            leaves it out.
        words: the language.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        *,
        title: str | None = None,
        captions: Mapping[str, str] | None = None,
        show_heat: Callable[[Pixels], Pixels] | None = None,
        words: Words | None = None,
    ) -> None:
        self.model = model
        self.words = words or Words()
        self.title = title or self.words("report.title")
        self.captions = captions or {}
        self.show_heat = show_heat
        self.since = datetime.now(UTC)
        self.tally = Tally()
        self._articles: list[Article] = []
        self._file: list[tuple[Prediction, Pixels | None]] = []
        self._name: str | None = None
        self._num_faces = self._num_videos = 0

    def add(self, result: Result, *, name: str | None = None, heat: Pixels | None = None) -> None:
        """Take in one result; faces of one file that follow each other are shown together.

        Args:
            result: predictions need `keep_pixels=True` to be shown as images.
            name: what the report calls the file, if not by its path.
            heat: its heat map, if it was made already.
        """
        self.tally.add(result)
        if isinstance(result, Failure):
            return
        if self._file and not self._belongs(result):
            self._close_file()
        if self._num_faces >= MAX_FACES:
            return
        self._num_faces += 1
        if heat is None and self.show_heat and result.pixels is not None:
            heat = self.show_heat(result.pixels)
        self._file.append((result, heat))
        self._name = name

    def _belongs(self, result: Prediction) -> bool:
        """Whether a face is another one of the file that is being taken in."""
        seen = [prediction for prediction, _ in self._file]
        same = result.path is not None and result.path == seen[0].path
        return same and all(result.face != one.face for one in seen)

    def _close_file(self) -> None:
        """Show the file whose faces have all come."""
        if not self._file:
            return
        first, number = self._file[0][0], len(self._articles) + 1
        article = show_file(
            self._file,
            self.model,
            self.words,
            anchor=f"file-{number}",
            name=self._name or first.path or self.words("article.picture", number=number),
            caption=self.captions.get(first.path or "", ""),
        )
        self._articles.append(article)
        self._file = []

    def add_video(
        self,
        video: VideoPrediction,
        moments: Iterable[tuple[Frame, Prediction]],
        *,
        name: str | None = None,
    ) -> None:
        """Take in one video, and its moments from `mfclip.predict.video.look_closer`."""
        self.tally.add(video)
        self._close_file()
        if self._num_videos >= MAX_VIDEOS:
            return
        self._num_videos += 1
        best = video.moments[0].index

        def heated() -> Iterator[tuple[Frame, Prediction, Pixels | None]]:
            for frame, prediction in moments:
                heat = None
                if self.show_heat and prediction.pixels is not None and frame.index == best:
                    heat = self.show_heat(prediction.pixels)
                yield frame, prediction, heat

        article = show_video(
            video,
            heated(),
            self.model,
            self.words,
            anchor=f"file-{len(self._articles) + 1}",
            name=name or video.path,
            caption=self.captions.get(video.path, ""),
        )
        self._articles.append(article)

    def document(self) -> Document:
        """Return everything that was taken in."""
        self._close_file()
        failures = self.tally.failures[:MAX_FAILURES]
        return Document(
            words=self.words,
            title=self.title,
            summary=self.tally.summary(self.words, self._num_faces, self._num_videos),
            articles=tuple(self._articles),
            failures=tuple((printable(one.path or "array"), one.error) for one in failures),
            more_failures=len(self.tally.failures) - len(failures),
            limits=find_limits(self.model, self.words),
            reading=find_reading(self.model, self.words),
            origin=find_origin(self.model, self.since, self.words),
        )

    def render(self) -> str:
        """Return the report as a page."""
        return to_html(self.document())

    def write(self, path: Path) -> None:
        """Write the report whole or not at all, as PDF where the path ends so.

        Raises:
            OSError: the folder is not writable or the disk is full.
            MissingExtraError: what writes PDF is not installed.
        """
        with write_whole(path) as file:
            self.save(file.buffer, pdf=path.suffix.lower() == ".pdf")

    def save(self, file: BinaryIO, *, pdf: bool = False) -> None:
        """Write the report into an open file."""
        page = self.render()
        file.write(to_pdf(page) if pdf else page.encode("utf-8", "replace"))


def to_html(document: Document) -> str:
    """Draw a report as a page."""
    return render_page("report.html", "mfclip.report", it=document, **_language(document.words))


def describe_model(model: Mapping[str, Any], words: Words) -> str:
    """Say how to read a verdict and what the limits of a model are, as a piece of a page.

    Args:
        model: from `mfclip.predict.predictor.Predictor.describe`.
        words: the language.
    """
    told = {"terms": find_reading(model, words), "facts": find_limits(model, words)}
    return render_page("about.html", "mfclip.report", **told, **_language(words))


def _language(words: Words) -> dict[str, Any]:
    """What every template asks for."""
    return {"say": words, "language": words.language, "narrow": NARROW, "pairs": pairwise}


def to_pdf(page: str) -> bytes:
    """Print a page, as a browser would: A4, by the same style sheet.

    Raises:
        MissingExtraError: WeasyPrint or the library it draws text with is not installed.
    """
    weasyprint = load_printer()
    # a report holds its own pictures and asks for nothing from elsewhere
    fetcher = weasyprint.urls.URLFetcher(allowed_protocols={"data"})
    pdf: bytes = weasyprint.HTML(string=page, url_fetcher=fetcher).write_pdf()
    return pdf


def load_printer() -> ModuleType:
    """Return WeasyPrint, which turns pages into PDF.

    Raises:
        MissingExtraError: it or Pango, which it draws text with, is not installed.
    """
    strictness = ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        return require("weasyprint", extra="report")
    except OSError as error:  # the package is there, the shared library is not
        raise MissingExtraError(
            "PDF needs the library Pango beside the extra 'report', which is not installed (on "
            "Debian: apt install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0); or write "
            "--report FILE.html and print it in a browser"
        ) from error
    finally:
        # it switches this on for the whole process: files cut short would be judged from then on
        ImageFile.LOAD_TRUNCATED_IMAGES = strictness
