"""Validation, and the best weights so far. The test split is never seen here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mfclip.config import RunConfig
from mfclip.data.dataset import FaceDataset
from mfclip.data.manifest import Manifest
from mfclip.detectors import save_detector
from mfclip.evaluate.metrics import compute_metrics, fit_threshold
from mfclip.evaluate.score import score_dataset
from mfclip.model.mfclip import MFCLIP
from mfclip.runtime.provenance import provenance
from mfclip.train.checkpoint import Progress


@dataclass(frozen=True)
class Candidate:
    """Weights that have just been validated."""

    detector: nn.Module
    samples: Manifest
    config: RunConfig
    result: dict[str, float]


def validate(detector: nn.Module, dataset: FaceDataset, config: RunConfig) -> dict[str, float]:
    """Return AUC, accuracy, log loss and the fitted threshold of the validation split.

    Pictures that cannot be read are left out and counted as ``unreadable``.
    """
    scores = score_dataset(
        detector,
        dataset,
        batch_size=config.evaluate.batch_size,
        precision=config.train.precision,
        workers=config.data.workers,
    )
    values, target = scores.scored.score, scores.scored.target
    threshold = fit_threshold(values, target)
    metrics = compute_metrics(values, target, fitted_threshold=threshold)
    certain = torch.from_numpy(values).double().clamp(1e-7, 1 - 1e-7)
    loss = nn.functional.binary_cross_entropy(certain, torch.from_numpy(target).double())
    return {
        "auc": metrics.auc,
        "accuracy": metrics.accuracy,
        "accuracy_fitted": metrics.accuracy_fitted,
        "threshold": threshold,
        "loss": loss.item(),
        "unreadable": len(scores.failed),
    }


def keep_if_best(candidate: Candidate, progress: Progress, path: Path) -> bool:
    """Write the weights with their card if they are the best so far on validation."""
    select = candidate.config.train.select
    figure = candidate.result[select]
    merit = -figure if select == "loss" else figure
    if progress.best is not None and not merit > progress.best:
        return False
    progress.best = merit
    detector = candidate.detector
    if isinstance(detector, MFCLIP) and detector.language_encoder is not None:
        detector.remember_prompts([sample.labels for sample in candidate.samples])
    save_detector(detector, candidate.config.model, path, card=_card(candidate, progress))
    return True


def _card(candidate: Candidate, progress: Progress) -> dict[str, Any]:
    config = candidate.config
    return {
        "resize": config.data.resize,
        "image_size": config.model.image_size,
        "face_margin": config.data.face_margin,
        "face_align": config.data.face_align,
        "threshold": candidate.result["threshold"],
        "temperature": 1.0,
        "epoch": progress.epoch,
        "validation": candidate.result,
        "training_data": {
            "manifest": candidate.samples.fingerprint,
            "counts": dict(candidate.samples.counts()),
        },
        "config": config.model_dump(mode="json", exclude={"data": {"manifest", "root", "shards"}}),
        "config_fingerprint": config.fingerprint,
        "mfclip": provenance().mfclip,
        "torch": provenance().torch,
    }
