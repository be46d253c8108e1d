"""What a report says, as data: built once from predictions, drawn by templates, page and paper.

Document
    Article, one a file: a picture with its faces, or a video
        View, the picture with the faces framed
        Face, one a face (of a video, the one that decides)
            Finding: verdict, score on its scale, what it is worth, reasons to trust it less
            View: what the model saw, heat map, richest patch, noise
            kinds of forgery, facts
        Film, of a video: score over time, moments, all faces
    Limits: what the weights were trained on, how often they err
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from mfclip.card import VERDICTS, Bands, Share, Verdict
from mfclip.errors import InputError
from mfclip.media.transforms import Pixels
from mfclip.media.video import Frame
from mfclip.predict.prediction import Prediction
from mfclip.predict.video_prediction import Track, VideoPrediction
from mfclip.report.timeline import Timeline, plot_scores
from mfclip.report.views import (
    MOMENT,
    Mark,
    View,
    judged_area,
    list_evidence,
    show_glance,
    show_picture,
)
from mfclip.report.wording import Rows, Words, likely_kinds, printable, short_path
from mfclip.runtime.provenance import provenance

NARROW = 13.0
"""Bands below this percentage of the scale are too narrow for their name."""

APART = 7.0
"""Ends of bands closer than this percentage of the scale are not both written."""

MAX_FACES = 30
"""Faces of a video that are listed: those seen longest."""

RATES = (
    "false_alarm", "miss", "uncertain_real", "uncertain_fake", "precision_fake", "precision_real",
)  # fmt: skip
"""The measured shares that the table of error rates shows."""


@dataclass(frozen=True, slots=True)
class Band:
    """A part of the scale from 0 to 1 with one verdict; percent of the scale."""

    verdict: Verdict
    word: str
    start: float
    width: float


@dataclass(frozen=True, slots=True)
class Scale:
    """A score on the scale of the verdicts.

    Attributes:
        place: of the score, percent.
        bands: rising; a verdict that no score gets is left out.
        ticks: places and the scores written there.
        label: all of it in a sentence, for those who do not see it.
    """

    place: float
    bands: tuple[Band, ...]
    ticks: tuple[tuple[float, str], ...]
    label: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict and what it is worth.

    Attributes:
        verdict: of the bands.
        word: it in words.
        short: it in one word.
        score: as it is written.
        scale: where it lies.
        meaning: how often such a verdict errs, one sentence each.
        warnings: reasons to trust the score less.
    """

    verdict: Verdict
    word: str
    short: str
    score: str
    scale: Scale
    meaning: tuple[str, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Face:
    """A face and the evidence for its verdict.

    Attributes:
        anchor: id on the page.
        heading: empty for the only face of a file.
        name: face, verdict and score in one line.
        finding: its verdict.
        views: what the model saw and made of it.
        kinds: level to the nearest kinds and their shares; empty unless they are worth naming.
        rows: where it lies in the picture.
        glance: it small, for an overview.
    """

    anchor: str
    heading: str
    name: str
    finding: Finding
    views: tuple[View, ...] = ()
    kinds: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    rows: tuple[tuple[str, str], ...] = ()
    glance: View | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """A suspect moment of a video: its frame, and what the model saw of it."""

    index: int
    frame: View
    seen: View | None


@dataclass(frozen=True, slots=True)
class FaceRow:
    """One face of a video, in the table of all."""

    number: int
    name: str
    decides: bool
    verdict: Verdict
    word: str
    score: str
    seen: str


@dataclass(frozen=True, slots=True)
class Film:
    """What is shown of a video alone.

    Attributes:
        sentences: how its score came about.
        timeline: score over time.
        moments: most suspect first.
        faces: the most suspect first; empty for a single one.
        more: how many others there are, in words.
    """

    sentences: tuple[str, ...]
    timeline: Timeline
    moments: tuple[Moment, ...]
    faces: tuple[FaceRow, ...]
    more: str = ""


@dataclass(frozen=True, slots=True)
class Article:
    """What was found in one file.

    Attributes:
        anchor: id on the page.
        kind: of the file.
        name: of the file.
        caption: what else is known about it; may be empty.
        facts: its size and the like, in one line.
        picture: it, with the faces framed; None if it went away.
        faces: at least one.
        film: of a video.
        rows: what identifies the file.
    """

    anchor: str
    kind: Literal["picture", "video"]
    name: str
    caption: str
    facts: str
    picture: View | None
    faces: tuple[Face, ...]
    film: Film | None
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """What the weights were trained on, and how often they err.

    Attributes:
        head: the splits; empty if nothing was measured.
        table: each rate in words, and its value on every split.
        rows: terms and texts.
    """

    head: tuple[str, ...]
    table: tuple[tuple[str, tuple[str, ...]], ...]
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A whole report.

    Attributes:
        words: the language it is in.
        title: heading.
        summary: what came out, in one sentence.
        articles: one a file.
        failures: files that could not be judged, and why.
        more_failures: how many others.
        limits: of the model.
        reading: how to read it, terms and texts.
        origin: when and with what it was made.
    """

    words: Words
    title: str
    summary: str
    articles: tuple[Article, ...]
    failures: tuple[tuple[str, str], ...]
    more_failures: int
    limits: Limits
    reading: tuple[tuple[str, str], ...]
    origin: tuple[tuple[str, str], ...]


def find_bands(bands: Bands, words: Words) -> tuple[Band, ...]:
    """Lay the bands of the verdicts on the scale from 0 to 1."""
    edges = (0.0, bands.real_below, min(1.0, bands.fake_from), 1.0)
    return tuple(
        Band(verdict, words(f"short.{verdict}"), round(100 * low, 2), round(100 * (high - low), 2))
        for verdict, low, high in zip(VERDICTS, edges, edges[1:], strict=False)
        if high > low
    )


def find_verdict(judged: Prediction | VideoPrediction, words: Words) -> Finding:
    """Say what a score means."""
    score, bands, verdict = judged.score, judged.bands, judged.verdict
    told = words.number(score)
    parts = find_bands(bands, words)
    ticks = [(0.0, "0")]
    for part in parts[1:]:
        if part.start - ticks[-1][0] > APART and part.start < 100 - APART:
            ticks.append((part.start, words.number(part.start / 100, 2)))
    label = words("score.scale", score=told, bands=words.bands(bands))
    return Finding(
        verdict=verdict,
        word=words(f"verdict.{verdict}"),
        short=words(f"short.{verdict}"),
        score=told,
        scale=Scale(round(100 * score, 2), parts, (*ticks, (100.0, "1")), label),
        meaning=(words("meaning.unreliable"),)
        if judged.unreliable
        else words.meaning(verdict, bands),
        warnings=tuple(sentence(words.warning(text)) for text in judged.warnings),
    )


def show_face(
    prediction: Prediction,
    model: Mapping[str, Any],
    words: Words,
    *,
    anchor: str,
    number: int = 1,
    total: int = 1,
    heat: Pixels | None = None,
) -> Face:
    """Show one face.

    Args:
        prediction: with `pixels`, to be shown as pictures.
        model: what judged, from `mfclip.predict.predictor.Predictor.describe`.
        words: of the report.
        anchor: id on the page.
        number: of the face in its file, from 1.
        total: faces in its file.
        heat: it with its heat map laid over it; None leaves that out.
    """
    finding = find_verdict(prediction, words)
    name = words("article.face_named", number=number, verdict=finding.word, score=finding.score)
    rows: Rows = []
    if face := prediction.face:
        place = {"width": face.width, "height": face.height, "left": face.left, "top": face.top}
        rows.append((words("fact.face"), words("fact.place", **place)))
    return Face(
        anchor=anchor,
        heading=words("article.face", number=number, total=total) if total > 1 else "",
        name=name,
        finding=finding,
        views=tuple(list_evidence(prediction, words, heat)),
        kinds=tuple(
            (
                words(f"level.{level}"),
                tuple((words.kind(k.name), words.percent(k.probability)) for k in kinds),
            )
            for level, kinds in likely_kinds(prediction, model).items()
        ),
        rows=tuple(rows),
        glance=show_glance(prediction, name),
    )


def show_file(
    faces: Sequence[tuple[Prediction, Pixels | None]],
    model: Mapping[str, Any],
    words: Words,
    *,
    anchor: str,
    name: str,
    caption: str = "",
) -> Article:
    """Show one picture and its faces.

    Args:
        faces: predictions for one file, and the heat map of each.
        model: what judged, from `mfclip.predict.predictor.Predictor.describe`.
        words: of the report.
        anchor: id on the page.
        name: the file as the report may name it.
        caption: what else is known about it.
    """
    total, (first, _) = len(faces), faces[0]
    shown = tuple(
        show_face(
            prediction, model, words,
            anchor=f"{anchor}-face-{number}", number=number, total=total, heat=heat,
        )
        for number, (prediction, heat) in enumerate(faces, 1)
    )  # fmt: skip
    title, size = printable(Path(name).name), (first.width, first.height)
    found = [p.face for p, _ in faces if p.face]
    key = "view.whole" if not found else f"view.found.{'one' if len(found) == 1 else 'many'}"
    marks = [
        Mark(p.face, str(n) if total > 1 else "", face.name, face.anchor if total > 1 else "")
        for n, ((p, _), face) in enumerate(zip(faces, shown, strict=True), 1)
        if p.face
    ] or [Mark(judged_area(first, model))]
    rows = [(words("fact.file"), printable(short_path(name)))]
    rows += [(words("fact.sha256"), first.sha256)] if first.sha256 else []
    return Article(
        anchor=anchor,
        kind="picture",
        name=title,
        caption=caption,
        facts=words("article.pixels", width=first.width, height=first.height),
        picture=None
        if first.preview is None
        else show_picture(
            first.preview, size, marks, title=title, caption=words(key, number=len(found))
        ),
        faces=shown,
        film=None,
        rows=tuple(rows),
    )


def show_video(
    video: VideoPrediction,
    moments: Iterable[tuple[Frame, Prediction, Pixels | None]],
    model: Mapping[str, Any],
    words: Words,
    *,
    anchor: str,
    name: str,
    caption: str = "",
) -> Article:
    """Show one video: the face that decides, score over time, moments, all faces.

    Args:
        video: what was judged.
        moments: its most suspect ones, from `mfclip.predict.video.look_closer`, and the heat map of
            each; taken one by one. Where the file went away or changed, that becomes a warning.
        model: what judged, from `mfclip.predict.predictor.Predictor.describe`.
        words: of the report.
        anchor: id on the page.
        name: the file as the report may name it.
        caption: what else is known about it.
    """
    places = {moment.index: place for place, moment in enumerate(video.moments, 1)}
    shown: dict[int, Moment] = {}
    best: Face | None = None
    warnings = list(video.warnings)
    try:
        for frame, prediction, heat in moments:
            place = places[frame.index]
            shown[place] = _show_moment(place, frame, prediction, words)
            if place == 1:
                best = show_face(prediction, model, words, anchor=f"{anchor}-face-1", heat=heat)
    except InputError as error:
        warnings.append(str(error).removeprefix(f"{video.path}: "))
    finding = find_verdict(replace(video, warnings=tuple(warnings)), words)
    facts = [
        words("article.pixels", width=video.width, height=video.height),
        words(
            "film.facts",
            clock=words.clock(video.seconds),
            fps=f"{video.fps:.4g}",
            codec=video.codec,
        ),
        words.count("frame", video.num_frames),
    ]
    title = printable(Path(name).name)
    return Article(
        anchor=anchor,
        kind="video",
        name=title,
        caption=caption,
        facts=" · ".join(facts),
        picture=shown[1].frame if 1 in shown else None,
        faces=(
            Face(
                anchor=f"{anchor}-face-1",
                heading="",
                name=finding.word,
                finding=finding,
                views=best.views if best else (),
                kinds=best.kinds if best and finding.verdict == "fake" else (),
                rows=best.rows if best else (),
                glance=replace(best.glance, title=title) if best and best.glance else None,
            ),
        ),
        film=Film(
            sentences=_film_sentences(video, words),
            timeline=plot_scores(video, words),
            moments=tuple(shown[place] for place in sorted(shown)),
            faces=_list_faces(video, words),
            more=_count_others(video, words),
        ),
        rows=(
            (words("fact.file"), printable(short_path(name))),
            (words("fact.sha256"), video.sha256),
        ),
    )


def _show_moment(place: int, frame: Frame, prediction: Prediction, words: Words) -> Moment:
    told = {
        "place": place,
        "clock": words.clock(frame.seconds),
        "score": words.number(prediction.score),
    }
    view = show_picture(
        frame.image,
        (prediction.width, prediction.height),
        [Mark(prediction.face)] if prediction.face else [],
        title=words("film.moment", **told),
        caption="",
        longest=MOMENT,
    )
    seen = next(iter(list_evidence(prediction, words)), None)
    if seen is not None:
        title = words("film.moment_seen", place=place)
        seen = replace(seen, title=title, caption="", marks=())
    return Moment(frame.index, view, seen)


def _film_sentences(video: VideoPrediction, words: Words) -> tuple[str, ...]:
    suspect, total = video.suspect, len(video.tracks)
    key = "film.the_face" if total == 1 else "film.most_suspect"
    return (
        words(
            "film.mean",
            frames=words.count("frame", len(suspect.frames)),
            face=words(key, number=suspect.number, total=total),
            spread=words.number(video.spread),
        ),
        words(
            "film.judged",
            frames=words.count("frame", len(video.judged)),
            with_face=video.num_with_face,
        ),
    )


def _list_faces(video: VideoPrediction, words: Words) -> tuple[FaceRow, ...]:
    if len(video.tracks) == 1:
        return ()
    longest = sorted(video.tracks, key=lambda track: -len(track.frames))[:MAX_FACES]
    ranked = sorted(longest, key=lambda track: -track.score)
    return tuple(_show_track(track, video, words) for track in ranked)


def _show_track(track: Track, video: VideoPrediction, words: Words) -> FaceRow:
    verdict = video.bands.verdict(track.score)
    return FaceRow(
        number=track.number,
        name=words("film.face", number=track.number),
        decides=track is video.suspect,
        verdict=verdict,
        word=words(f"short.{verdict}"),
        score=f"{words.number(track.score)} ± {words.number(track.spread)}",
        seen=words(
            "film.seen",
            number=len(track.frames),
            first=words.clock(track.frames[0].seconds),
            last=words.clock(track.frames[-1].seconds),
        ),
    )


def _count_others(video: VideoPrediction, words: Words) -> str:
    more = len(video.tracks) - MAX_FACES
    return words("film.more", faces=words.count("face", more)) if more > 0 else ""


def rate_rows(bands: Bands, words: Words) -> list[tuple[str, list[str]]]:
    """Write the measured error rates: each in words, and its value on every split."""
    return [
        (words(f"limits.{name}"), [words.range(rates.get(name)) for rates in bands.rates.values()])
        for name in RATES
        if any(name in rates for rates in bands.rates.values())
    ]


def find_limits(model: Mapping[str, Any], words: Words) -> Limits:
    """Say what the weights were trained on, how often they err, and who may use them.

    Args:
        model: from `mfclip.predict.predictor.Predictor.describe`.
        words: of the report.
    """
    bands = Bands(**model["verdict"])
    areas = {
        split: Share(**figures["auc"])
        for split, figures in model.get("metrics", {}).items()
        if "auc" in figures
    }
    # tests first: what the bands were fitted on flatters
    splits = sorted(
        dict.fromkeys([*bands.rates, *areas]), key=lambda split: split == bands.fitted_on
    )
    rates = {split: bands.rates.get(split, {}) for split in splits}
    table = rate_rows(replace(bands, rates=rates), words)
    if areas:
        table.append((words("limits.auc"), [words.range(areas.get(split)) for split in splits]))
    return Limits(
        head=tuple(words.split_row(s, fitted=s == bands.fitted_on) for s in splits),
        table=tuple((name, tuple(cells)) for name, cells in table),
        rows=tuple(_limit_rows(model, words)),
    )


def _limit_rows(model: Mapping[str, Any], words: Words) -> Rows:
    trained_on = model.get("trained_on") or words("limits.trained_on_unknown")
    rows = [(words("limits.detector"), str(model["detector"]))] if model.get("detector") else []
    rows.append((words("limits.trained_on"), sentence(str(trained_on))))
    if hits := words.kind_hits(model):
        rows.append((words("limits.kinds"), " ".join(hits)))
    named = {"known": "limits", "licence": "licence"}
    rows += [
        (words(f"limits.{label}"), sentence(str(model[key])))
        for label, key in named.items()
        if model.get(key)
    ]
    return rows


def find_reading(model: Mapping[str, Any], words: Words) -> tuple[tuple[str, str], ...]:
    """Say how to read a report: terms and what they mean."""
    gaps = {
        "verdict": {"bands": words.bands(Bands(**model["verdict"]))},
        "kinds": {"remark": words("kinds.remark")},
    }
    return tuple(
        (words(f"reading.{key}.term"), words(f"reading.{key}.text", **gaps.get(key, {})))
        for key in ("score", "verdict", "video", "heat", "patch", "kinds")
    )


def find_origin(
    model: Mapping[str, Any], since: datetime, words: Words
) -> tuple[tuple[str, str], ...]:
    """Say when, how and with what was judged.

    Args:
        model: from `mfclip.predict.predictor.Predictor.describe`.
        since: when the judging began.
        words: of the report.
    """
    made, now = provenance(), datetime.now(UTC)
    form = "%Y-%m-%d %H:%M:%S"
    facts = {
        "judged": words("origin.span", since=f"{since:{form}}", until=f"{now:{form}}"),
        "what": words("origin.whole" if model.get("faces") == "whole" else "origin.detected"),
        "verdict": words.bands(Bands(**model["verdict"]), origin=True),
        "software": f"mfclip {made.mfclip}, Python {platform.python_version()}, torch {made.torch}",
        "commit": made.commit,
        "engine": ", ".join(str(model[key]) for key in ("engine", "precision") if model.get(key)),
        "saved": words("origin.jpeg", quality=model["jpeg_quality"])
        if model.get("jpeg_quality")
        else "",
        "weights": model.get("weights"),
        "weights_sha256": model.get("weights_sha256"),
    }
    return tuple(
        (words(f"origin.{key}"), printable(str(text))) for key, text in facts.items() if text
    )


def sentence(text: str) -> str:
    """Write a message as a sentence, with capital and full stop."""
    upper = text[:1].upper() + text[1:]
    return upper if upper.endswith((".", "!", "?", "。")) else f"{upper}."
