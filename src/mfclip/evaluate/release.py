"""Weights for use, calibrated and measured: those of a finished run, or of any file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from mfclip.card import Bands, Card, Share
from mfclip.config import EvaluateSettings, ModelSettings, build_config
from mfclip.data.manifest import Manifest
from mfclip.detectors import find_weights, load_detector, save_detector
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
from mfclip.weights import BEST, read_weights

MERIT = ("auc", "accuracy_fitted", "balanced_accuracy_fitted", "eer", "tpr_at_fpr_5", "ece")
"""Figures of each split that the card carries, with their intervals."""


def release(  # noqa: PLR0913 - each a fact of the release
    run: Path,
    manifest: Manifest,
    out: Path,
    *,
    splits: Sequence[str] = ("test",),
    facts: Mapping[str, Any] | None = None,
    settings: EvaluateSettings | None = None,
    max_error: float = 0.1,
    max_false_alarm: float | None = None,
    found: Manifest | None = None,
    device: str = "cpu",
) -> dict[str, Evaluation]:
    """Write a run's best weights for use, without their text half, and measure them.

    Temperature, threshold and the bands of the three verdicts are fitted on the validation split
    and stand in the card, with the verdicts' error rates on validation and on `splits`, and the
    JPEG quality of the training faces if it was the same for all: faces are then judged like them.
    Weights that were trained on everyday damage have met all qualities and need none.

    Args:
        run: folder of a finished run.
        manifest: holds the validation split and `splits`.
        out: a ``.safetensors`` file; the evaluations go beside it, one JSON and Markdown a split.
        splits: measured with the finished weights; nothing is chosen on them.
        facts: what the card shall also say: ``trained_on``, ``licence``, ``limits``, ``command``.
        settings: batch size, resamples, bins; the defaults if omitted.
        max_error: largest share of validation's real faces that may be called fake, and of its
            fakes that may be called real; what lies between is uncertain.
        max_false_alarm: the share of real faces alone, in the worst of their sources (the folders
            that hold them); `max_error` if omitted.
        found: the same faces as the face step of use cuts them (``mfclip data prepare``). Bands of
            their own are fitted and measured on them, for use that finds faces first.
        device: where the weights are measured.

    Raises:
        ConfigError: one of `splits` is the validation split, or `max_error` is not in [0, 0.5).
        WeightsError: the run has no weights yet.
    """
    if not (run / BEST).is_file():
        raise WeightsError(f"{run} holds no {BEST}; train first")
    detector, card = load_detector(run / BEST)
    detector.to(device)
    config = build_config(card.config)
    model = _without_place(config.model)
    train_faces = [sample.path for sample in manifest.split(config.data.train_split)]
    damaged = config.data.augment == "everyday"
    card = card.changed(
        **(facts or {}),
        jpeg_quality=None if damaged else shared_quality(train_faces, card.resize),
        config={**card.config, "model": model.model_dump(mode="json")},
    )
    card, evaluations = _measure(
        detector,
        card,
        manifest,
        val=config.data.val_split,
        splits=splits,
        settings=settings or EvaluateSettings(),
        max_error=max_error,
        max_false_alarm=max_false_alarm,
        found=found,
    )
    save_detector(detector, model, out, card=card, vision_only=True)
    _write_evaluations(evaluations, out)
    return evaluations


def calibrate(  # noqa: PLR0913 - each a fact of the weights
    weights: str | Path | None,
    manifest: Manifest,
    out: Path,
    *,
    val: str = "val",
    splits: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
    settings: EvaluateSettings | None = None,
    max_error: float = 0.1,
    max_false_alarm: float | None = None,
    found: Manifest | None = None,
    device: str = "cpu",
) -> dict[str, Evaluation]:
    """Give any weights a temperature, a threshold, bands and measured error rates.

    Made for weights that were trained elsewhere (`mfclip.published`): their scores mean on your
    faces what they meant there only by chance. Nothing else of the weights changes.

    Args:
        weights: as `mfclip.detectors.load_detector` takes them.
        manifest: holds `val` and `splits`.
        out: a ``.safetensors`` file; evaluations go beside it, one JSON and Markdown a split.
        val: the split on which all is fitted; the weights must not have been trained on its faces.
        splits: measured with the fitted weights; nothing is chosen on them. Without one, the error
            rates are those of `val` itself.
        facts: what the card shall also say, e.g. ``limits``; see `release`.
        settings: see `release`.
        max_error: see `release`.
        max_false_alarm: see `release`.
        found: see `release`.
        device: where the weights are measured.

    Raises:
        ConfigError: `val` is among `splits`, or `max_error` is not in [0, 0.5).
        ManifestError: a split is empty.
        WeightsError: the weights cannot be used.
    """
    path = find_weights(weights)
    detector, card = load_detector(path)
    detector.to(device)
    file_settings = build_config({"model": read_weights(path).settings}).model
    faces = [*manifest.split(val)]
    card, evaluations = _measure(
        detector,
        card.changed(**({"limits": _limits(len(faces))} | dict(facts or {}))),
        manifest,
        val=val,
        splits=splits,
        settings=settings or EvaluateSettings(),
        max_error=max_error,
        max_false_alarm=max_false_alarm,
        found=found,
    )
    save_detector(detector, file_settings, out, card=card)
    _write_evaluations(evaluations, out)
    return evaluations


def _limits(faces: int) -> str:
    return (
        f"Bands and error rates come from {faces} faces on which these weights were calibrated; on "
        "faces of another kind they may be far off."
    )


def _measure(  # noqa: PLR0913 - what `release` and `calibrate` share
    detector: nn.Module,
    card: Card,
    manifest: Manifest,
    *,
    val: str,
    splits: Sequence[str],
    settings: EvaluateSettings,
    max_error: float,
    max_false_alarm: float | None,
    found: Manifest | None,
) -> tuple[Card, dict[str, Evaluation]]:
    """Fit temperature, threshold and bands on `val`; measure them there and on `splits`."""
    if val in splits:
        raise ConfigError(f"'{val}' chose these weights, so it cannot measure them; use others")
    raw = _score(detector, card.changed(temperature=1.0), manifest.split(val), settings)
    card = card.changed(temperature=fit_temperature(raw.score, raw.target), fitted_on=val)
    calibrated = _score(detector, card, manifest.split(val), settings)
    threshold = fit_threshold(calibrated.score, calibrated.target)
    scored = {split: _score(detector, card, manifest.split(split), settings) for split in splits}
    measured = {val: calibrated, **scored}
    bands = partial(
        measure_bands,
        fitted_on=val,
        threshold=threshold,
        max_error=max_error,
        max_false_alarm=max_false_alarm,
        folders={sample.path.stem: sample.path.parent.name for sample in manifest},
        resamples=settings.bootstrap,
    )
    verdict = {"whole": bands(measured)}
    if found is not None:
        cut = {split: _score(detector, card, found.split(split), settings) for split in measured}
        verdict["detected"] = bands(cut)
    kinds = {}
    if isinstance(detector, MFCLIP) and detector.prompts:
        kinds = {
            split: measure_kinds(detector, manifest.split(split), resize=card.resize)
            for split in measured
        }
    evaluations = {
        split: evaluate_scores(
            scores,
            fitted_threshold=threshold,
            resamples=settings.bootstrap,
            ece_bins=settings.ece_bins,
            config_fingerprint=card.config_fingerprint,
            manifest_fingerprint=manifest.split(split).fingerprint,
        )
        for split, scores in scored.items()
    }
    # the manifest holds face crops, which are taken whole
    card = card.changed(
        threshold=threshold,
        verdict=verdict,
        kinds=kinds,
        metrics={split: _merit(one) for split, one in evaluations.items()},
    )
    return card, evaluations


def _write_evaluations(evaluations: Mapping[str, Evaluation], out: Path) -> None:
    for split, evaluation in evaluations.items():
        evaluation.write(out.with_name(f"{out.stem}-{split}.json"))
        with write_whole(out.with_name(f"{out.stem}-{split}.md")) as file:
            file.write(evaluation.to_markdown())


def _without_place(model: ModelSettings) -> ModelSettings:
    """Keep the names of what training started from, not where they lay on its machine."""
    changes: dict[str, Any] = {}
    if model.pretrained is not None and Path(model.pretrained).is_absolute():
        changes["pretrained"] = "/".join(Path(model.pretrained).parts[-2:])
    trunk = model.image.trunk_weights
    if trunk is not None and Path(trunk).is_absolute():
        changes["image"] = model.image.model_copy(update={"trunk_weights": Path(trunk).name})
    return model.model_copy(update=changes)


def _score(detector: nn.Module, card: Card, part: Manifest, settings: EvaluateSettings) -> Scores:
    return score_manifest(
        CalibratedDetector(detector, card.temperature),
        part,
        resize=card.resize,
        image_size=int(getattr(detector, "image_size", 224)),
        batch_size=settings.batch_size,
        precision=settings.precision,
    ).scored


def measure_bands(
    scores: Mapping[str, Scores],
    fitted_on: str,
    threshold: float,
    *,
    max_error: float,
    max_false_alarm: float | None = None,
    folders: Mapping[str, str] | None = None,
    resamples: int = 1000,
) -> Bands:
    """Fit the bands of the three verdicts on one split, and measure them on all.

    Args:
        scores: split to scores, all of faces that were come by in one way.
        fitted_on: one of them.
        threshold: see `mfclip.evaluate.verdicts.fit_bands`.
        max_error: see `release`.
        max_false_alarm: see `release`.
        folders: file name without suffix to the source of the face, e.g. its folder; a crop's name
            begins with that of its image (`mfclip.datasets.prepare`).
        resamples: of the intervals; 0 gives none.
    """
    fit = scores[fitted_on]
    names = [Path(sample.path).stem for sample in fit]
    sources = [(folders or {}).get(name, (folders or {}).get(name.split("-")[0])) for name in names]
    bounds = fit_bands(
        fit.score,
        fit.target,
        fit.groups,
        threshold=threshold,
        max_error=max_error,
        max_false_alarm=max_false_alarm,
        sources=None if folders is None else [str(source) for source in sources],
    )
    measured = {
        split: verdict_rates(one.score, one.target, one.groups, bands=bounds, resamples=resamples)
        for split, one in {fitted_on: fit, **scores}.items()
    }
    shares = {
        split: {name: Share(**share) for name, share in rates.items()}
        for split, rates in measured.items()
    }
    return Bands(*bounds, "validation", max_error, shares)


def _merit(evaluation: Evaluation) -> dict[str, dict[str, float]]:
    row = evaluation.rows[0]
    out = {}
    for name in MERIT:
        out[name] = {"value": float(getattr(row.metrics, name))}
        interval = row.intervals.get(name)
        if interval and math.isfinite(interval.low):  # absent without resamples
            out[name] |= {"low": interval.low, "high": interval.high}
    return out
