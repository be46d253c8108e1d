"""How far an engine's scores are from PyTorch's in fp32."""

from __future__ import annotations

import math
from importlib.resources import as_file, files

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mfclip.card import Card, Change, Parity
from mfclip.data.manifest import Manifest
from mfclip.engines.detector import EngineDetector
from mfclip.engines.engine import Engine
from mfclip.errors import WeightsError
from mfclip.evaluate.calibration import CalibratedDetector
from mfclip.evaluate.metrics import auc
from mfclip.evaluate.score import score_manifest
from mfclip.media.images import read_image
from mfclip.media.transforms import prepare_face

NUM_NOISE = 4
"""Pictures of noise beside the faces, from fine to coarse."""


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


def measure_parity(detector: nn.Module, engine: Engine, card: Card) -> Parity:
    """Compare an engine with its detector on `parity_batch`.

    Raises:
        WeightsError: the engine's scores are not finite.
    """
    from mfclip.engines.torch_engine import TorchEngine  # noqa: PLC0415

    images = parity_batch(engine.image_size, card.resize)
    with torch.inference_mode():
        expected = (detector(images).float() / card.temperature).softmax(1)[:, 1]
    reference, judged = TorchEngine(detector, "fp32").judge(images), engine.judge(images)
    scores = (judged.logits / card.temperature).softmax(1)[:, 1]
    if not bool(scores.isfinite().all()):
        raise WeightsError("the export gives scores that are not finite; nothing was written")
    features = same = None
    if judged.features is not None and reference.features is not None:
        features = float((judged.features - reference.features).abs().max())
    if judged.patch_index is not None and reference.patch_index is not None:
        same = bool((judged.patch_index == reference.patch_index).all())
    return Parity(
        num_images=len(images),
        max_score_difference=float((scores - expected).abs().max()),
        max_feature_difference=features,
        same_patches=same,
    )


def measure_change(
    detector: nn.Module, engine: Engine, card: Card, part: Manifest, split: str
) -> Change:
    """Score a split with a detector and with an engine, and compare.

    Raises:
        MissingExtraError: scikit-learn is not installed.
        WeightsError: no AUC is defined on the split, or no face could be scored.
    """
    before, after = (
        score_manifest(
            CalibratedDetector(judge, card.temperature),
            part,
            resize=card.resize,
            image_size=engine.image_size,
        )
        for judge in (detector, EngineDetector(engine))
    )
    both = [
        (one.score, other.score, one.target)
        for one, other in zip(before, after, strict=True)
        if one.score is not None and other.score is not None
    ]
    old, new, target = (np.array(column) for column in zip(*both, strict=True))
    plain = auc(old, target) if both else math.nan
    if not math.isfinite(plain):
        raise WeightsError(f"the split '{split}' needs real and fake faces to measure on")
    threshold = 0.5 if card.threshold is None else card.threshold
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
