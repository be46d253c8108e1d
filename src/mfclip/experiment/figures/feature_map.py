"""t-SNE of vision features, coloured by generator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mfclip.data.dataset import FaceItem
from mfclip.errors import ConfigError, InputError, require
from mfclip.experiment.figures.faces import Named, kind_of
from mfclip.experiment.figures.style import COLOURS, LABEL, MARKERS, NOTE, TITLE, new_figure
from mfclip.labels import Labels

PERPLEXITY = 30.0
"""Neighbours that count for a face (van der Maaten and Hinton, JMLR 2008: 5 to 50)."""

LEAST_FACES = 8
"""Fewer make no map."""


@torch.inference_mode()
def vision_features(detector: Named, faces: Sequence[FaceItem]) -> Float[np.ndarray, "n d"]:
    """Return what the detector's last layer reads: for MFCLIP and CLIP the vision features.

    Raises:
        ConfigError: the detector does not end in a linear layer.
    """
    encode = getattr(detector.model, "encode_image", None) or _before_last(detector.model)
    parts = [encode(images).float().cpu() for images in detector.batches(faces)]
    features: np.ndarray = torch.cat(parts).numpy()
    return features


def place_features(
    features: Float[np.ndarray, "n d"], *, seed: int = 0
) -> Float[np.ndarray, "n 2"]:
    """Place features in the plane so that neighbours stay neighbours (t-SNE, from PCA).

    Args:
        features: one row a face.
        seed: of the optimisation.

    Raises:
        InputError: too few faces.
        MissingExtraError: scikit-learn is not installed.
    """
    if len(features) < LEAST_FACES:
        raise InputError(f"expected at least {LEAST_FACES} faces for t-SNE, got {len(features)}")
    manifold = require("sklearn.manifold", extra="train")
    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    tsne = manifold.TSNE(perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed)
    placed: np.ndarray = tsne.fit_transform(features)
    return placed


def draw_feature_map(
    places: Float[np.ndarray, "n 2"], labels: Sequence[Labels], *, title: str = "Vision features"
) -> Any:
    """Draw each face as a mark whose colour and shape tell its generator.

    Args:
        places: from `place_features`.
        labels: of the same faces.
        title: above the figure.

    Returns:
        A matplotlib figure.
    """
    figure = new_figure(6.5, 5.4)
    (axis,) = figure.subplots(1, 1, squeeze=False)[0]
    kinds = np.array([kind_of(label) for label in labels])
    order = sorted(set(kinds), key=lambda name: (name != "real", name))
    for number, kind in enumerate(order):
        x, y = places[kinds == kind].T
        # open rings for the real faces, the many, so that they hide no forgery
        look = {"facecolors": "none", "edgecolors": "#777777"} if kind == "real" else {
            "color": COLOURS[(number - 1) % len(COLOURS)], "linewidths": 0
        }  # fmt: skip
        marker = "o" if kind == "real" else MARKERS[number % len(MARKERS)]
        axis.scatter(x, y, s=22, marker=marker, label=f"{kind} ({len(x)})", alpha=0.85, **look)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_xlabel("t-SNE: only nearness means something, not the axes", fontsize=NOTE)
    figure.legend(loc="outside right upper", fontsize=LABEL, frameon=False)
    figure.suptitle(title, fontsize=TITLE)
    return figure


def _before_last(model: nn.Module) -> Any:
    """Make a function that runs the model and returns what its last linear layer reads."""
    layers = [part for part in model.modules() if isinstance(part, nn.Linear)]
    if not layers:
        raise ConfigError(f"{type(model).__name__} has no linear layer whose input could be shown")
    read: list[Tensor] = []

    def encode(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        hook = layers[-1].register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
        try:
            model(images)
        finally:
            hook.remove()
        return read.pop().flatten(1)

    return encode
