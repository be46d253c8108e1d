"""The table of scores: one row a sample, what every metric and every table is computed from.

Columns: ``path, label, manipulation, family, generator, split, group, video_id, target, score,
error``. A sample that could not be scored has an error and no score.
"""

from __future__ import annotations

import csv
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float, Int64
from numpy import ndarray

from mfclip.datasets.splits import merge_identities
from mfclip.errors import InputError, ManifestError
from mfclip.labels import Labels, parse_label, parse_level
from mfclip.runtime.whole_file import write_whole

COLUMNS = (
    "path",
    "label",
    "manipulation",
    "family",
    "generator",
    "split",
    "group",
    "video_id",
    "target",
    "score",
    "error",
)

Unit: TypeAlias = Literal["frame", "video"]
"""What a metric counts: pictures, or videos."""

Pool: TypeAlias = Literal["mean", "median", "max"]
"""How the scores of a video's frames become the video's score."""

_POOLS: Mapping[str, Callable[[list[float]], float]] = {
    "mean": statistics.fmean,
    "median": statistics.median,
    "max": max,
}


@dataclass(frozen=True, slots=True)
class ScoredSample:
    """One judged sample.

    Attributes:
        path: the picture, relative to the manifest's root where it lies inside; for a row of
            `video_scores` the video's id.
        labels: what is known about it.
        split: of the manifest.
        group: identity or source; the bootstrap draws groups.
        video_id: the video the frame was taken from; None for a still picture.
        score: probability of fake in [0, 1]; None if it could not be scored.
        error: why there is no score; None if there is one.
    """

    path: str
    labels: Labels
    split: str
    group: str
    video_id: str | None = None
    score: float | None = None
    error: str | None = None

    @property
    def target(self) -> int:
        """1 = fake, 0 = real."""
        return int(self.labels.is_fake)


@dataclass(frozen=True, slots=True)
class Scores:
    """An ordered table of judged samples.

    Attributes:
        samples: rows in manifest order.
    """

    samples: tuple[ScoredSample, ...]

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[ScoredSample]:
        return iter(self.samples)

    def where(self, keep: Callable[[ScoredSample], bool]) -> Scores:
        """Keep the samples for which `keep` is true."""
        return Scores(tuple(sample for sample in self.samples if keep(sample)))

    def split(self, name: str) -> Scores:
        """Keep one split."""
        return self.where(lambda sample: sample.split == name)

    @property
    def scored(self) -> Scores:
        """The samples that have a score."""
        return self.where(lambda sample: sample.score is not None)

    @property
    def failed(self) -> Scores:
        """The samples that could not be scored."""
        return self.where(lambda sample: sample.score is None)

    @property
    def score(self) -> Float[ndarray, " n"]:
        """Probability of fake; NaN where there is none."""
        values = [np.nan if sample.score is None else sample.score for sample in self.samples]
        return np.array(values, dtype=np.float64)

    @property
    def target(self) -> Int64[ndarray, " n"]:
        """1 = fake, 0 = real."""
        return np.array([sample.target for sample in self.samples], dtype=np.int64)

    @property
    def groups(self) -> list[str]:
        """What the bootstrap draws as one: a sample's group, joined over the frames of a video.

        The frames of a video are never independent, even where a manifest gives each a group of its
        own.
        """
        return merge_identities(
            [
                (sample.group,)
                if sample.video_id is None
                else (sample.group, f"\x7f{sample.video_id}")
                for sample in self.samples
            ]
        )

    @property
    def has_videos(self) -> bool:
        """Whether any sample is a frame of a video."""
        return any(sample.video_id is not None for sample in self.samples)

    def write(self, path: Path) -> None:
        """Write CSV, whole or not at all; scores keep every digit.

        Raises:
            OSError: the folder is not writable or the disk is full.
        """
        with write_whole(path, newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(map(_row, self.samples))


def read_scores(path: Path) -> Scores:
    """Read the CSV that `Scores.write` wrote.

    Raises:
        InputError: no such file, a column is missing, or a row is wrong; the message names it.
    """
    if not path.is_file():
        raise InputError(f"no table of scores at {path}; expected the CSV of an evaluation")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            message = f"{path} lacks the column(s) {', '.join(missing)}"
            raise InputError(f"{message}; expected {', '.join(COLUMNS)}")
        samples = []
        for number, row in enumerate(reader, start=1):
            try:
                samples.append(_parse_row(row))
            except (ManifestError, ValueError, TypeError, AttributeError) as error:
                raise InputError(f"{path}, row {number}: {error}") from None
    return Scores(tuple(samples))


def video_scores(scores: Scores, how: Pool = "mean") -> Scores:
    """Pool the frames of each video into one row (mean: DeepfakeBench, GenD).

    Frames belong together if they share video id, split *and* all labels: manipulations of one
    video keep its name in FF++, and are never merged. A still picture stays its own row. Frames
    without a score are left out; a video without any scored frame becomes a row with an error.

    Args:
        scores: one row a frame.
        how: mean, median or maximum of the frames' scores.
    """
    videos: dict[object, list[ScoredSample]] = {}
    for sample in scores:
        name = ("still", sample.path) if sample.video_id is None else ("video", sample.video_id)
        videos.setdefault((sample.labels, sample.split, *name), []).append(sample)
    return Scores(tuple(_pool(frames, how) for frames in videos.values()))


def _pool(frames: list[ScoredSample], how: Pool) -> ScoredSample:
    first = frames[0]
    values = [frame.score for frame in frames if frame.score is not None]
    score = _POOLS[how](values) if values else None
    error = None if values else f"none of {len(frames)} frame(s) could be scored: {first.error}"
    name = first.video_id if first.video_id is not None else first.path
    group = _video_group(frames, name)
    return ScoredSample(name, first.labels, first.split, group, first.video_id, score, error)


def _video_group(frames: Iterable[ScoredSample], name: str) -> str:
    """Keep the frames' common group; frames that are each their own group become the video."""
    groups = {frame.group for frame in frames}
    return groups.pop() if len(groups) == 1 else name


def _row(sample: ScoredSample) -> dict[str, str]:
    labels = sample.labels
    return {
        "path": sample.path,
        "label": "fake" if labels.is_fake else "real",
        "manipulation": labels.manipulation or "",
        "family": labels.family or "",
        "generator": labels.generator or "",
        "split": sample.split,
        "group": sample.group,
        "video_id": sample.video_id or "",
        "target": str(sample.target),
        "score": "" if sample.score is None else repr(float(sample.score)),
        "error": sample.error or "",
    }


def _parse_row(row: Mapping[str, str]) -> ScoredSample:
    is_fake = parse_label(row["label"])
    if row["target"] != str(int(is_fake)):
        message = f"label {row['label']!r} and target {row['target']!r} disagree"
        raise InputError(f"{message}; expected target 1 for fake and 0 for real")
    labels = Labels(is_fake, *(parse_level(row[name]) for name in COLUMNS[2:5]))
    return ScoredSample(
        path=row["path"],
        labels=labels,
        split=row["split"],
        group=row["group"],
        video_id=row["video_id"] or None,
        score=float(row["score"]) if row["score"] else None,
        error=row["error"] or None,
    )
