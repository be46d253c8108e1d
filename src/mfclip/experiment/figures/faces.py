"""What a figure shows: a few faces of every kind, and the detectors that look at them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mfclip.card import Card
from mfclip.data.dataset import FaceDataset, FaceItem
from mfclip.data.manifest import Manifest
from mfclip.datasets.contact_sheet import choose
from mfclip.detectors import describe_name, load_detector
from mfclip.labels import Labels
from mfclip.predict.face_scorer import to_images
from mfclip.runtime.device import find_device

BATCH = 16
"""Faces that go through a detector together."""


@dataclass(frozen=True, slots=True)
class Named:
    """A detector with its name in the figure.

    Attributes:
        name: that of its kind, or of its weights where two are of one kind.
        model: in evaluation mode, on its device.
        card: facts about the weights.
    """

    name: str
    model: nn.Module
    card: Card

    @property
    def device(self) -> torch.device:
        """Where the detector computes."""
        return next(self.model.parameters()).device

    def batches(self, faces: Sequence[FaceItem]) -> Iterator[Float[Tensor, "b 3 h w"]]:
        """Yield the faces as the detector takes them, a few at a time."""
        for start in range(0, len(faces), BATCH):
            pixels = [face.image for face in faces[start : start + BATCH]]
            yield to_images(pixels).to(self.device)

    def read(self, manifest: Manifest) -> list[FaceItem]:
        """Read faces and cut them to this detector's input.

        Raises:
            InputError: a picture cannot be read.
        """
        size = int(getattr(self.model, "image_size", 224))
        faces = FaceDataset(manifest, resize=self.card.resize, image_size=size)
        return [faces[row, 0] for row in range(len(faces))]


def load_named(weights: Sequence[str | Path | None], device: str = "auto") -> list[Named]:
    """Load detectors and give each a name of its own.

    Args:
        weights: each as `mfclip.detectors.load_detector` takes it; None for the embedded ones.
        device: as `mfclip.runtime.device.find_device` takes it.

    Raises:
        WeightsError: weights are absent, damaged, or of another model.
        ConfigError: no such device.
    """
    place = find_device(device)
    loaded = [load_detector(each) for each in weights]
    kinds = [_kind(model, card) for model, card in loaded]
    shared = {kind for kind, count in Counter(kinds).items() if count > 1}
    names = [
        f"{kind} ({_short(source)})" if kind in shared else kind
        for kind, source in zip(kinds, weights, strict=True)
    ]
    return [
        Named(name, model.to(place), card)
        for name, (model, card) in zip(names, loaded, strict=True)
    ]


def choose_faces(manifest: Manifest, count: int, *, seed: int = 0) -> Manifest:
    """Choose some faces of every generator, real ones first; their choice hangs on the seed only.

    Args:
        manifest: what to choose from.
        count: faces of each generator at most.
        seed: of the choice.
    """
    kinds: dict[tuple[bool, str], list[int]] = {}
    for row, sample in enumerate(manifest):
        kinds.setdefault((sample.labels.is_fake, kind_of(sample.labels)), []).append(row)
    samples = [
        sample
        for (_, name), rows in sorted(kinds.items())
        for sample in choose([manifest[row] for row in rows], count, seed=seed, name=name)
    ]
    return Manifest(tuple(samples), manifest.root)


def kind_of(labels: Labels) -> str:
    """Return ``real`` or the generator's name."""
    return (labels.generator or "unknown") if labels.is_fake else "real"


def _kind(model: nn.Module, card: Card) -> str:
    settings = card.config.get("model")
    named = settings.get("name") if isinstance(settings, dict) else None
    return describe_name(str(named)) if named else type(model).__name__


def _short(source: str | Path | None) -> str:
    """Name weights as a reader knows them: a run by its folder, a file by its stem."""
    if source is None:
        return "embedded"
    path = Path(source)
    return path.parent.name if path.stem in {"best", "last", "model"} else path.stem
