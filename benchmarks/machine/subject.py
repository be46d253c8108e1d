"""What is measured: a detector, from its name or its weights, and made pictures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mfclip.batch import Batch
from mfclip.card import Card
from mfclip.config import ModelSettings, RunConfig, build_config
from mfclip.detectors import DETECTORS, build_detector, find_weights, load_detector, save_detector
from mfclip.errors import ConfigError, WeightsError
from mfclip.labels import Labels
from mfclip.weights import read_weights

KINDS = (
    Labels(False),
    Labels(True, "entire_face_synthesis", "diffusion", "DDPM"),
    Labels(True, "entire_face_synthesis", "diffusion", "LatDiff"),
    Labels(True, "entire_face_synthesis", "diffusion", "CollDiff"),
    Labels(True, "attribute_manipulation", "diffusion", "Diffae"),
    Labels(True, "attribute_manipulation", "gan", "LatTrans"),
    Labels(True, "attribute_manipulation", "gan", "IAFaces"),
    Labels(True, "face_swap", "diffusion", "DiffFace"),
    Labels(True, "face_swap", "gan", "FSLSD"),
    Labels(True, "face_swap", "gan", "FaceSwapper"),
)
"""Real, and the nine generators of GenFace: the ten sentences of the paper's training data."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The detector that is measured.

    Attributes:
        name: as the user named it.
        weights: its weight file, which engines load.
        config: the run that would train it.
    """

    name: str
    weights: Path
    config: RunConfig

    def load(self) -> nn.Module:
        """Load the detector anew, with what training needs of it if the file holds that."""
        return load_detector(self.weights)[0]


@contextmanager
def open_subject(name: str, batch_size: int) -> Iterator[Subject]:
    """Find weights, or make random ones for a detector's name; those are gone afterwards.

    Args:
        name: a key of `DETECTORS` (random weights), a weight file, a run's folder or a hub id.
        batch_size: of a training step; MFCLIP's pair attention is as large as that.

    Raises:
        WeightsError: neither a detector nor weights.
    """
    if name not in DETECTORS:
        path = _find(name)
        tree = {**read_weights(path).settings, "pretrained": None}
        yield Subject(name, path, build_config({"model": tree}))
        return
    config = build_config({"model": {"name": name, **_sizes(name, batch_size)}})
    with TemporaryDirectory() as folder:
        path = Path(folder) / "random.safetensors"
        save_detector(random_detector(config.model), config.model, path, card=Card())
        yield Subject(name, path, config)


def random_detector(settings: ModelSettings) -> nn.Module:
    """Build a detector with the same random weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_detector(settings)


def made_batch(count: int, size: int = 224) -> Batch:
    """Make pictures of smooth noise with grain, as photographs are; half of them called fake.

    The same ones every time, and each of `KINDS` in turn.

    Args:
        count: pictures.
        size: their side, pixels.
    """
    labels = tuple(KINDS[0] if i % 2 else KINDS[1 + i // 2 % 9] for i in range(count))
    target = torch.tensor([int(known.is_fake) for known in labels])
    return Batch(made_images(count, size), target, labels, torch.arange(count))


def made_images(count: int, size: int) -> Float[Tensor, "b 3 h w"]:
    """Make the pictures of `made_batch`: 256 levels in [0, 1], as files have them."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, max(2, size // 8), max(2, size // 8), generator=generator)
    images = nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)
    grain = torch.randn(images.shape, generator=generator)
    return ((images + 0.03 * grain).clamp(0, 1) * 255).round() / 255


def _sizes(name: str, batch_size: int) -> dict[str, Any]:
    return {"spa": {"batch_size": batch_size}} if name in {"mfclip", "mfclip-small", "clip"} else {}


def _find(name: str) -> Path:
    try:
        path = find_weights(name)
    except WeightsError as error:
        known = ", ".join(DETECTORS)
        raise WeightsError(f"{error}; expected weights, or a detector out of {known}") from None
    if not path.exists() and "/" not in name and not path.suffix:
        raise ConfigError(f"expected --model to be weights or one of {', '.join(DETECTORS)}")
    return path
