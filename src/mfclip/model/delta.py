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
from mfclip.errors import ConfigError, WeightsError
from mfclip.model.build import is_tower
from mfclip.model.mfclip import MFCLIP
from mfclip.model.tower import HUB, TowerEncoder, fingerprint
from mfclip.weights import WeightFile

PREFIX = "vision_encoder.image_encoder."
"""Where a tower's tensors lie in MFCLIP."""


def without_base(
    detector: nn.Module, tensors: dict[str, Tensor]
) -> tuple[dict[str, Tensor], Base | None]:
    """Leave out the tensors that are still those the tower came with, to the bit.

    Args:
        detector: whose tensors they are; its tower knows where its own weights lie.
        tensors: all.

    Returns:
        What is to be stored, and what it lies on; None where there is no such tower.

    Raises:
        WeightsError: the tower's own weights cannot be read any more.
    """
    encoder = detector.vision_encoder.image_encoder if isinstance(detector, MFCLIP) else None
    if not isinstance(encoder, TowerEncoder) or encoder.source is None:
        return tensors, None
    own = encoder.base_weights(encoder.source)
    same = {PREFIX + name for name, each in own.items() if _equal(each, tensors[PREFIX + name])}
    kept = {name: each for name, each in tensors.items() if name not in same}
    place = HUB if encoder.source == HUB else Path(encoder.source).name
    return kept, Base(trunk=encoder.name, weights=place, sha256=fingerprint(own))


def with_base(file: WeightFile, settings: ModelSettings) -> tuple[WeightFile, str | None]:
    """Add the tower's own tensors to those of a file that was stored without them.

    Args:
        file: as it was read. The tower's weights are looked for where the settings say, then
            beside it.
        settings: of its model.

    Returns:
        The whole, and where the tower's weights were found; None where none are lacking.

    Raises:
        MissingExtraError: the package of the tower is not installed.
        WeightsError: the tower's own weights are not there, or are others than those in training,
            or there is no such tower.
    """
    base, image = file.card.base, settings.image
    if base is None or not is_tower(image.trunk):
        return file, None
    source = _find(base, image.trunk_weights, file.path)
    try:
        with torch.device("meta"):  # names and shapes are all that is asked of it
            encoder = TowerEncoder(image.trunk, settings.image_size, image)
    except ConfigError as error:
        message = f"{file.path or 'these weights'}: nothing can be built from the settings: {error}"
        raise WeightsError(message) from None
    own = encoder.base_weights(source)
    if fingerprint(own) != base.sha256:
        raise WeightsError(
            f"{file.path or 'these weights'} were trained on other weights of {base.trunk} than "
            f"those found; expected the ones with SHA-256 {base.sha256[:12]}..."
        )
    whole = {PREFIX + name: each for name, each in own.items()}
    return replace(file, tensors=whole | file.tensors), source


def remember_base(detector: nn.Module, source: str | None) -> None:
    """Tell a detector's tower where its own weights lie, if there are any."""
    if source is not None and isinstance(detector, MFCLIP):
        encoder = detector.vision_encoder.image_encoder
        assert isinstance(encoder, TowerEncoder)  # `with_base` found its weights
        encoder.source = source


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
