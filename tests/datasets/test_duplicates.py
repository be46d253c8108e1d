import io

import imagehash
import numpy as np
import pytest
from PIL import Image

from mfclip.datasets.duplicates import find_near, hash_image, near_pairs
from mfclip.media.images import read_image


def _picture(seed: int, size: int = 96) -> Image.Image:
    """Blobs of colour with detail of a face's scale: noise of 24x24 pixels, enlarged."""
    small = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC)


def _encoded(image: Image.Image, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return read_image(buffer.getvalue())


def _distance(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.bitwise_count(a ^ b).sum())


def _any(i: np.ndarray, j: np.ndarray) -> np.ndarray:
    return np.ones(np.broadcast_shapes(i.shape, j.shape), dtype=bool)


def _brute(hashes: np.ndarray, limit: int) -> list[tuple[int, int, int]]:
    pairs = ((i, j) for i in range(len(hashes)) for j in range(i + 1, len(hashes)))
    found = ((i, j, _distance(hashes[i], hashes[j])) for i, j in pairs)
    return [(i, j, d) for i, j, d in found if d <= limit]


@pytest.mark.parametrize("seed", range(3))
def test_hash_equals_imagehash(seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (70, 50, 3), dtype=np.uint8)
    theirs = imagehash.phash(Image.fromarray(noise), hash_size=16).hash
    ours = np.unpackbits(hash_image(noise).view(np.uint8)).reshape(16, 16)
    assert (ours == theirs).all()


def test_hash_survives_saving_again_and_smaller_and_tells_others_apart() -> None:
    picture = _picture(0)
    original = hash_image(np.asarray(picture))
    smaller = picture.resize((64, 64), Image.Resampling.BICUBIC)
    assert _distance(original, hash_image(_encoded(picture, 60))) <= 24
    assert _distance(original, hash_image(_encoded(smaller, 85))) <= 24
    assert _distance(original, hash_image(np.asarray(_picture(1)))) > 60


@pytest.mark.parametrize("limit", [0, 3, 17, 31])
def test_band_search_finds_exactly_what_comparing_all_pairs_finds(limit: int) -> None:
    rng = np.random.default_rng(limit)
    seeds = rng.integers(0, 2**64, (20, 4), dtype=np.uint64)
    bits = np.unpackbits(np.repeat(seeds, 4, axis=0).view(np.uint8), axis=1)
    for row in bits:
        row[rng.choice(256, rng.integers(0, 20), replace=False)] ^= 1
    hashes = np.packbits(bits, axis=1).view(np.uint64)
    found = near_pairs(hashes, max_distance=limit, keep=_any)
    assert [tuple(row) for row in found.tolist()] == _brute(hashes, limit)


def test_band_search_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mfclip.datasets.duplicates.BLOCK", 3)
    hashes = np.zeros((8, 4), dtype=np.uint64)
    assert len(near_pairs(hashes, max_distance=2, keep=_any)) == 8 * 7 // 2


def test_only_pairs_across_splits_or_of_unrelated_labels_matter() -> None:
    hashes = np.array([[0] * 4, [1, 0, 0, 0], [2, 0, 0, 0], [4, 0, 0, 0]], dtype=np.uint64)
    split, target, group = np.array([[0, 0, 0, 1], [0, 0, 1, 0], [5, 6, 5, 8]])
    pairs = find_near(hashes, split, target, group, max_distance=2)
    # 0-1: same split and label; 0-2: forgery of its own group; 1-2: other label, other group
    assert [tuple(row[:2]) for row in pairs.tolist()] == [(0, 3), (1, 2), (1, 3), (2, 3)]


def test_blank_frames_do_not_multiply() -> None:
    hashes = np.zeros((2000, 4), dtype=np.uint64)
    split = np.arange(2000) % 2
    same = np.zeros(2000, dtype=np.int64)
    assert len(find_near(hashes, split, same, np.arange(2000), max_distance=8)) == 1
