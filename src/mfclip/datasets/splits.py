"""Splits that follow from names alone: by hash of the group, so a group never straddles.

GenFace publishes no split list, so there a hash of the source id decides, and is written back.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from mfclip.data.manifest import Sample
from mfclip.errors import ConfigError

FRACTIONS: Mapping[str, float] = MappingProxyType({"train": 0.8, "val": 0.1, "test": 0.1})
"""Share of the groups each split gets when the source publishes no split."""


def merge_identities(identities: Sequence[Collection[str]]) -> list[str]:
    """Name the connected component of each item; items that share an identity share it.

    A swap ``target_source`` shows two people, so it ties everything made of either together.

    Args:
        identities: for each item the people, videos or sources it is made of; at least one each.

    Returns:
        For each item the smallest identity of its component.

    Example:
        >>> merge_identities([["000"], ["003"], ["000", "003"], ["007"]])
        ['000', '000', '000', '007']
    """
    parent: dict[str, str] = {}
    for names in identities:
        first, *others = names
        root = _root(parent, first)
        for other in others:
            low, high = sorted((root, _root(parent, other)))
            parent[high] = root = low
    return [_root(parent, next(iter(names))) for names in identities]


def assign_splits(
    samples: Iterable[Sample], *, fractions: Mapping[str, float] = FRACTIONS, seed: int = 0
) -> list[Sample]:
    """Give every sample a split that depends on nothing but its group and the seed.

    A group keeps its split when other groups are added later, except where a small set leaves a
    split empty: then the largest split gives up one group.

    Args:
        samples: in any order; their present split is ignored.
        fractions: share of groups for each split; must add up to 1.
        seed: another seed gives another division.

    Raises:
        ConfigError: a fraction is negative or they do not add up to 1.
    """
    total = sum(fractions.values())
    if min(fractions.values(), default=-1.0) < 0 or abs(total - 1) > 1e-6:  # noqa: PLR2004
        raise ConfigError(
            f"expected split fractions >= 0 that add up to 1, but got {dict(fractions)}"
        )
    rows = list(samples)
    chosen = _choose({sample.group for sample in rows}, fractions, seed)
    return [replace(sample, split=chosen[sample.group]) for sample in rows]


def carve_validation(
    samples: Iterable[Sample], *, fraction: float = 0.1, seed: int = 0
) -> list[Sample]:
    """Move whole groups from train to val where the source has no validation split.

    Groups that also lie in another split stay in train, so nothing of the test split is ever
    seen in validation. Samples come back unchanged if a val split exists, or if fewer than two
    groups could be moved.

    Args:
        samples: with their official splits.
        fraction: share of the training groups to move, 0 to less than 1.
        seed: another seed moves other groups.

    Raises:
        ConfigError: the fraction is out of range.
    """
    if not 0 <= fraction < 1:
        raise ConfigError(f"expected val_fraction from 0 to less than 1, but got {fraction}")
    rows = list(samples)
    if any(sample.split == "val" for sample in rows):
        return rows
    elsewhere = {sample.group for sample in rows if sample.split != "train"}
    free = {sample.group for sample in rows if sample.split == "train"} - elsewhere
    if fraction == 0 or len(free) < 2:  # noqa: PLR2004
        return rows
    chosen = _choose(free, {"train": 1 - fraction, "val": fraction}, seed)
    return [
        replace(sample, split=chosen[sample.group])
        if sample.split == "train" and sample.group in chosen
        else sample
        for sample in rows
    ]


def _choose(groups: set[str], fractions: Mapping[str, float], seed: int) -> dict[str, str]:
    """Split of each group by its place in [0, 1), with no split left empty if that can be."""
    places = {group: _place(group, seed) for group in sorted(groups)}
    chosen = {group: _split_at(place, fractions) for group, place in places.items()}
    wanted = [name for name, fraction in fractions.items() if fraction > 0]
    for name in wanted:
        if not chosen or name in chosen.values():
            continue
        crowded, count = Counter(chosen.values()).most_common(1)[0]
        if count > 1 or name == wanted[0]:
            donors = (group for group, split in chosen.items() if split == crowded)
            chosen[min(donors, key=places.__getitem__)] = name
    return chosen


def _place(group: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _split_at(place: float, fractions: Mapping[str, float]) -> str:
    edge = 0.0
    for name, fraction in fractions.items():
        edge += fraction
        if place < edge:
            return name
    return max(fractions, key=fractions.__getitem__)


def _root(parent: dict[str, str], name: str) -> str:
    root = name
    while parent.setdefault(root, root) != root:
        root = parent[root]
    while parent[name] != root:
        parent[name], name = root, parent[name]
    return root
