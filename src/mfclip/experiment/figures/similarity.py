"""Similarity of every image and every prompt of a batch, with and without SPA (paper Fig. 9a)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mfclip.data.dataset import FaceItem
from mfclip.data.manifest import Manifest
from mfclip.errors import WeightsError
from mfclip.experiment.figures.faces import Named, choose_faces, kind_of
from mfclip.experiment.figures.style import LABEL, NOTE, TITLE, new_figure
from mfclip.labels import Labels
from mfclip.model.ftg import prompt_labels, prompts
from mfclip.model.mfclip import MFCLIP
from mfclip.model.spa import SamplePairAttention
from mfclip.model.tokenizer import tokenize

SIDE = 24
"""Most faces of the batch, the paper's batch size."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """One panel.

    Attributes:
        title: above it.
        values: cosine similarity in [-1, 1], or that times SPA's weight; row = image, column =
            prompt of the image with that number.
        weighted: whether SPA has weighted them.
    """

    title: str
    values: Float[np.ndarray, "n n"]
    weighted: bool = False


def choose_batch(manifest: Manifest, side: int = SIDE, *, seed: int = 0) -> Manifest:
    """Choose up to `side` faces, equally many of each generator, ordered by it, real ones first."""
    kinds = len({kind_of(sample.labels) for sample in manifest})
    chosen = choose_faces(manifest, max(1, side // kinds), seed=seed)
    return Manifest(chosen.samples[:side], chosen.root)


def largest_batch(detector: Named) -> int:
    """Return how many faces the figure can hold: in ``batch`` mode SPA's matrix has a size."""
    attention = _attention(detector.model)
    weight = getattr(attention, "weight", None)
    return SIDE if weight is None else min(SIDE, len(weight))


@torch.no_grad()
def similarity_matrices(detector: Named, faces: Sequence[FaceItem]) -> list[Matrix]:
    """Compare the faces' vision features with the language features of their prompts.

    Returns:
        The cosine similarities; behind them, for a model that has SPA, the same weighted by it
        (Eq. 7 without the common factor 1 / tau).

    Raises:
        WeightsError: not MFCLIP, or it knows no prompt of these faces.
    """
    model, labels = detector.model, [face.labels for face in faces]
    if not isinstance(model, MFCLIP):
        raise WeightsError(f"{detector.name} has no prompts; give weights of MFCLIP")
    language = _encode_prompts(model, labels)
    vision = torch.cat([model.encode_image(images) for images in detector.batches(faces)])
    cosine = vision @ language.T
    out = [Matrix(f"{detector.name}: without SPA", cosine.cpu().numpy())]
    attention = _attention(model)
    if attention is not None:
        weighted = attention(vision, language, 1.0)
        out.append(Matrix(f"{detector.name}: with SPA", weighted.cpu().numpy(), True))
    return out


def draw_similarity(matrices: Sequence[Matrix], labels: Sequence[Labels]) -> Any:
    """Draw the matrices side by side, a line between the generators.

    Panels without SPA share one scale, panels with SPA another: its weights are below 1.

    Args:
        matrices: of one batch.
        labels: of the batch, those of one generator together.

    Returns:
        A matplotlib figure.
    """
    figure = new_figure(1.4 + 3.4 * len(matrices), 4.6)
    grid = figure.subplots(1, len(matrices), squeeze=False, sharey=True)[0]
    for place, matrix in zip(grid, matrices, strict=True):
        alike = [other.values for other in matrices if other.weighted == matrix.weighted]
        low, high = float(np.min(alike)), float(np.max(alike))
        shown = place.imshow(matrix.values, cmap="viridis", vmin=low, vmax=high)
        place.set_title(matrix.title, fontsize=LABEL)
        place.set_xlabel("prompt", fontsize=LABEL)
        _mark_kinds(place, [kind_of(label) for label in labels])
        bar = figure.colorbar(shown, ax=place, shrink=0.75)
        bar.ax.tick_params(labelsize=NOTE)
        words = "cosine similarity"
        bar.set_label(f"{words} x weight of SPA" if matrix.weighted else words, fontsize=LABEL)
    grid[0].set_ylabel("image", fontsize=LABEL)
    figure.suptitle("Similarity of images and prompts", fontsize=TITLE)
    return figure


def _mark_kinds(place: Any, kinds: Sequence[str]) -> None:
    """Name each generator once, beside the middle of its block."""
    names = list(dict.fromkeys(kinds))
    starts = [kinds.index(name) for name in names]
    ends = [*starts[1:], len(kinds)]
    middles = [(start + end - 1) / 2 for start, end in zip(starts, ends, strict=True)]
    place.set_xticks(middles, names, fontsize=NOTE, rotation=90)
    place.set_yticks(middles, names, fontsize=NOTE)
    place.tick_params(length=0)
    for start in starts[1:]:
        place.axhline(start - 0.5, color="white", linewidth=0.6)
        place.axvline(start - 0.5, color="white", linewidth=0.6)


def known_faces(detector: Named, manifest: Manifest) -> Manifest:
    """Keep the faces whose prompts the detector can encode: all of them with a text half.

    Raises:
        WeightsError: fewer than two kinds are left.
    """
    model = detector.model
    if not isinstance(model, MFCLIP) or model.language_encoder is not None:
        return manifest
    kept = manifest.where(lambda sample: _row(model, sample.labels) is not None)
    if len({kind_of(sample.labels) for sample in kept}) < 2:  # noqa: PLR2004 - nothing to compare
        raise WeightsError(
            f"{detector.name} was saved without its text half and knows the prompts of fewer than "
            "two kinds of these faces; give the weights of a training run, or faces of the "
            "generators it was trained on"
        )
    return kept


def _attention(model: nn.Module) -> SamplePairAttention | None:
    """Return a model's SPA; None without, or where it acts behind the softmax."""
    loss = getattr(model, "contrastive", None)
    return None if getattr(loss, "literal", False) else getattr(loss, "attention", None)


def _encode_prompts(model: MFCLIP, labels: Sequence[Labels]) -> Float[Tensor, "n d"]:
    encoder = model.language_encoder
    if encoder is None:
        return model.prompt_features[[_row(model, label) or 0 for label in labels]]
    texts = [prompts(label, encoder.max_levels, encoder.real_prompts) for label in labels]
    device = model.log_logit_scale.device
    return model.encode_text(tokenize(texts, encoder.context_length).to(device))


def _row(model: MFCLIP, labels: Labels) -> int | None:
    """Find the prompt of a face among those that the weights remember."""
    for levels in (4, 3, 2, 1):
        wanted = prompt_labels(labels, levels)
        if wanted in model.prompts:
            return model.prompts.index(wanted)
    return None
