"""Exact and near duplicates: the same picture twice, or saved again at another quality.

Source: perceptual hash (pHash) as in ImageHash (BSD-2), C. Zauner, "Implementation and Benchmarking
of Perceptual Image Hash Functions", 2010. The search splits each hash into `max_distance + 1`
bands: two hashes that differ in at most `max_distance` bits agree in at least one band, so it
misses no pair and compares only pictures that share a band.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8, UInt64
from numpy import ndarray
from PIL import Image

HASH_SIDE = 16
"""Side of the block of low frequencies that is kept; 16 gives 256 bits."""

HASH_WORDS = HASH_SIDE * HASH_SIDE // 64
SHRINK = 4
"""The picture is shrunk to `SHRINK * HASH_SIDE` pixels a side before the transform."""

BLOCK = 1024
"""Hashes compared at once: 1024 x 1024 x 32 bytes is 34 MB."""

Keep = Callable[[Int[ndarray, "..."], Int[ndarray, "..."]], Bool[ndarray, "..."]]
"""Given two arrays of rows that broadcast, say which pairs matter."""


def hash_image(pixels: UInt8[ndarray, "h w 3"]) -> UInt64[ndarray, "4"]:
    """Return the 256-bit perceptual hash of an RGB picture.

    Grey, 64x64, discrete cosine transform, the 16x16 lowest frequencies, one bit each: above the
    median or not. Equal to ``imagehash.phash(image, hash_size=16)``.
    """
    side = SHRINK * HASH_SIDE
    grey = Image.fromarray(pixels).convert("L").resize((side, side), Image.Resampling.LANCZOS)
    cosines = _cosines(side)
    low = cosines @ np.asarray(grey, dtype=np.float64) @ cosines.T
    bits = (low > np.median(low)).reshape(-1)
    return np.packbits(bits).view(np.uint64)


def near_pairs(
    hashes: UInt64[ndarray, "n 4"], *, max_distance: int, keep: Keep
) -> Int[ndarray, "pairs 3"]:
    """Find all pairs of hashes that differ in at most `max_distance` bits.

    Args:
        hashes: one row a picture, from `hash_image`.
        max_distance: bits out of 256, 0 to 31.
        keep: which pairs to return; frames of one video are all alike and seldom of interest.

    Returns:
        Rows ``(first, second, distance)`` with first < second, sorted, each pair once.
    """
    found = [np.zeros((0, 3), dtype=np.int64)]
    for key in _bands(hashes, max_distance + 1):
        for members in _buckets(key):
            found.extend(_compare(hashes, members, max_distance, keep))
    return np.unique(np.concatenate(found), axis=0)


def find_near(
    hashes: UInt64[ndarray, "n 4"],
    split: Int[ndarray, " n"],
    target: Int[ndarray, " n"],
    group: Int[ndarray, " n"],
    *,
    max_distance: int,
) -> Int[ndarray, "pairs 3"]:
    """Find near duplicates that matter: in different splits, or of other label and group.

    Pictures with the same hash, split and label (blank frames, still scenes) are searched as one,
    so the number of pairs stays small.

    Returns:
        As `near_pairs`.
    """
    place = np.stack([split, target]).astype(np.uint64).T
    chosen = np.sort(np.unique(np.hstack([hashes, place]), axis=0, return_index=True)[1])
    split, target, group = split[chosen], target[chosen], group[chosen]

    def matters(i: Int[ndarray, "..."], j: Int[ndarray, "..."]) -> Bool[ndarray, "..."]:
        unrelated = (target[i] != target[j]) & (group[i] != group[j])
        return np.asarray((split[i] != split[j]) | unrelated)

    pairs = near_pairs(hashes[chosen], max_distance=max_distance, keep=matters)
    found = np.stack([chosen[pairs[:, 0]], chosen[pairs[:, 1]], pairs[:, 2]], axis=1)
    return np.asarray(found, dtype=np.int64)


@lru_cache(maxsize=1)
def _cosines(side: int) -> Float[ndarray, "low side"]:
    """First rows of the DCT-II matrix, unnormalised as in scipy."""
    place, frequency = np.arange(side), np.arange(HASH_SIDE)
    return 2 * np.cos(np.pi * np.outer(frequency, 2 * place + 1) / (2 * side))


def _bands(hashes: UInt64[ndarray, "n 4"], count: int) -> Iterator[Int[ndarray, " n"]]:
    """Number the distinct values of each of `count` groups of bits."""
    bits = np.unpackbits(hashes.view(np.uint8).reshape(len(hashes), -1), axis=1)
    # neighbouring frequencies are correlated: spread them over the bands to keep buckets small
    for start in range(count):
        packed = np.ascontiguousarray(np.packbits(bits[:, start::count], axis=1))
        rows = packed.view(f"V{packed.shape[1]}").reshape(-1)
        yield np.unique(rows, return_inverse=True)[1].astype(np.int64).reshape(-1)


def _buckets(key: Int[ndarray, " n"]) -> Iterator[Int[ndarray, " members"]]:
    """Group the rows with equal keys; rows alone are left out."""
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    sizes = np.diff(starts, append=len(key))
    for start, size in zip(starts[sizes > 1], sizes[sizes > 1], strict=True):
        yield order[start : start + size]


def _compare(
    hashes: UInt64[ndarray, "n 4"], members: Int[ndarray, " members"], limit: int, keep: Keep
) -> Iterator[Int[ndarray, "pairs 3"]]:
    """Compare the members of a bucket with each other, a block at a time."""
    for top in range(0, len(members), BLOCK):
        rows = members[top : top + BLOCK]
        for left in range(top, len(members), BLOCK):
            columns = members[left : left + BLOCK]
            different = hashes[rows][:, None] ^ hashes[columns][None, :]
            distance = np.bitwise_count(different).sum(axis=-1, dtype=np.int64)
            near = (distance <= limit) & (rows[:, None] < columns[None, :])
            near &= keep(rows[:, None], columns[None, :])
            first, second = np.nonzero(near)
            if len(first):
                yield np.stack([rows[first], columns[second], distance[first, second]], axis=1)
