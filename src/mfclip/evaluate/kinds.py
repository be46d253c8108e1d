"""How often the kind that is named for a forgery is right, on each level of the prompts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Shaped
from numpy import ndarray

from mfclip.data.dataset import FaceDataset
from mfclip.data.loader import scoring_loader
from mfclip.data.manifest import Manifest
from mfclip.evaluate.bootstrap import draw_weights, share_interval
from mfclip.evaluate.score import evaluating
from mfclip.labels import LEVELS
from mfclip.model.mfclip import MFCLIP, name_at

Names = Shaped[ndarray, " n"]


def measure_kinds(
    detector: MFCLIP,
    manifest: Manifest,
    *,
    resize: int = 256,
    batch_size: int = 64,
    resamples: int = 1000,
) -> dict[str, dict[str, float]]:
    """Compare the most similar kind of each forgery with its true one.

    Real faces, and forgeries of kinds that the model was not taught, are left out.

    Args:
        detector: knows prompts.
        manifest: what is judged; pictures that cannot be read are passed over.
        resize: side in pixels of the square before the centre crop.
        batch_size: faces judged together.
        resamples: of whole groups, for the 95% interval.

    Returns:
        For each level with at least two kinds: ``value`` (share that is right, each kind counted
        alike), ``low``, ``high``, ``chance`` (of a guess) and ``faces``.
    """
    dataset = FaceDataset(manifest, resize=resize, image_size=detector.image_size)
    device = detector.log_logit_scale.device
    named: dict[str, list[str]] = {level: [] for level in LEVELS}
    rows: list[int] = []
    with evaluating(detector), torch.inference_mode():
        for batch in scoring_loader(dataset, batch_size):
            features = detector.encode_image(batch.images.to(device))
            rows += batch.index.tolist()
            for level, (names, table) in detector.level_probabilities(features).items():
                named[level] += _most_similar(names, table.cpu().numpy())
    samples = [list(manifest)[row] for row in rows]
    groups = np.array([sample.group for sample in samples])
    out = {}
    for level in LEVELS[1:]:
        known = {name_at(labels, level) for labels in detector.prompts} - {"real"}
        truth = np.array([name_at(sample.labels, level) for sample in samples])
        judged = np.isin(truth, list(known))
        if len(known) > 1 and judged.any():
            right = np.array(named[level])[judged] == truth[judged]
            figures = balanced_share(right, truth[judged], groups[judged], resamples)
            out[level] = {**figures, "chance": 1 / len(known), "faces": int(judged.sum())}
    return out


def balanced_share(
    right: Bool[ndarray, " n"], kinds: Names, groups: Names, resamples: int = 1000
) -> dict[str, float]:
    """Share that is right, the mean over kinds, with its 95% interval over groups.

    Example:
        >>> kinds, groups = np.array(["a", "a", "b"]), np.array(["1", "2", "3"])
        >>> balanced_share(np.array([True, False, True]), kinds, groups, 0)["value"]
        0.75
    """
    member = np.array([kinds == kind for kind in np.unique(kinds)], dtype=float)  # kinds n
    value = float((member @ right / member.sum(1)).mean())
    if not resamples:
        return {"value": value}
    shares = []
    for weights in draw_weights(groups, resamples, 0):
        counts = weights @ member.T
        with np.errstate(invalid="ignore"):  # a kind that was not drawn
            shares.append(np.nanmean((weights * right) @ member.T / counts, axis=1))
    fewest = min(len(np.unique(groups[kinds == kind])) for kind in np.unique(kinds))
    interval = share_interval(np.concatenate(shares), fewest)
    if not np.isfinite(interval.low):
        return {"value": value}
    return {"value": value, "low": interval.low, "high": interval.high}


def _most_similar(names: Sequence[str], table: ndarray) -> list[str]:
    """Name the most similar forgery of each row; ``real`` is passed over."""
    fakes = [column for column, name in enumerate(names) if name != "real"]
    best = table[:, fakes].argmax(1) if fakes else []
    return [names[fakes[one]] for one in best] or ["real"] * len(table)
