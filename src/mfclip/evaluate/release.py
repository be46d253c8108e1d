"""A finished run to weights that others can use: calibrated, measured, with their card."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from mfclip.config import EvaluateSettings, ModelSettings, build_config
from mfclip.data.manifest import Manifest
from mfclip.detectors import load_detector, save_detector
from mfclip.errors import ConfigError, WeightsError
from mfclip.evaluate.calibration import CalibratedDetector, fit_temperature
from mfclip.evaluate.kinds import measure_kinds
from mfclip.evaluate.metrics import fit_threshold
from mfclip.evaluate.report import Evaluation, evaluate_scores
from mfclip.evaluate.score import score_manifest
from mfclip.evaluate.scores import Scores
from mfclip.evaluate.verdicts import fit_bands, verdict_rates
from mfclip.media.jpeg import shared_quality
from mfclip.model.mfclip import MFCLIP
from mfclip.runtime.whole_file import write_whole
from mfclip.weights import BEST

MERIT = ("auc", "accuracy_fitted", "balanced_accuracy_fitted", "eer", "tpr_at_fpr_5", "ece")
"""Figures of each split that the card carries, with their intervals."""


def release(
    run: Path,
    manifest: Manifest,
    out: Path,
    *,
    splits: Sequence[str] = ("test",),
    facts: Mapping[str, Any] | None = None,
    settings: EvaluateSettings | None = None,
    max_error: float = 0.1,
) -> dict[str, Evaluation]:
    """Write a run's best weights for use, without their text half, and measure them.

    Temperature, threshold and the bands of the three verdicts are fitted on the validation split
    and stand in the card, with the verdicts' error rates on validation and on `splits`, and the
    JPEG quality of the training faces if it was the same for all: faces are then judged like them.

    Args:
        run: folder of a finished run.
        manifest: holds the validation split and `splits`.
        out: a ``.safetensors`` file; the evaluations go beside it, one JSON and Markdown a split.
        splits: measured with the finished weights; nothing is chosen on them.
        facts: what the card shall also say: ``trained_on``, ``licence``, ``limits``, ``command``.
        settings: batch size, resamples, bins; the defaults if omitted.
        max_error: largest share of validation's real faces that may be called fake, and of its
            fakes that may be called real; what lies between is uncertain.

    Raises:
        ConfigError: one of `splits` is the validation split, or `max_error` is not in [0, 0.5).
        WeightsError: the run has no weights yet.
    """
    if not (run / BEST).is_file():
        raise WeightsError(f"{run} holds no {BEST}; train first")
    settings = settings or EvaluateSettings()
    detector, card = load_detector(run / BEST)
    config = build_config(card["config"])
    val = config.data.val_split
    if val in splits:
        raise ConfigError(f"'{val}' chose these weights, so it cannot measure them; use others")
    raw = _score(detector, card, manifest.split(val), settings)
    card |= {**(facts or {}), "temperature": fit_temperature(raw.score, raw.target)}
    calibrated = _score(detector, card, manifest.split(val), settings)
    card["threshold"] = fit_threshold(calibrated.score, calibrated.target)
    scored = {split: _score(detector, card, manifest.split(split), settings) for split in splits}
    measured = {val: calibrated, **scored}
    card["verdict"] = _verdict(calibrated, measured, card["threshold"], max_error, settings)
    train_faces = [sample.path for sample in manifest.split(config.data.train_split)]
    if isinstance(detector, MFCLIP) and detector.prompts:
        card["kinds"] = {
            split: measure_kinds(detector, manifest.split(split), resize=card["resize"])
            for split in measured
        }
    card["jpeg_quality"] = shared_quality(train_faces, card["resize"])
    evaluations = {
        split: evaluate_scores(
            scores,
            fitted_threshold=card["threshold"],
            resamples=settings.bootstrap,
            ece_bins=settings.ece_bins,
            config_fingerprint=card["config_fingerprint"],
            manifest_fingerprint=manifest.split(split).fingerprint,
        )
        for split, scores in scored.items()
    }
    card["metrics"] = {split: _merit(one) for split, one in evaluations.items()}
    model = _without_place(config.model)
    card["config"]["model"]["pretrained"] = model.pretrained
    save_detector(detector, model, out, card=card, vision_only=True)
    for split, evaluation in evaluations.items():
        evaluation.write(out.with_name(f"{out.stem}-{split}.json"))
        with write_whole(out.with_name(f"{out.stem}-{split}.md")) as file:
            file.write(evaluation.to_markdown())
    return evaluations


def _without_place(model: ModelSettings) -> ModelSettings:
    """Keep run and file name of the start, not where they lay on the machine that trained."""
    if model.pretrained is None or not Path(model.pretrained).is_absolute():
        return model
    return model.model_copy(update={"pretrained": "/".join(Path(model.pretrained).parts[-2:])})


def _score(
    detector: nn.Module, card: Mapping[str, Any], part: Manifest, settings: EvaluateSettings
) -> Scores:
    return score_manifest(
        CalibratedDetector(detector, card["temperature"]),
        part,
        resize=card["resize"],
        image_size=card["image_size"],
        batch_size=settings.batch_size,
        precision=settings.precision,
    ).scored


def _verdict(
    val: Scores,
    measured: Mapping[str, Scores],
    threshold: float,
    max_error: float,
    settings: EvaluateSettings,
) -> dict[str, Any]:
    """Fit the bands on validation and measure them everywhere."""
    real_below, fake_from = bands = fit_bands(
        val.score, val.target, val.groups, threshold=threshold, max_error=max_error
    )
    rates = {
        split: verdict_rates(
            scores.score, scores.target, scores.groups, bands=bands, resamples=settings.bootstrap
        )
        for split, scores in measured.items()
    }
    return {
        "real_below": real_below,
        "fake_from": fake_from,
        "max_error": max_error,
        "rates": rates,
    }


def _merit(evaluation: Evaluation) -> dict[str, dict[str, float]]:
    row = evaluation.rows[0]
    out = {}
    for name in MERIT:
        out[name] = {"value": float(getattr(row.metrics, name))}
        interval = row.intervals.get(name)
        if interval and math.isfinite(interval.low):  # absent without resamples
            out[name] |= {"low": interval.low, "high": interval.high}
    return out
