"""From scores to the tables of a paper: overall, per generator, per manipulation, per family.

Each finer row holds the fakes of one kind against the *same* reals: all of that split.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfclip.errors import InputError
from mfclip.evaluate.bootstrap import FEW_GROUPS, Interval, bootstrap_intervals
from mfclip.evaluate.metrics import FIGURES, Metrics, compute_metrics
from mfclip.evaluate.scores import Pool, ScoredSample, Scores, Unit, video_scores
from mfclip.runtime.provenance import Provenance, provenance
from mfclip.runtime.whole_file import write_whole

if TYPE_CHECKING:
    from rich.table import Table

SCHEMA = 1
"""Version of the JSON; rises when a key changes its meaning or goes."""

ROW_LEVELS = ("generator", "manipulation", "family")
"""Levels that get one row for each of their values."""

HEADINGS = {
    "auc": "AUC",
    "ap": "AP",
    "eer": "EER",
    "tpr_at_fpr_1": "TPR@1%",
    "tpr_at_fpr_5": "TPR@5%",
    "accuracy": "ACC@{threshold:.3g}",
    "accuracy_fitted": "ACC@{fitted_threshold:.3f} (fitted)",
    "ece": "ECE",
    "brier": "Brier",
}
"""Columns of the Markdown table; the remaining figures are in the JSON."""

SHORT_HEADINGS = {
    "ap": "AP",
    "eer": "EER",
    "tpr_at_fpr_1": "TPR\n@1%",
    "tpr_at_fpr_5": "TPR\n@5%",
    "accuracy": "ACC\n@.5",
    "accuracy_fitted": "ACC\nfit",
    "ece": "ECE",
    "brier": "Brier",
}
"""Columns of the terminal's table after AUC."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Attributes:
        level: ``overall`` or one of `ROW_LEVELS`.
        name: value of that level; ``all`` for ``overall``.
        metrics: the figures of its fakes against all reals.
        intervals: 95% interval of each figure that has one.
    """

    level: str
    name: str
    metrics: Metrics
    intervals: dict[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Every figure of one split, with what is needed to make it again.

    Attributes:
        split: of the manifest.
        rows: overall first, then by level and name.
        errors: path and error of each sample without a score; they are in no figure.
        num_groups: distinct groups among the scored samples, what the bootstrap draws from.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        config_fingerprint: of the run that made the detector; None if unknown.
        manifest_fingerprint: of the scored manifest; None if unknown.
        provenance: versions, commit and machine.
        pool: how a video's score is made of its frames'; None where pictures are counted.
    """

    split: str
    rows: tuple[Row, ...]
    errors: tuple[tuple[str, str], ...]
    num_groups: int
    resamples: int
    seed: int
    config_fingerprint: str | None
    manifest_fingerprint: str | None
    provenance: Provenance
    pool: Pool | None = None

    @property
    def unit(self) -> Unit:
        """What the metrics count."""
        return "frame" if self.pool is None else "video"

    @property
    def overall(self) -> Metrics:
        """The figures over all fakes."""
        return self.rows[0].metrics

    def to_dict(self) -> dict[str, Any]:
        """Return what `write` writes; figures that are not defined are None."""
        return {
            "schema": SCHEMA,
            "split": self.split,
            "unit": self.unit,
            "pool": self.pool,
            "rows": [_row_dict(row) for row in self.rows],
            "errors": [{"path": path, "error": error} for path, error in self.errors],
            "bootstrap": {
                "resamples": self.resamples,
                "seed": self.seed,
                "num_groups": self.num_groups,
                "interval": 0.95,
            },
            "config_fingerprint": self.config_fingerprint,
            "manifest_fingerprint": self.manifest_fingerprint,
            "provenance": asdict(self.provenance),
        }

    def write(self, path: Path) -> None:
        """Write JSON, whole or not at all.

        Raises:
            OSError: the folder is not writable or the disk is full.
        """
        with write_whole(path) as file:
            file.write(json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n")

    def to_table(self) -> Table:
        """Draw the rows for a terminal of some 85 columns; of the intervals only AUC's."""
        from rich.box import SIMPLE_HEAD  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        title = f"{self._heading()}: {self.overall.num_real} reals, {self._caption()}"
        table = Table(
            title=Text(title, style="italic"), title_justify="left", box=SIMPLE_HEAD, padding=0
        )
        table.show_edge = False
        table.add_column("fakes", overflow="fold", min_width=max(map(len, ROW_LEVELS)))
        for heading in ("n", "AUC", "95%", *SHORT_HEADINGS.values()):
            table.add_column(heading, justify="right")
        level = "overall"
        for row in self.rows:
            if row.level != level:
                level = row.level
                table.add_section()
                table.add_row(Text(level, style="bold"))
            table.add_row(Text(row.name), *_short_cells(row))
        return table

    def to_markdown(self) -> str:
        """Draw the rows as a Markdown table with a line that says what they are."""
        headings = self._headings()
        lines = [headings, ["---", *["---:"] * (len(headings) - 1)]]
        lines += [_cells(row) for row in self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"{self._heading()}: {self._caption()}\n\n{table}\n"

    def _heading(self) -> str:
        return self.split if self.pool is None else f"{self.split}, videos ({self.pool} of frames)"

    def _headings(self) -> list[str]:
        values = asdict(self.overall)
        return ["fakes", "real", "fake", *(text.format(**values) for text in HEADINGS.values())]

    def _caption(self) -> str:
        text = "each row against the same reals"
        if self.resamples:
            text += (
                f"; [95% interval] from {self.resamples} resamples of {self.num_groups} groups, "
                f"seed {self.seed}"
            )
            if self.num_groups < FEW_GROUPS:
                text += " (so few that it is too narrow)"
        if self.errors:
            text += f"; {len(self.errors)} {'video' if self.pool else 'sample'}(s) not scored"
        reasons = sorted(set(self.overall.undefined.values()))
        return "; ".join([text, *(f"n/a = {reason}" for reason in reasons)])


def evaluate_scores(
    scores: Scores,
    *,
    pool: Pool | None = None,
    fitted_threshold: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
    ece_bins: int = 15,
    config_fingerprint: str | None = None,
    manifest_fingerprint: str | None = None,
) -> Evaluation:
    """Compute every row of one split.

    Args:
        scores: of one split, a row a picture; those without a score are listed and left out.
        pool: joins the frames of each video to one row first, see `video_scores`; None counts
            pictures.
        fitted_threshold: from `fit_threshold` on validation; None leaves its figures undefined.
        resamples: of the bootstrap over groups; 0 gives no intervals.
        seed: of the bootstrap.
        ece_bins: bins of the calibration error.
        config_fingerprint: `RunConfig.fingerprint` of the detector's run.
        manifest_fingerprint: `Manifest.fingerprint` of what was scored.

    Raises:
        InputError: the table is empty, or holds several splits, whose reals must not be mixed.
    """
    splits = sorted({sample.split for sample in scores})
    if len(splits) != 1:
        message = f"expected the scores of one split, but got [{', '.join(splits)}]"
        raise InputError(f"{message}; take one with scores.split(name)")
    scores = scores if pool is None else video_scores(scores, pool)
    judged = scores.scored

    def measure(level: str, name: str, part: Scores) -> Row:
        settings: dict[str, Any] = {"fitted_threshold": fitted_threshold, "ece_bins": ece_bins}
        metrics = compute_metrics(part.score, part.target, **settings)
        settings |= {"resamples": resamples, "seed": seed}
        intervals = bootstrap_intervals(part.score, part.target, part.groups, **settings)
        return Row(level, name, metrics, intervals)

    return Evaluation(
        split=splits[0],
        rows=tuple(measure(*part) for part in _parts(judged)),
        errors=tuple((sample.path, sample.error or "") for sample in scores.failed),
        num_groups=len(set(judged.groups)),
        resamples=resamples,
        seed=seed,
        config_fingerprint=config_fingerprint,
        manifest_fingerprint=manifest_fingerprint,
        provenance=provenance(),
        pool=pool,
    )


def _parts(scores: Scores) -> Iterator[tuple[str, str, Scores]]:
    """Iterate over level, name and samples of each row; every part holds all reals."""
    yield "overall", "all", scores
    for level in ROW_LEVELS:
        fakes = (sample for sample in scores if sample.labels.is_fake)
        for name in sorted({_value(sample, level) for sample in fakes}):
            yield level, name, scores.where(_real_or(level, name))


def _real_or(level: str, name: str) -> Callable[[ScoredSample], bool]:
    return lambda sample: not sample.labels.is_fake or _value(sample, level) == name


def _value(sample: ScoredSample, level: str) -> str:
    return getattr(sample.labels, level) or "unknown"


def _row_dict(row: Row) -> dict[str, Any]:
    values = {key: _none(value) for key, value in asdict(row.metrics).items()}
    intervals = {name: _interval_dict(interval) for name, interval in row.intervals.items()}
    figures = {name: values.pop(name) for name in FIGURES}
    return {
        "level": row.level,
        "name": row.name,
        **values,
        "figures": figures,
        "intervals": intervals,
    }


def _interval_dict(interval: Interval) -> dict[str, float | None]:
    return {key: _none(value) for key, value in asdict(interval).items()}


def _none(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _cells(row: Row) -> list[str]:
    name = row.name if row.level == "overall" else f"{row.level}: {row.name}"
    cells = [name, str(row.metrics.num_real), str(row.metrics.num_fake)]
    for figure in HEADINGS:
        interval = row.intervals.get(figure)
        text = _number(getattr(row.metrics, figure))
        if interval is not None:
            text += f" [{_number(interval.low)}, {_number(interval.high)}]"
        cells.append(text)
    return cells


def _short_cells(row: Row) -> list[str]:
    interval = row.intervals.get("auc")
    span = "" if interval is None else f"{_short(interval.low)}-{_short(interval.high)}"
    figures = [_short(getattr(row.metrics, name)) for name in ("auc", *SHORT_HEADINGS)]
    return [str(row.metrics.num_fake), figures[0], span, *figures[1:]]


def _short(value: float) -> str:
    return _number(value).removeprefix("0")


def _number(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.3f}"
