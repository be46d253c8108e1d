"""Weight files of towers without the tower: what training changed, and a fingerprint of the rest.

A large tower of which only the layer norms learn is 1.2 GB, and what was learned 0.4 MB. The rest
stays where it came from, under its own licence.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from mfclip.card import Base
from mfclip.config import ModelSettings
from mfclip.errors import WeightsError
from mfclip.model.build import is_tower
from mfclip.model.mfclip import MFCLIP
from mfclip.model.tower import HUB, TowerEncoder, fingerprint
from mfclip.weights import WeightFile

PREFIX = "vision_encoder.image_encoder."
"""Where a tower's tensors lie in MFCLIP."""


def without_base(
    detector: nn.Module, settings: ModelSettings, tensors: dict[str, Tensor]
) -> tuple[dict[str, Tensor], Base | None]:
    """Leave out the tensors that are still those the tower came with, to the bit.

    Args:
        detector: whose tensors they are.
        settings: `image.trunk_weights` tells where the tower's came from.
        tensors: all.

    Returns:
        What is to be stored, and what it lies on; None where there is no such tower.

    Raises:
        WeightsError: the tower's own weights cannot be read.
    """
    source = settings.image.trunk_weights
    encoder = detector.vision_encoder.image_encoder if isinstance(detector, MFCLIP) else None
    if not isinstance(encoder, TowerEncoder) or not source or source == "imagenet":
        return tensors, None
    own = encoder.base_weights(source)
    same = {PREFIX + name for name, each in own.items() if _equal(each, tensors[PREFIX + name])}
    kept = {name: each for name, each in tensors.items() if name not in same}
    place = source if source == HUB else Path(source).name
    return kept, Base(trunk=encoder.name, weights=place, sha256=fingerprint(own))


def with_base(file: WeightFile, settings: ModelSettings) -> WeightFile:
    """Add the tower's own tensors to those of a file that was stored without them.

    Args:
        file: as it was read. The tower's weights are looked for where the settings say, then
            beside it.
        settings: of its model.

    Raises:
        WeightsError: the tower's own weights are not there, or are others than those in training.
    """
    base = file.card.base
    if base is None or not is_tower(settings.image.trunk):
        return file
    encoder = TowerEncoder(settings.image.trunk, settings.image_size, settings.image)
    own = encoder.base_weights(_find(base, settings.image.trunk_weights, file.path))
    if fingerprint(own) != base.sha256:
        raise WeightsError(
            f"{file.path or 'these weights'} were trained on other weights of {base.trunk} than "
            f"those found; expected the ones with SHA-256 {base.sha256[:12]}..."
        )
    whole = {PREFIX + name: each for name, each in own.items()}
    return replace(file, tensors=whole | file.tensors)


def _find(base: Base, recorded: str | None, path: Path | None) -> str:
    if base.weights == HUB:
        return HUB
    places = [Path(recorded or base.weights)]
    places += [] if path is None else [path.parent / base.weights]
    for place in places:
        if place.is_file():
            return str(place)
    raise WeightsError(
        f"{path or 'these weights'} hold only what was trained of {base.trunk}; put its own "
        f"weights, {base.weights}, beside them"
    )


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one.cpu(), other.cpu())
