"""Which kinds of forgery a face resembles: the known prompts, ranked on each level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mfclip.engines.known_prompts import KnownPrompts
from mfclip.labels import LEVELS
from mfclip.model.mfclip import name_at
from mfclip.predict.prediction import Kind

REMARK = (
    "An indication, never a finding: the verdict does not rest on it, and a forgery of a kind the "
    "model was never taught gets the name of the nearest one it knows."
)
"""What must be said beside every named kind."""


def describe_kinds(card: Mapping[str, Any]) -> str:
    """Say how often the kind that is named was right on each test split; empty if not measured.

    Args:
        card: of the weights; its ``kinds`` was written by ``mfclip release``.

    Example:
        >>> share = {"value": 0.32, "low": 0.3, "high": 0.35, "chance": 0.14, "faces": 599}
        >>> describe_kinds({"kinds": {"test": {"generator": share}}})[-48:]
        ': generator 32% [30, 35] on test (a guess: 14%).'
    """
    measured = card.get("kinds")
    if not isinstance(measured, Mapping):
        return ""
    splits = [split for split in measured if split != card.get("fitted_on")]
    told = [
        f"{level} {_percent(share)} on {split} (a guess: {share['chance']:.0%})"
        for split in splits
        for level, share in measured[split].items()
    ]
    if not told:
        return ""
    return f"Kinds named for forgeries were right, each kind counted alike: {', '.join(told)}."


def _percent(share: Mapping[str, float]) -> str:
    return f"{share['value']:.0%} [{100 * share['low']:.0f}, {100 * share['high']:.0f}]"


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
