"""Predictions -> one self-contained HTML page that can be read, printed and sent on."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import torch
from PIL import Image

from mfclip.data.images import read_image
from mfclip.data.transforms import Pixels
from mfclip.errors import InputError
from mfclip.labels import MANIPULATIONS
from mfclip.model.srm import TRUNCATION, noise_residual
from mfclip.predict.prediction import Box, Failure, Kind, Prediction, Result
from mfclip.predict.predictor import hash_file
from mfclip.predict.whole_file import write_whole
from mfclip.provenance import provenance

MAX_PICTURES = 200
"""Faces shown on one page; it counts the others, so that a browser can still open it."""

THUMBNAIL = 432
"""Longer side of the copy of each picture, pixels."""

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
        self.counts = {"fake": 0, "real": 0}
        self._articles: list[str] = []
        self._failures: list[Failure] = []

    def add(self, result: Result) -> None:
        """Take in one result; predictions need `keep_pixels=True` to be shown as pictures."""
        if isinstance(result, Failure):
            self._failures.append(result)
            return
        self.counts[result.verdict] += 1
        if len(self._articles) < MAX_PICTURES:
            self._articles.append(self._article(result, len(self._articles) + 1))

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
            pictures="\n".join(self._articles) or "<p>No picture could be judged.</p>",
            errors=self._errors(),
            limits=_limits(self.model),
            origin=_rows(_origin(self.model)),
        )

    def _summary(self) -> str:
        judged = sum(self.counts.values())
        text = (
            f"{judged} {'face' if judged == 1 else 'faces'} judged: "
            f"{self.counts['fake']} called fake, {self.counts['real']} called real."
        )
        if self._failures:
            text += f" {len(self._failures)} files could not be judged."
        if judged > len(self._articles):
            text += f" This page shows the first {len(self._articles)}."
        return text

    def _errors(self) -> str:
        if not self._failures:
            return ""
        shown = self._failures[:MAX_PICTURES]
        rows = _rows([(failure.path or "array", failure.error) for failure in shown])
        more = len(self._failures) - len(shown)
        rest = f"<p>and {more} more</p>" if more else ""
        return f'<h2>Could not be judged</h2><div class="scroll"><table>{rows}</table></div>{rest}'

    def _article(self, prediction: Prediction, number: int) -> str:
        name = printable(_short(prediction.path) if prediction.path else f"picture {number}")
        caption = self.captions.get(prediction.path or "")
        known = f'<p class="soft">{escape(caption)}</p>' if caption else ""
        notes = "".join(f'<p class="note">{escape(note)}</p>' for note in prediction.warnings)
        return (
            f'<article aria-label="{escape(Path(name).name)}">'
            f"<h3>{escape(Path(name).name)}</h3>{known}"
            f"{_score(prediction)}{notes}"
            f'<div class="views">{_views(prediction, self.model)}</div>'
            f"{_kinds(prediction)}{_file_facts(prediction, name)}</article>"
        )


def printable(text: str) -> str:
    """Make a file name safe to show: bytes that are no text and control characters become marks."""
    readable = os.fsencode(text).decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in readable)


def _short(path: str) -> str:
    """Leave out the working folder: the page may be sent on, and need not name its maker."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _score(prediction: Prediction) -> str:
    verdict, score, threshold = prediction.verdict, prediction.score, prediction.threshold
    return (
        f'<p><span class="verdict {verdict}">{verdict}</span>, score {score:.3f} '
        f'<span class="soft">(threshold {threshold:.3f})</span></p>'
        f'<div class="bar {verdict}" role="img" aria-label="score {score:.2f} on a bar from 0, '
        f'real, to 1, fake; threshold at {threshold:.2f}"><i style="width:{100 * score:.1f}%">'
        f'</i><b style="left:{100 * threshold:.1f}%"></b></div>'
    )


def _views(prediction: Prediction, model: Mapping[str, Any]) -> str:
    views = []
    if picture := _picture(prediction):
        area = prediction.face or _judged_area(prediction, model)
        framed = "the face found in it" if prediction.face else "what was judged"
        views.append(_figure(*picture, area, f"The picture; the frame is {framed}"))
    if (pixels := prediction.pixels) is not None:
        size = (prediction.image_size, prediction.image_size)
        seen = "What the model saw" + ("; the frame is its richest patch" * bool(prediction.patch))
        views.append(_figure(_image(pixels), size, prediction.patch, seen))
    if pixels is not None and (box := prediction.patch):
        patch = pixels[box.top : box.bottom, box.left : box.right]
        shown = (box.width, box.height)
        views.append(_figure(_image(patch), shown, None, "Richest patch, enlarged", crisp=True))
        views.append(
            _figure(
                _image(noise_picture(patch), lossless=True),
                shown,
                None,
                "Its noise (SRM), stretched for viewing",
                crisp=True,
            )
        )
    return "".join(views)


def noise_picture(patch: Pixels) -> Pixels:
    """Show the SRM noise of a patch: grey is none, black and white the strongest kept.

    Args:
        patch: RGB, uint8 (p, p, 3).

    Returns:
        Grey as RGB: the mean of the three residuals, -3..3 stretched to 0..255.
    """
    planes = torch.from_numpy(np.ascontiguousarray(patch)).permute(2, 0, 1)[None].float() / 255
    noise = noise_residual(planes)[0].mean(0).numpy()
    grey = np.rint((noise / TRUNCATION + 1) * 127.5).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _picture(prediction: Prediction) -> tuple[str, tuple[int, int]] | None:
    """Return a small copy of the whole picture, and the picture's width and height."""
    if prediction.path is None:
        return None
    try:
        if hash_file(Path(prediction.path)) != prediction.sha256:
            return None  # changed since it was judged: it must not stand beside this score
        small = Image.fromarray(read_image(Path(prediction.path)))
    except (InputError, OSError):
        return None
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return _image(np.asarray(small)), (prediction.width, prediction.height)


def _judged_area(prediction: Prediction, model: Mapping[str, Any]) -> Box:
    """Return the part of a whole picture that the model input shows, in the picture's pixels."""
    side = min(prediction.width, prediction.height)
    side = round(side * prediction.image_size / int(model.get("resize", prediction.image_size)))
    left, top = (prediction.width - side) // 2, (prediction.height - side) // 2
    return Box(left, top, left + side, top + side)


def _image(pixels: Pixels, *, lossless: bool = False) -> str:
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if lossless:
        image.convert("L").save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=90)
    kind = "png" if lossless else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _figure(
    source: str, size: tuple[int, int], frame: Box | None, caption: str, *, crisp: bool = False
) -> str:
    width, height = size
    mark = ""
    if frame:
        left, top = 100 * frame.left / width, 100 * frame.top / height
        mark = (
            f'<span style="left:{left:.2f}%;top:{top:.2f}%;width:{100 * frame.width / width:.2f}%;'
            f'height:{100 * frame.height / height:.2f}%"></span>'
        )
    style = ' class="crisp"' if crisp else ""
    return (
        f'<figure><span class="frame"><img{style} src="{source}" width="{width}" '
        f'height="{height}" alt="{escape(caption)}">{mark}</span>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _kinds(prediction: Prediction) -> str:
    if not prediction.kinds:
        return ""
    rows = [
        (level, ", ".join(f"{words(k)} {k.probability:.0%}" for k in kinds[:3]))
        for level, kinds in prediction.kinds.items()
        if level != "label"
    ]
    return (
        '<p class="soft">Nearest kinds of forgery, an indication by similarity:</p>'
        f'<div class="scroll"><table>{_rows(rows)}</table></div>'
    )


def words(kind: Kind) -> str:
    """Return a kind's name as people write it."""
    if kind.name == "gan":
        return "GAN"
    return kind.name.replace("_", " ") if kind.name in MANIPULATIONS else kind.name


def _file_facts(prediction: Prediction, name: str) -> str:
    facts = f"{escape(name)}, {prediction.width} x {prediction.height} pixels"
    if prediction.sha256:
        facts += f"<br>SHA-256 <code>{prediction.sha256}</code>"
    return f'<p class="soft">{facts}</p>'


def _limits(model: Mapping[str, Any]) -> str:
    trained_on = str(model.get("trained_on") or "The weights do not say what they were trained on.")
    lines = [f"<p><strong>Trained on</strong>: {escape(trained_on)}</p>"]
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
