"""Weights and manifests to scores, metrics and tables on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from mfclip.card import Card
from mfclip.config import EvaluateSettings
from mfclip.data.manifest import Framing, Manifest
from mfclip.detectors import load_detector
from mfclip.engines import load_engine
from mfclip.engines.detector import EngineDetector
from mfclip.engines.exported import is_exported
from mfclip.errors import ConfigError, ManifestError, require
from mfclip.evaluate.calibration import CalibratedDetector
from mfclip.evaluate.cross_auc import CrossAuc, cross_auc
from mfclip.evaluate.metrics import fit_threshold
from mfclip.evaluate.report import Evaluation, evaluate_scores
from mfclip.evaluate.score import Progress, score_manifest
from mfclip.evaluate.scores import Pool, Scores, Unit, video_scores
from mfclip.runtime.whole_file import write_whole

FILES: Mapping[Unit, tuple[str, str]] = {
    "frame": ("scores.csv", "metrics.json"),
    "video": ("scores-video.csv", "metrics-video.json"),
}
"""Where scores and metrics of each unit are written; ``scores.csv`` is written always."""


def output_names(domains: Sequence[str]) -> Iterator[str]:
    """Names of all files that may be written or removed below the folder of the results.

    Args:
        domains: names of the data sets; several have a folder each.
    """
    each = [*(name for names in FILES.values() for name in names), "metrics.md"]
    if len(domains) < 2:  # noqa: PLR2004
        yield from each
        return
    yield "cross_auc.json"
    yield from (f"{domain}/{name}" for domain in domains for name in each)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What came of one manifest.

    Attributes:
        scores: a row a picture.
        evaluations: the metrics of each unit that was asked for.
        pool: how frames were joined to videos.
    """

    scores: Scores
    evaluations: Mapping[Unit, Evaluation]
    pool: Pool


@dataclass(frozen=True, slots=True)
class Evaluator:
    """A detector that is ready to be measured, and how.

    Attributes:
        detector: maps faces to logits.
        card: of its weights.
        split: what is scored.
        fit_split: the second threshold is fitted on this split; None takes the one of the card.
        units: what the metrics count; None counts pictures, and videos where there are any.
        pool: how the frames of a video are joined.
        settings: batch size, resamples, bins.
    """

    detector: nn.Module
    card: Card
    split: str = "test"
    fit_split: str | None = None
    units: Sequence[Unit] | None = None
    pool: Pool = "mean"
    settings: EvaluateSettings = field(default_factory=EvaluateSettings)

    def check(self, manifest: Manifest) -> None:
        """Find out before anything is scored that a manifest cannot be evaluated.

        Raises:
            ManifestError: a split is empty, or videos are to be counted and there are none.
        """
        part = manifest.split(self.split)
        if self.fit_split is not None:
            manifest.split(self.fit_split)
        if self.units and "video" in self.units and not any(s.video_id for s in part):
            raise ManifestError(
                f"videos are to be counted, but no row of split '{self.split}' has a video_id; "
                "'mfclip data prepare' writes it for the frames of videos, or count frames"
            )

    def framing_note(self, manifest: Manifest) -> str | None:
        """Say so if the faces were cut in another way than those that the weights learned from."""
        own = manifest.framing
        learned = Framing(self.card.face_margin, align=self.card.face_align)
        if own is None or learned == own:
            return None
        return (
            f"these faces were cut with {own}, those that the weights learned from with {learned}: "
            "the figures are of a detector that sees faces unlike its own"
        )

    def run(self, manifest: Manifest, out: Path, *, progress: Progress | None = None) -> Evaluated:
        """Score a manifest's split and write scores and metrics.

        Args:
            manifest: holds the split.
            out: folder of the results; files of a unit that is not asked for are removed, since
                they would be those of another run.
            progress: called after each batch with the pictures done and all pictures.

        Raises:
            ManifestError: as `check`.
            OSError: `out` cannot be written.
        """
        self.check(manifest)
        out.mkdir(parents=True, exist_ok=True)  # fail before the work, not after it
        part = manifest.split(self.split)
        fitted = None
        if self.fit_split is not None:
            fitted = self._score(manifest.split(self.fit_split), None)
        scores = self._score(part, progress)
        units = self.units or (("frame", "video") if scores.has_videos else ("frame",))
        evaluations = {
            unit: evaluate_scores(
                scores,
                pool=self.pool if unit == "video" else None,
                fitted_threshold=self._threshold(fitted, unit),
                resamples=self.settings.bootstrap,
                ece_bins=self.settings.ece_bins,
                config_fingerprint=self.card.config_fingerprint,
                manifest_fingerprint=part.fingerprint,
            )
            for unit in units
        }
        result = Evaluated(scores, evaluations, self.pool)
        _write(result, out)
        return result

    def _score(self, part: Manifest, progress: Progress | None) -> Scores:
        return score_manifest(
            CalibratedDetector(self.detector, self.card.temperature),
            part,
            resize=self.card.resize,
            image_size=int(getattr(self.detector, "image_size", 224)),
            batch_size=self.settings.batch_size,
            precision=self.settings.precision,
            progress=progress,
        )

    def _threshold(self, fitted: Scores | None, unit: Unit) -> float | None:
        """A threshold fitted on validation counts what the metrics count; the card's, pictures."""
        if fitted is None:
            return self.card.threshold
        judged = (video_scores(fitted, self.pool) if unit == "video" else fitted).scored
        return fit_threshold(judged.score, judged.target)


def load_evaluator(  # noqa: PLR0913 - the command has as many
    weights: str | Path | None,
    *,
    split: str = "test",
    fit_split: str | None = None,
    units: Sequence[Unit] | None = None,
    pool: Pool = "mean",
    settings: EvaluateSettings | None = None,
    device: str = "cpu",
    engine: str = "torch",
    precision: str | None = None,
) -> Evaluator:
    """Load weights to be measured.

    Args:
        weights: as `load_detector` takes them, or an exported file.
        split: see `Evaluator`, also for the next four.
        fit_split: see there.
        units: see there.
        pool: see there.
        settings: see there; the defaults if omitted.
        device: where the detector runs.
        engine: see `mfclip.engines.load_engine`; torch is the reference that figures refer to.
        precision: of the engine; None leaves it to `settings`, or to an exported file.

    Raises:
        ConfigError: the threshold would be fitted on the split that is evaluated.
        MissingExtraError: scikit-learn is not installed; said before anything is scored.
        WeightsError: the weights cannot be used.
    """
    if fit_split == split:
        raise ConfigError(f"a threshold fitted on '{split}' itself says nothing; fit on validation")
    require("sklearn.metrics", extra="train")
    if is_exported(weights) or engine != "torch" or precision is not None:
        wanted = "auto" if is_exported(weights) and engine == "torch" else engine
        running, card = load_engine(weights, wanted, precision, device)
        detector: nn.Module = EngineDetector(running)
    else:
        detector, card = load_detector(weights)
        detector.to(device)
    settings = settings or EvaluateSettings()
    return Evaluator(detector, card, split, fit_split, units, pool, settings)


def evaluate_domains(
    evaluator: Evaluator,
    manifests: Mapping[str, Manifest],
    out: Path,
    *,
    started: Callable[[str], Progress | None] = lambda name: None,  # noqa: ARG005
) -> tuple[dict[str, Evaluated], dict[Unit, CrossAuc]]:
    """Measure one detector on several data sets, each on its own and all of them together.

    Args:
        evaluator: the detector.
        manifests: name of a data set -> its samples; the name is also its folder's.
        out: holds a folder for each data set, and ``cross_auc.json``.
        started: called with the name of each data set before it is scored; returns what to call
            after each batch.

    Returns:
        What came of each data set, and Cross-AUC of each unit that all of them have.

    Raises:
        InputError: fewer than two data sets.
        ManifestError: as `Evaluator.check`, before anything is scored.
        OSError: `out` cannot be written.
    """
    for manifest in manifests.values():
        evaluator.check(manifest)
    found = {
        name: evaluator.run(manifest, out / name, progress=started(name))
        for name, manifest in manifests.items()
    }
    units = [u for u in FILES if all(u in each.evaluations for each in found.values())]
    crossed = {}
    for unit in units:
        domains = {
            name: video_scores(each.scores, each.pool) if unit == "video" else each.scores
            for name, each in found.items()
        }
        crossed[unit] = cross_auc(domains, resamples=evaluator.settings.bootstrap)
    with write_whole(out / "cross_auc.json") as file:
        plain = {unit: each.to_dict() for unit, each in crossed.items()}
        file.write(json.dumps({"schema": 1, **plain}, indent=2, allow_nan=False) + "\n")
    return found, crossed


def _write(result: Evaluated, out: Path) -> None:
    result.scores.write(out / "scores.csv")
    for unit, (table, metrics) in FILES.items():
        if unit in result.evaluations:
            result.evaluations[unit].write(out / metrics)
            if unit == "video":
                video_scores(result.scores, result.pool).write(out / table)
        else:
            for stale in {table, metrics} - {"scores.csv"}:
                (out / stale).unlink(missing_ok=True)
    with write_whole(out / "metrics.md") as file:
        file.write("\n".join(each.to_markdown() for each in result.evaluations.values()))
