"""Which kinds of forgery a face resembles: the known prompts, ranked on each level."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mfclip.engines.known_prompts import KnownPrompts
from mfclip.labels import LEVELS
from mfclip.model.mfclip import name_at
from mfclip.predict.prediction import Kind


def rank_kinds(
    prompts: KnownPrompts, features: Float[Tensor, "b d"]
) -> list[dict[str, tuple[Kind, ...]]]:
    """Rank the kinds of each level for each face, most probable first.

    Args:
        prompts: what the model was taught.
        features: L2-normalised vision features.

    Returns:
        For each face, level to kinds.
    """
    cosines = torch.nn.functional.normalize(features, dim=-1) @ prompts.features.T
    tables = prompts.level_probabilities(features)
    ranked: list[dict[str, tuple[Kind, ...]]] = [{} for _ in features]
    for level in LEVELS:
        names, probabilities = tables[level]
        of = [name_at(labels, level) for labels in prompts.labels]
        nearest = torch.stack(
            [cosines[:, [i for i, one in enumerate(of) if one == name]].amax(1) for name in names],
            dim=1,
        )
        for record, shares, likeness in zip(
            ranked, probabilities.tolist(), nearest.tolist(), strict=True
        ):
            kinds = map(Kind, names, shares, likeness)
            record[level] = tuple(sorted(kinds, key=lambda kind: -kind.probability))
    return ranked
