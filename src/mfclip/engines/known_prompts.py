"""The sentences a model knows, as data: they name the kind of a forgery without the text half."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from pydantic import TypeAdapter
from torch import Tensor

from mfclip.labels import Labels
from mfclip.model.mfclip import MFCLIP, are_normalised, sum_by_level


@dataclass(frozen=True, slots=True, eq=False)
class KnownPrompts:
    """Prompts of the training data and their language features.

    Attributes:
        labels: what each prompt tells of.
        features: L2-normalised, one row a prompt.
        logit_scale: 1 / tau, by which similarities are multiplied before the softmax.
    """

    labels: tuple[Labels, ...]
    features: Float[Tensor, "k d"]
    logit_scale: float

    def level_probabilities(
        self, features: Float[Tensor, "b d"]
    ) -> dict[str, tuple[tuple[str, ...], Float[Tensor, "b n"]]]:
        """Compare vision features with the prompts; see `MFCLIP.level_probabilities`."""
        similarity = torch.nn.functional.normalize(features, dim=-1) @ self.features.T
        return sum_by_level((self.logit_scale * similarity).softmax(-1), self.labels)

    def to_json(self) -> dict[str, Any]:
        """Return labels, scale and features; the features as base64 of little-endian fp32."""
        rows = np.ascontiguousarray(self.features.numpy(), dtype="<f4")
        return {
            "labels": [asdict(one) for one in self.labels],
            "features": base64.b64encode(rows.tobytes()).decode("ascii"),
            "logit_scale": self.logit_scale,
        }


def known_prompts(model: MFCLIP) -> KnownPrompts | None:
    """Return the prompts that a model remembers; None if it knows none."""
    if not model.prompts:
        return None
    features = model.prompt_features.detach().float().cpu()
    return KnownPrompts(model.prompts, features, float(model.logit_scale.detach()))


def read_prompts(entry: Mapping[str, Any] | None) -> KnownPrompts | None:
    """Read what `KnownPrompts.to_json` returned.

    Raises:
        TypeError: an entry of another kind.
        ValueError: labels and features do not fit together, or a number is not finite or too large.
    """
    if entry is None:
        return None
    labels = TypeAdapter(tuple[Labels, ...]).validate_python(entry["labels"])
    values = np.frombuffer(base64.b64decode(entry["features"]), dtype="<f4").astype(np.float32)
    scale = float(entry["logit_scale"])
    features = torch.from_numpy(values.reshape(len(labels), -1))
    if not (are_normalised(features) and 0 < scale < math.inf):
        raise ValueError("prompt features are not of length 1, or their scale is not finite")
    return KnownPrompts(labels, features, scale)
