"""Predictions -> one self-contained HTML page that can be read, printed and sent on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from mfclip.data.video import Frame
from mfclip.labels import MANIPULATIONS
from mfclip.predict.prediction import Failure, Kind, Prediction, Result
from mfclip.predict.verdict import Verdict
from mfclip.predict.video_prediction import VideoPrediction
from mfclip.predict.video_report import show_video
from mfclip.predict.views import show_thumbnail, show_views
from mfclip.predict.whole_file import write_whole
from mfclip.provenance import provenance

MAX_PICTURES = 200
"""Faces shown on one page; it counts the others, so that a browser can still open it."""

MAX_VIDEOS = 50
"""Videos shown on one page, likewise."""

LEAST_SHARE = 0.005
"""Kinds with a smaller share are not named."""

FIGURES = {
    "auc": "AUC: a fake scores above a real one",
    "accuracy_fitted": "Right verdicts at the threshold",
    "balanced_accuracy_fitted": "Right verdicts, real and fake counted alike",
    "eer": "Error rate where both kinds of error are equal",
    "tpr_at_fpr_5": "Fakes found when 5% of real ones are called fake",
}
"""Metrics of the weights' card that are shown, with the words a lay reader gets."""


class Report:
    """Collects results and writes the page; memory stays flat beyond `MAX_PICTURES`.

    Args:
        model: what judged, from `mfclip.predict.predictor.Predictor.describe`.
        title: heading of the page.
        captions: what is known about a picture, by its path; shown beneath its name.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        *,
        title: str = "Are these faces forged?",
        captions: Mapping[str, str] | None = None,
    ) -> None:
        self.model = model
        self.title = title
        self.captions = captions or {}
        self.counts: dict[Verdict, int] = {"fake": 0, "uncertain": 0, "real": 0}
        self.video_counts = dict(self.counts)
        self._articles: list[str] = []
        self._videos: list[str] = []
        self._overview: list[str] = []
        self._failures: list[Failure] = []

    def add(self, result: Result) -> None:
        """Take in one result; predictions need `keep_pixels=True` to be shown as pictures."""
        if isinstance(result, Failure):
            self._failures.append(result)
            return
        self.counts[result.verdict] += 1
        if len(self._articles) < MAX_PICTURES:
            number = len(self._articles) + 1
            self._articles.append(self._article(result, number))
            self._overview.append(self._glance(result, number))

    def add_video(
        self, video: VideoPrediction, moments: Iterable[tuple[Frame, Prediction]]
    ) -> None:
        """Take in one video, and its moments from `mfclip.predict.video.look_closer`."""
        self.video_counts[video.verdict] += 1
        if len(self._videos) >= MAX_VIDEOS:
            return
        name = escape(printable(Path(video.path).name))
        shown = show_video(video, moments, self.model, printable(_short(video.path)))
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
            file.write(self.render())

    def render(self) -> str:
        """Return the page."""
        template = Template(files("mfclip.predict").joinpath("report.html").read_text("utf-8"))
        return template.substitute(
            title=escape(self.title),
            summary=self._summary(),
            overview=self._glances(),
            videos=self._section("Videos", self._videos),
            pictures=self._section("Pictures", self._articles),
            errors=self._errors(),
            limits=_limits(self.model),
            origin=_rows(_origin(self.model)),
        )

    def _section(self, heading: str, articles: list[str]) -> str:
        """Head the pictures or the videos; nothing if there are none, unless all else failed."""
        if articles:
            return "\n".join((f"<h2>{heading}</h2>", *articles))
        is_empty = not self._articles and not self._videos
        return "<p>No picture could be judged.</p>" if is_empty and heading == "Pictures" else ""

    def _summary(self) -> str:
        judged, filmed = sum(self.counts.values()), sum(self.video_counts.values())
        text = _count("video", self.video_counts) if filmed else ""
        if judged or not filmed:
            text += _count("face", self.counts)
        if self._failures:
            failed = len(self._failures)
            text += f"{failed} {'file' if failed == 1 else 'files'} could not be judged. "
        if judged > len(self._articles):
            text += f"This page shows the first {len(self._articles)} faces. "
        if filmed > len(self._videos):
            text += f"It shows the first {len(self._videos)} videos."
        return text.rstrip()

    def _errors(self) -> str:
        if not self._failures:
            return ""
        shown = self._failures[:MAX_PICTURES]
        rows = _rows([(failure.path or "array", failure.error) for failure in shown])
        more = len(self._failures) - len(shown)
        rest = f"<p>and {more} more</p>" if more else ""
        return f'<h2>Could not be judged</h2><div class="scroll"><table>{rows}</table></div>{rest}'

    def _glances(self) -> str:
        """Show all faces small, each a link to its details; nothing for a single one."""
        if len(self._overview) < 2:  # noqa: PLR2004
            return ""
        return f'<ul class="overview">{"".join(self._overview)}</ul>'

    def _glance(self, prediction: Prediction, number: int) -> str:
        name, verdict = _name(prediction, number), prediction.verdict
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
        name = _name(prediction, number)
        notes = "".join(f'<p class="note">{escape(note)}</p>' for note in prediction.warnings)
        return (
            f'<article id="face-{number}" aria-label="{escape(name)}">'
            f"<h3>{escape(name)}</h3>{self._caption(prediction)}"
            f"{_score(prediction)}{notes}"
            f'<div class="views">{show_views(prediction, self.model)}</div>'
            f"{_kinds(prediction)}{_file_facts(prediction, number)}</article>"
        )


def _count(name: str, counts: Mapping[Verdict, int]) -> str:
    total = sum(counts.values())
    return (
        f"{total} {name}{'s' * (total != 1)} judged: {counts['fake']} called fake, "
        f"{counts['uncertain']} uncertain, {counts['real']} called real. "
    )


def _name(prediction: Prediction, number: int) -> str:
    return printable(Path(prediction.path).name) if prediction.path else f"picture {number}"


def printable(text: str) -> str:
    """Make a file name safe to show: bytes that are no text and control characters become marks."""
    readable = os.fsencode(text).decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in readable)


def _short(path: str) -> str:
    """Leave out the working folder: the page may be sent on, and need not name its maker."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _score(prediction: Prediction) -> str:
    verdict, score, bands = prediction.verdict, prediction.score, prediction.bands
    return (
        f'<p><span class="verdict {verdict}">{verdict}</span>, score {score:.3f} '
        f'<span class="soft">(fake from {bands.fake_from:.3f})</span></p>'
        f'<div class="bar {verdict}" role="img" aria-label="score {score:.2f} on a bar from 0, '
        f'real, to 1, fake; fake from {bands.fake_from:.2f}"><i style="width:{100 * score:.1f}%">'
        f'</i><b style="left:{100 * bands.fake_from:.1f}%"></b></div>'
    )


def _kinds(prediction: Prediction) -> str:
    """Name the nearest kinds of forgery on each level, for a face called fake."""
    if not prediction.kinds or prediction.verdict == "real":
        return ""
    rows = [
        (level, ", ".join(f"{words(k)} {k.probability:.0%}" for k in _likely(kinds)))
        for level, kinds in prediction.kinds.items()
        if level != "label"
    ]
    return (
        '<p class="soft">Nearest kinds by similarity to the prompts, an indication only:</p>'
        f'<div class="scroll"><table>{_rows(rows)}</table></div>'
    )


def _likely(kinds: Sequence[Kind]) -> list[Kind]:
    """Keep at most three kinds, and none that would read as 0%."""
    return [kind for kind in kinds[:3] if kind.probability >= LEAST_SHARE]


def words(kind: Kind) -> str:
    """Return a kind's name as people write it."""
    if kind.name == "gan":
        return "GAN"
    return kind.name.replace("_", " ") if kind.name in MANIPULATIONS else kind.name


def _file_facts(prediction: Prediction, number: int) -> str:
    name = printable(_short(prediction.path)) if prediction.path else f"picture {number}"
    facts = f"{escape(name)}, {prediction.width} x {prediction.height} pixels"
    if prediction.sha256:
        facts += f"<br>SHA-256 <code>{prediction.sha256}</code>"
    return f'<p class="soft">{facts}</p>'


def _limits(model: Mapping[str, Any]) -> str:
    trained_on = str(model.get("trained_on") or "The weights do not say what they were trained on.")
    lines = [f"<p><strong>Trained on</strong>: {escape(trained_on)}</p>"]
    if limits := model.get("limits"):
        lines.append(f"<p><strong>Known limits</strong>: {escape(str(limits))}</p>")
    metrics = model.get("metrics")
    figures = metrics if isinstance(metrics, Mapping) else {}
    splits = {name: part for name, part in figures.items() if isinstance(part, Mapping)}
    if splits:
        lines.append(_error_table(splits))
    else:
        lines.append("<p>The weights carry no measured error rates: do not rely on the score.</p>")
    if licence := model.get("licence"):
        lines.append(f"<p><strong>Licence of the weights</strong>: {escape(str(licence))}</p>")
    return "".join(lines)


def _error_table(splits: Mapping[str, Mapping[str, Any]]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in splits)
    rows = "".join(
        f'<tr><th scope="row">{escape(label)}</th>'
        + "".join(f'<td class="number">{_percent(part.get(key))}</td>' for part in splits.values())
        + "</tr>"
        for key, label in FIGURES.items()
        if any(part.get(key) is not None for part in splits.values())
    )
    return (
        "<p>Measured on pictures that were not used for training:</p>"
        f'<div class="scroll"><table><tr><td></td>{head}</tr>{rows}</table></div>'
    )


def _percent(figure: object) -> str:
    """Write a figure, with its 95% interval where there is one."""
    if isinstance(figure, Mapping):
        figure = [figure.get("value"), figure.get("low"), figure.get("high")]
    values = figure if isinstance(figure, list) else [figure]
    known = [f"{100 * v:.1f}%" for v in values if isinstance(v, int | float)]
    if len(known) == 3:  # noqa: PLR2004 - value, low, high
        return f"{known[0]} (95% interval {known[1]} to {known[2]})"
    return known[0] if known else "not known"


def _origin(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    made = provenance()
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    how = "whole picture" if model.get("faces") == "whole" else "faces found in the picture"
    rows = [("Time", now), ("Judged", how), ("mfclip", made.mfclip), ("torch", made.torch)]
    rows += [("Commit", made.commit)] if made.commit else []
    named = {"weights": "Weights", "weights_sha256": "SHA-256 of weights"}
    rows += [(label, str(model[key])) for key, label in named.items() if key in model]
    return rows


def _rows(pairs: list[tuple[str, str]]) -> str:
    return "".join(
        f'<tr><th scope="row">{escape(printable(name))}</th><td>{escape(printable(text))}</td></tr>'
        for name, text in pairs
    )
