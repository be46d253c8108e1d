"""The order in which training visits a manifest.

The order of an epoch is a function of (manifest, mode, batch size, seed, epoch) and nothing else,
so any batch of any epoch can be reached directly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Bool, Int64

from mfclip.data.manifest import Manifest
from mfclip.errors import ConfigError

Sampling: TypeAlias = Literal["shuffle", "balanced", "source", "generator", "paired"]
AS_IT_IS, REAL_HALF, FORGED_HALF = range(3)
"""Roles of a face in a batch: itself, or one half of a pair made from a real photograph."""

Indices: TypeAlias = Int64[np.ndarray, " _"]
"""Rows of the manifest; `_` because input and output of one function may differ in length."""


@dataclass(frozen=True)
class BatchPlan:
    """The order in which an epoch visits the samples.

    Modes: ``shuffle`` visits every sample once; ``balanced`` has as many real as fake faces in
    every batch; ``source`` also visits generators and sources of real faces (their folders) in
    proportion to the root of their size, so that none outweighs the others and none is repeated
    too often; ``generator`` visits every generator equally often; ``paired`` joins each fake with
    a real face of its own group, or any real face if its group has none. All but the first repeat
    the smaller side in fresh orders, and an epoch is as long as the manifest. A last batch
    that is not full is left out.

    Args:
        manifest: the samples.
        mode: as above.
        batch_size: samples a step over all processes.
        seed: of the order.
        pairs: share of each batch that is pairs: a real face, and a forgery made from it in the
            place of one of the batch's fakes. Half of it is real, as many as the batch allows. In
            ``shuffle`` and ``source`` the manifest may then hold real faces alone.

    Raises:
        ConfigError: an unknown mode, fewer samples than `batch_size`, only real or only fake faces
            in a mode that needs both, or an odd `batch_size` in ``paired``.
    """

    manifest: Manifest
    mode: Sampling
    batch_size: int
    seed: int = 0
    pairs: float = 0.0

    def __post_init__(self) -> None:
        check_sampling(self.mode)
        if self.mode == "paired" and self.batch_size % 2:
            message = f"paired sampling needs an even batch_size, but got {self.batch_size}"
            raise ConfigError(message)
        if not 0 < self.batch_size <= len(self.manifest):
            message = (
                f"expected batch_size between 1 and the {len(self.manifest)} training samples, "
                f"but got {self.batch_size}"
            )
            raise ConfigError(message)
        pairs_alone = self.pairs == 1 and self.mode == "source" and not len(self._fakes)
        if self.mode != "shuffle" and not (len(self._reals) and (len(self._fakes) or pairs_alone)):
            message = (
                f"{self.mode} sampling needs real and fake faces, but the training samples hold "
                f"{len(self._reals)} real and {len(self._fakes)} fake; use shuffle"
            )
            raise ConfigError(message)

    def __len__(self) -> int:
        """Batches an epoch, the same for every epoch."""
        return len(self.manifest) // self.batch_size

    def batches(self, epoch: int) -> Int64[np.ndarray, "n b 3"]:
        """Rows of the manifest, their roles, and the row whose augmentation they share.

        One line a global batch. The halves of a pair share one draw, so that crop, mirror and
        damage are the same for both and nothing but the forgery tells them apart.
        """
        # A spawn key keeps this stream apart from the items' (seed, epoch, index).
        rng = np.random.default_rng(np.random.SeedSequence((self.seed, epoch), spawn_key=(1,)))
        count = len(self) * self.batch_size
        order = self._order(count, rng)
        draws = np.repeat(order[1::2], 2) if self.mode == "paired" else order
        keys = np.stack([order, np.full_like(order, AS_IT_IS), draws], axis=1)
        keys = keys.reshape(len(self), self.batch_size, 3)
        if self.mode != "shuffle":
            # Slots of a batch carry no meaning, which SPA's `batch` mode relies on.
            slots = np.tile(np.arange(self.batch_size), (len(self), 1))
            keys = np.take_along_axis(keys, rng.permuted(slots, axis=1)[..., None], axis=1)
        if self.pairs:
            for batch in keys:
                self._make_pairs(batch, rng)
        return keys

    def _make_pairs(self, batch: Int64[np.ndarray, "b 3"], rng: np.random.Generator) -> None:
        """Give some of the batch's real faces a forgery of theirs, in the place of its fakes."""
        is_fake = self._is_fake[batch[:, 0]]
        reals, fakes = (rng.permutation(np.flatnonzero(side)) for side in (~is_fake, is_fake))
        if not len(self._fakes):
            fakes, reals = np.split(reals, [len(reals) // 2])
        count = min(round(self.pairs * len(batch) / 2), len(reals), len(fakes))
        real, fake = reals[:count], fakes[:count]
        batch[fake, 0] = batch[fake, 2] = batch[real, 2] = batch[real, 0]
        batch[real, 1], batch[fake, 1] = REAL_HALF, FORGED_HALF

    def _order(self, count: int, rng: np.random.Generator) -> Indices:
        if self.mode == "shuffle":
            return rng.permutation(len(self.manifest))[:count]
        half = (count + 1) // 2
        if self.mode == "source" and not len(self._fakes):
            return _take_by_root(self._sources(False), count, rng)
        if self.mode == "source":
            sides = (_take_by_root(self._sources(fake), half, rng) for fake in (False, True))
            return np.stack(list(sides), axis=1).reshape(-1)[:count]
        if self.mode == "generator":
            fakes = _take_in_turn(self._fakes_of_generators, half, rng)
        else:
            fakes = _take(self._fakes, half, rng)
        reals = _take(self._reals, half, rng)
        if self.mode == "paired":
            reals = self._partners(fakes, reals, rng)
        return np.stack([reals, fakes], axis=1).reshape(-1)[:count]

    def _partners(self, fakes: Indices, others: Indices, rng: np.random.Generator) -> Indices:
        """A real face of each fake's group; where there is none, the one from `others`."""
        own = (self._reals_of_groups.get(self.manifest[fake].group) for fake in fakes.tolist())
        pairs = zip(own, others, strict=True)
        return np.array([rng.choice(group) if group else other for group, other in pairs], np.int64)

    @cached_property
    def _is_fake(self) -> Bool[np.ndarray, " _"]:
        return np.array([sample.labels.is_fake for sample in self.manifest])

    @cached_property
    def _reals(self) -> Indices:
        return np.array([i for i, s in enumerate(self.manifest) if not s.labels.is_fake], np.int64)

    @cached_property
    def _fakes(self) -> Indices:
        return np.array([i for i, s in enumerate(self.manifest) if s.labels.is_fake], np.int64)

    def _sources(self, is_fake: bool) -> list[Indices]:
        """Rows of one class by where they come from: generator, or folder of a real face."""
        found: dict[str, list[int]] = {}
        for index, sample in enumerate(self.manifest):
            if sample.labels.is_fake == is_fake:
                name = sample.labels.generator if is_fake else sample.path.parent.name
                found.setdefault(name or "unknown", []).append(index)
        return [np.array(found[name], np.int64) for name in sorted(found)]

    @cached_property
    def _reals_of_groups(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for index in self._reals.tolist():
            found.setdefault(self.manifest[index].group, []).append(index)
        return found

    @cached_property
    def _fakes_of_generators(self) -> list[Indices]:
        found: dict[str, list[int]] = {}
        for index in self._fakes.tolist():
            name = self.manifest[index].labels.generator or "unknown"
            found.setdefault(name, []).append(index)
        return [np.array(found[name], np.int64) for name in sorted(found)]


def check_sampling(mode: str) -> None:
    """Refuse an unknown sampling mode.

    Raises:
        ConfigError: the message lists the modes.
    """
    if mode not in get_args(Sampling):
        choices = ", ".join(get_args(Sampling))
        raise ConfigError(f"expected sampling to be one of [{choices}], but got {mode!r}")


def _take(indices: Indices, count: int, rng: np.random.Generator) -> Indices:
    """The first `count` of endless fresh permutations."""
    rounds = -(-count // len(indices))
    return np.concatenate([rng.permutation(indices) for _ in range(rounds)])[:count]


def _take_in_turn(groups: Sequence[Indices], count: int, rng: np.random.Generator) -> Indices:
    """One of each group in turn, the turn in a fresh order every round."""
    rounds = -(-count // len(groups))
    columns = [_take(group, rounds, rng) for group in groups]
    return rng.permuted(np.stack(columns, axis=1), axis=1).reshape(-1)[:count]


def _take_by_root(groups: Sequence[Indices], count: int, rng: np.random.Generator) -> Indices:
    """Rows of all groups, of each in proportion to the root of its size, shuffled."""
    shares = np.sqrt([len(group) for group in groups])
    places = np.floor(np.cumsum(shares) / shares.sum() * count + 0.5).astype(int)
    counts = np.diff(places, prepend=0)
    rows = [_take(group, n, rng) for group, n in zip(groups, counts.tolist(), strict=True) if n]
    return rng.permutation(np.concatenate(rows))
