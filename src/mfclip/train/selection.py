"""Validation, and the best weights so far. The test split is never seen here."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mfclip.card import Card, TrainingData
from mfclip.config import RunConfig
from mfclip.data.dataset import FaceDataset
from mfclip.data.manifest import Manifest
from mfclip.detectors import describe_name, save_detector
from mfclip.evaluate.metrics import compute_metrics, fit_threshold
from mfclip.evaluate.score import Progress as ScoringProgress
from mfclip.evaluate.score import score_dataset
from mfclip.runtime.provenance import provenance
from mfclip.train.checkpoint import Progress
from mfclip.train.processes import Processes


@dataclass(frozen=True)
class Candidate:
    """Weights that have just been validated, after so many epochs."""

    detector: nn.Module
    samples: Manifest
    config: RunConfig
    result: dict[str, float]
    epoch: int | float


class ValidationStopped(Exception):  # noqa: N818 - no error
    """Leaves the scoring of a process that was asked to end."""


def validate(
    detector: nn.Module,
    share: FaceDataset,
    samples: Manifest,
    config: RunConfig,
    processes: Processes,
    *,
    progress: ScoringProgress | None = None,
) -> tuple[dict[str, float] | None, dict[str, str]]:
    """Return AUC, accuracy, log loss and the fitted threshold of the validation split.

    Each process scores its share, and all of them know the result. Pictures that cannot be read are
    left out and counted as ``unreadable``.

    Args:
        detector: whose weights are the same in all processes.
        share: of this process, from `mfclip.train.feed.validation_data`.
        samples: the whole split.
        config: of the run.
        processes: this process among those that train together.
        progress: told how many of the share are done; may raise `ValidationStopped`.

    Returns:
        The figures, None if any process was stopped; and of what this one could not read path and
        reason.
    """
    own: list[float] | None = None
    unreadable: dict[str, str] = {}
    with contextlib.suppress(ValidationStopped):
        scores = score_dataset(
            detector,
            share,
            batch_size=config.evaluate.batch_size,
            precision=config.train.precision,
            workers=config.data.workers,
            progress=progress,
        )
        own = [math.nan if row.score is None else row.score for row in scores]
        unreadable = {row.path: row.error for row in scores if row.error is not None}
    values = np.empty(len(samples))
    # the others wait here for a process that was stopped, so it must come, too
    for rank, part in enumerate(processes.gather(own)):
        if part is None:
            return None, unreadable
        values[rank :: processes.world_size] = part
    read = ~np.isnan(values)
    values, target = values[read], np.array([sample.target for sample in samples])[read]
    threshold = fit_threshold(values, target)
    metrics = compute_metrics(values, target, fitted_threshold=threshold)
    certain = torch.from_numpy(values).clamp(1e-7, 1 - 1e-7)
    loss = nn.functional.binary_cross_entropy(certain, torch.from_numpy(target).double())
    result = {
        "auc": metrics.auc,
        "accuracy": metrics.accuracy,
        "accuracy_fitted": metrics.accuracy_fitted,
        "threshold": threshold,
        "loss": loss.item(),
        "unreadable": len(samples) - len(values),
    }
    return result, unreadable


def keep_if_best(
    candidate: Candidate, progress: Progress, path: Path, processes: Processes
) -> bool:
    """Keep the weights with their card if they are the best so far on validation.

    Every process takes part, so that all of them stay alike; the first one writes.
    """
    merit = merit_of(candidate.result, candidate.config.train.select)
    if progress.best is not None and not merit > progress.best:
        return False
    progress.best = merit
    detector: Any = candidate.detector
    if hasattr(detector, "before_saving"):
        detector.before_saving([sample.labels for sample in candidate.samples])
    if processes.is_first:
        save_detector(detector, candidate.config.model, path, card=_card(candidate))
    return True


def merit_of(result: Mapping[str, float], select: str) -> float:
    """Return the figure that chooses the best checkpoint; higher is better."""
    return -result[select] if select == "loss" else result[select]


def _card(candidate: Candidate) -> Card:
    config = candidate.config
    threshold = candidate.result["threshold"]
    return Card(
        resize=config.data.resize,
        face_margin=config.data.face_margin,
        face_align=config.data.face_align,
        threshold=threshold if math.isfinite(threshold) else None,  # of one class there is none
        temperature=1.0,
        fitted_on=config.data.val_split,
        epoch=candidate.epoch,
        validation=candidate.result,
        training_data=TrainingData(
            manifest=candidate.samples.fingerprint, counts=dict(candidate.samples.counts())
        ),
        detector=describe_name(config.model.name),
        config=config.model_dump(
            mode="json", exclude={"data": {"manifest", "root", "shards", "twins", "texts"}}
        ),
        config_fingerprint=config.fingerprint,
        mfclip=provenance().mfclip,
        torch=provenance().torch,
    )
