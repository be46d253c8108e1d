"""What every report says, in plain words and as data: the HTML page and the PDF draw the same."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from mfclip.card import Bands, Share, Verdict
from mfclip.labels import MANIPULATIONS
from mfclip.predict.kinds import REMARK, describe_kinds
from mfclip.predict.prediction import Failure, Kind, Prediction
from mfclip.predict.verdict import error_rows, percent
from mfclip.predict.video_prediction import VideoPrediction
from mfclip.runtime.provenance import provenance

Rows: TypeAlias = list[tuple[str, str]]

LEAST_SHARE = 0.005
"""Kinds with a smaller share are not named."""

WARNING = (
    "A score is what one statistical model makes of the pixels. It can be wrong in both "
    "directions, more so on forgeries, cameras and compression it was not trained on."
)
"""What stands at the head of every report, after the words "Evidence, not proof"."""

VERDICT_WORDS: dict[Verdict, str] = {
    "fake": "called fake",
    "uncertain": "uncertain",
    "real": "called real",
}
"""A verdict as a reader gets it: the model's call, not a fact."""

READING: Rows = [
    (
        "Score",
        "from 0 to 1, how strongly the model takes the face for a forgery. The scale below it "
        "shows which scores are called real, which decide nothing, and which are called fake.",
    ),
    (
        "Uncertain",
        "the model cannot tell. Take it as no result, not as a weak yes or no.",
    ),
    (
        "Video",
        "faces are followed through evenly spaced frames. The score is the mean over the frames of "
        "the most suspect face that is seen long enough. The verdict's limits were chosen on "
        "single pictures.",
    ),
    (
        "Heat map",
        "bright where the pixels raised this face's score most. It says where, not how much: a "
        "face called real has a brightest place, too. It is not an outline of a forgery.",
    ),
    (
        "Richest patch",
        "the part with the most texture, where a generator's traces show best. The model looks at "
        "its noise beside the whole face. It is not where a forgery was found.",
    ),
    (
        "Noise",
        "what is left of the patch after the model's three high-pass filters (SRM), averaged and "
        "stretched for viewing: grey is none, white and black are the strongest the model sees.",
    ),
    (
        "Kind",
        "how similar the face is to each kind of face the model was taught, real ones among them. "
        f"Share: of the similarity to all of them. Cosine: to the nearest one, 1 = alike. {REMARK}",
    ),
]
"""How to read a report: terms and what they mean."""


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

    def summary(self, num_faces: int, num_videos: int) -> str:
        """Say what came out, and how many faces and videos of it a report shows."""
        judged, filmed = self.faces.total(), self.videos.total()
        text = _count("video", self.videos) if filmed else ""
        if judged or not filmed:
            text += _count("face", self.faces)
        if failed := len(self.failures):
            text += f"{failed} {'file' if failed == 1 else 'files'} could not be judged. "
        if judged > num_faces:
            text += f"This report shows the first {num_faces} faces. "
        if filmed > num_videos:
            text += f"It shows the first {num_videos} videos."
        return text.rstrip()


def _count(name: str, counts: Counter[Verdict]) -> str:
    total = counts.total()
    return (
        f"{total} {name}{'s' * (total != 1)} judged: {counts['fake']} called fake, "
        f"{counts['uncertain']} uncertain, {counts['real']} called real. "
    )


def printable(text: str) -> str:
    """Make a file name safe to show: bytes that are no text and control characters become marks."""
    readable = os.fsencode(text).decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in readable)


def short_path(path: str) -> str:
    """Leave out the working folder: the report may be sent on, and need not name its maker."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def name_of(prediction: Prediction, number: int) -> str:
    """Return a file's name to stand as heading."""
    return printable(Path(prediction.path).name) if prediction.path else f"picture {number}"


def words(kind: Kind) -> str:
    """Return a kind's name as people write it."""
    if kind.name == "gan":
        return "GAN"
    return kind.name.replace("_", " ") if kind.name in MANIPULATIONS else kind.name


def kind_rows(prediction: Prediction) -> Rows:
    """List at most three kinds a level, none that would read as 0%; empty unless called fake."""
    if prediction.verdict != "fake":
        return []
    rows = []
    for level, kinds in prediction.kinds.items():
        likely = [kind for kind in kinds[:3] if kind.probability >= LEAST_SHARE]
        if level != "label" and likely:
            rows.append((level, ", ".join(map(_share, likely))))
    return rows


def _share(kind: Kind) -> str:
    cosine = "" if kind.similarity is None else f" (cosine {kind.similarity:.2f})"
    return f"{words(kind)} {kind.probability:.0%}{cosine}"


def explain_verdict(verdict: Verdict, bands: Bands) -> str:
    """Say what a verdict is worth, by how often it erred where that was measured."""
    if verdict == "uncertain":
        return "The model cannot tell: this score decides nothing."
    name = "false_alarm" if verdict == "fake" else "miss"
    who = "real faces" if verdict == "fake" else "forgeries"
    measured = {split: rates for split, rates in bands.rates.items() if split != bands.fitted_on}
    known = [(split, rates[name]) for split, rates in measured.items() if rates.get(name)]
    if not known:
        return "How often such a verdict errs was not measured."
    where = " and ".join(f"{percent(rate)} ({split})" for split, rate in known)
    return f"How often that errs: in tests, {where} of the {who} were called {verdict}, too."


def file_rows(prediction: Prediction, number: int) -> Rows:
    """List what identifies a file: name, size, hash, and the face in it."""
    path, face = prediction.path, prediction.face
    rows = [("File", printable(short_path(path)) if path else f"picture {number}")]
    size = f"{prediction.width} x {prediction.height} pixels"
    if path and (count := _num_bytes(path)) is not None:
        size += f", {count:,} bytes"
    rows.append(("Size", size))
    if face:
        place = f"{face.width} x {face.height} pixels, at {face.left}, {face.top}"
        rows.append(("Face", f"{place} from the upper left corner"))
    if prediction.sha256:
        rows.append(("SHA-256", prediction.sha256))
    return rows


def _num_bytes(path: str) -> int | None:
    try:
        return Path(path).stat().st_size
    except OSError:
        return None


def limit_rows(model: Mapping[str, Any]) -> Rows:
    """Say what the weights were trained on, what they cannot do, and who may use them."""
    trained_on = model.get("trained_on") or "the weights do not say what they were trained on"
    rows = [("Trained on", str(trained_on))]
    if kinds := describe_kinds(model):
        rows.append(("Kinds of forgery", kinds))
    named = {"limits": "Known limits", "licence": "Licence of the weights"}
    return rows + [(label, str(model[key])) for key, label in named.items() if model.get(key)]


def error_table(model: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Return the splits on which errors were measured, and rows of words and cells.

    The verdict's rates come first, then the AUC; both lists are empty if nothing was measured.
    """
    bands = Bands(**model["verdict"])
    rows = error_rows(bands)
    areas = {
        split: Share(**figures["auc"])
        for split, figures in model.get("metrics", {}).items()
        if "auc" in figures
    }
    splits = list(dict.fromkeys([*bands.rates, *areas]))
    rows = [(label, [*cells, *["-"] * (len(splits) - len(cells))]) for label, cells in rows]
    auc = [percent(areas.get(split), missing="-") for split in splits]
    if any(cell != "-" for cell in auc):
        rows.append(("A forgery scores above a real face (AUC)", auc))
    return (splits if rows else []), rows


def origin_rows(model: Mapping[str, Any], since: datetime) -> Rows:
    """Say when, how and with what was judged.

    Args:
        model: from `mfclip.predict.predictor.Predictor.describe`.
        since: when the judging began.
    """
    made = provenance()
    now = datetime.now(UTC)
    how = "the whole picture" if model.get("faces") == "whole" else "the faces found in the picture"
    rows = [
        ("Judged", f"{since:%Y-%m-%d %H:%M:%S} to {now:%Y-%m-%d %H:%M:%S} UTC"),
        ("What was judged", how),
        ("Verdict", Bands(**model["verdict"]).explain()),
        (
            "Software",
            f"mfclip {made.mfclip}, Python {platform.python_version()}, torch {made.torch}",
        ),
    ]
    rows += [("Commit", made.commit)] if made.commit else []
    if "engine" in model:
        rows.append(("Engine", f"{model['engine']}, {model.get('precision', 'fp32')}"))
    if model.get("jpeg_quality"):
        how = f"as JPEG of quality {model['jpeg_quality']}, like the training faces"
        rows.append(("Faces saved", f"{how}, before they were judged"))
    named = {"weights": "Weights", "weights_sha256": "SHA-256 of weights"}
    return rows + [(label, str(model[key])) for key, label in named.items() if key in model]
