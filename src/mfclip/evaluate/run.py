"""Weights and a manifest to scores, metrics and tables on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from mfclip.config import EvaluateSettings
from mfclip.data.manifest import Manifest
from mfclip.detectors import load_detector
from mfclip.engines import load_engine
from mfclip.engines.detector import EngineDetector
from mfclip.engines.exported import is_exported
from mfclip.errors import ConfigError, require
from mfclip.evaluate.calibration import CalibratedDetector
from mfclip.evaluate.metrics import fit_threshold
from mfclip.evaluate.report import Evaluation, evaluate_scores
from mfclip.evaluate.score import Progress, score_manifest
from mfclip.evaluate.scores import Scores
from mfclip.runtime.whole_file import write_whole

OUTPUTS = ("scores.csv", "metrics.json", "metrics.md")
"""Names of what is written."""


def evaluate_weights(  # noqa: PLR0913 - the command has as many
    weights: str | Path | None,
    manifest: Manifest,
    out: Path,
    *,
    split: str = "test",
    fit_split: str | None = None,
    settings: EvaluateSettings | None = None,
    device: str = "cpu",
    engine: str = "torch",
    precision: str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Score one split and write ``scores.csv``, ``metrics.json`` and ``metrics.md``.

    Args:
        weights: as `load_detector` takes them, or an exported file.
        manifest: holds the split.
        out: folder of the results.
        split: what is scored.
        fit_split: fit the second threshold on this split; None takes the one that was fitted on
            validation when the weights were trained.
        settings: batch size, resamples, bins; the defaults if omitted.
        device: where the detector runs.
        engine: see `mfclip.engines.load_engine`; torch is the reference that figures refer to.
        precision: of the engine; None leaves it to `settings`, or to an exported file.
        progress: called after each batch with the pictures done and all pictures.

    Raises:
        ConfigError: the threshold would be fitted on the split that is evaluated.
        ManifestError: a split is empty.
        MissingExtraError: scikit-learn is not installed; said before anything is scored.
        OSError: `out` cannot be written.
        WeightsError: the weights cannot be used.
    """
    if fit_split == split:
        raise ConfigError(f"a threshold fitted on '{split}' itself says nothing; fit on validation")
    require("sklearn.metrics", extra="train")
    part = manifest.split(split)
    settings = settings or EvaluateSettings()
    out.mkdir(parents=True, exist_ok=True)  # fail before the work, not after it
    detector, card = _load(weights, engine, precision, device)
    threshold = card.get("threshold")
    if fit_split is not None:
        fitted = _score(detector, card, manifest.split(fit_split), settings, None).scored
        threshold = fit_threshold(fitted.score, fitted.target)
    scores = _score(detector, card, part, settings, progress)
    evaluation = evaluate_scores(
        scores,
        fitted_threshold=threshold,
        resamples=settings.bootstrap,
        ece_bins=settings.ece_bins,
        config_fingerprint=card.get("config_fingerprint"),
        manifest_fingerprint=part.fingerprint,
    )
    scores.write(out / "scores.csv")
    evaluation.write(out / "metrics.json")
    with write_whole(out / "metrics.md") as file:
        file.write(evaluation.to_markdown())
    return evaluation


def _load(
    weights: str | Path | None, engine: str, precision: str | None, device: str
) -> tuple[nn.Module, dict[str, Any]]:
    """Load a plain detector where nothing else is asked for."""
    if is_exported(weights) or engine != "torch" or precision is not None:
        wanted = "auto" if is_exported(weights) and engine == "torch" else engine
        running, card = load_engine(weights, wanted, precision, device)
        return EngineDetector(running), card
    detector, card = load_detector(weights)
    return detector.to(device), card


def _score(
    detector: nn.Module,
    card: Mapping[str, Any],
    part: Manifest,
    settings: EvaluateSettings,
    progress: Progress | None,
) -> Scores:
    return score_manifest(
        CalibratedDetector(detector, card.get("temperature", 1.0)),
        part,
        resize=card.get("resize", 256),
        image_size=card.get("image_size", 224),
        batch_size=settings.batch_size,
        precision=settings.precision,
        progress=progress,
    )
