"""How far an engine's scores are from PyTorch's in fp32."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mfclip.data.manifest import Manifest
from mfclip.engines.detector import EngineDetector
from mfclip.engines.engine import Engine
from mfclip.errors import WeightsError
from mfclip.evaluate.calibration import CalibratedDetector
from mfclip.evaluate.metrics import auc
from mfclip.evaluate.score import score_manifest
from mfclip.evaluate.scores import Scores
from mfclip.media.images import read_image
from mfclip.media.transforms import prepare_face

NUM_NOISE = 4
"""Pictures of noise beside the faces, from fine to coarse."""


@dataclass(frozen=True, slots=True)
class Parity:
    """A fixed batch, judged by both.

    Attributes:
        num_images: faces that come with the package, and noise.
        max_score_difference: of a probability of fake.
        max_feature_difference: of an entry of the L2-normalised features; None without features.
        same_patches: whether the richest patches agree; None without a noise branch.
    """

    num_images: int
    max_score_difference: float
    max_feature_difference: float | None
    same_patches: bool | None


@dataclass(frozen=True, slots=True)
class Change:
    """A test split, judged by both.

    Attributes:
        split: its name.
        manifest: its fingerprint.
        num_faces: scored by both.
        auc: of PyTorch in fp32.
        auc_change: what the engine adds to it.
        mean_score_change: mean of the absolute differences.
        max_score_change: the largest.
        verdicts_changed: share of the faces on the other side of the card's threshold, ratio.
    """

    split: str
    manifest: str
    num_faces: int
    auc: float
    auc_change: float
    mean_score_change: float
    max_score_change: float
    verdicts_changed: float


def parity_batch(image_size: int, resize: int) -> Float[Tensor, "b 3 h w"]:
    """Return the faces of the demo, and noise of several grains."""
    with as_file(files("mfclip").joinpath("assets/demo")) as folder:
        names = sorted(folder.glob("real/*.jpg")) + sorted(folder.glob("fake/*.jpg"))
        faces = [prepare_face(read_image(n), resize=resize, image_size=image_size) for n in names]
    images = torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2) / 255
    chance = torch.Generator().manual_seed(0)
    noise = []
    for place in range(NUM_NOISE):
        side = max(image_size // 2**place, 2)
        grain = torch.rand(1, 3, side, side, generator=chance)
        noise.append(nn.functional.interpolate(grain, size=(image_size, image_size)))
    return torch.cat([images, (torch.cat(noise) * 255).round() / 255])


def measure_parity(detector: nn.Module, engine: Engine, card: Mapping[str, Any]) -> Parity:
    """Compare an engine with its detector on `parity_batch`.

    Raises:
        WeightsError: the engine's scores are not finite.
    """
    from mfclip.engines.torch_engine import TorchEngine  # noqa: PLC0415

    images = parity_batch(engine.image_size, int(card.get("resize", 256)))
    temperature = float(card.get("temperature", 1.0))
    with torch.inference_mode():
        expected = (detector(images).float() / temperature).softmax(1)[:, 1]
    reference, judged = TorchEngine(detector, "fp32").judge(images), engine.judge(images)
    scores = (judged.logits / temperature).softmax(1)[:, 1]
    if not bool(scores.isfinite().all()):
        raise WeightsError("the export gives scores that are not finite; nothing was written")
    features = same = None
    if judged.features is not None and reference.features is not None:
        features = float((judged.features - reference.features).abs().max())
    if judged.patch_index is not None and reference.patch_index is not None:
        same = bool((judged.patch_index == reference.patch_index).all())
    return Parity(len(images), float((scores - expected).abs().max()), features, same)


def measure_change(
    detector: nn.Module, engine: Engine, card: Mapping[str, Any], part: Manifest, split: str
) -> Change:
    """Score a split with a detector and with an engine, and compare.

    Raises:
        MissingExtraError: scikit-learn is not installed.
        WeightsError: no AUC is defined on the split, or no face could be scored.
    """
    before = _score(detector, card, part)
    after = _score(EngineDetector(engine), card, part)
    both = [
        (one.score, other.score, one.target)
        for one, other in zip(before, after, strict=True)
        if one.score is not None and other.score is not None
    ]
    old, new, target = (np.array(column) for column in zip(*both, strict=True))
    plain = auc(old, target) if both else math.nan
    if not math.isfinite(plain):
        raise WeightsError(f"the split '{split}' needs real and fake faces to measure on")
    threshold = float(card.get("threshold", 0.5))
    return Change(
        split=split,
        manifest=part.fingerprint,
        num_faces=len(both),
        auc=plain,
        auc_change=auc(new, target) - plain,
        mean_score_change=float(np.abs(new - old).mean()),
        max_score_change=float(np.abs(new - old).max()),
        verdicts_changed=float(((new >= threshold) != (old >= threshold)).mean()),
    )


def _score(detector: nn.Module, card: Mapping[str, Any], part: Manifest) -> Scores:
    return score_manifest(
        CalibratedDetector(detector, float(card.get("temperature", 1.0))),
        part,
        resize=int(card.get("resize", 256)),
        image_size=int(card.get("image_size", 224)),
    )
