"""The data set's items and batches, against the functions they are made of and values by hand."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mfclip.data.dataset import (
    SELF_BLENDED,
    FaceDataset,
    FaceItem,
    Unreadable,
    collate,
    pack,
    unpack,
)
from mfclip.data.manifest import Manifest, Sample
from mfclip.errors import ConfigError, InputError
from mfclip.labels import Labels
from mfclip.media.blending import self_blend
from mfclip.media.images import read_image
from mfclip.media.transforms import Pixels, augment, prepare_face

REAL, FAKE = Labels(False, generator="FFHQ"), Labels(True, "face_swap", "gan", "Swap")
SIZES = {"resize": 40, "image_size": 32}


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Six noisy pictures of 48 x 44 pixels, real and fake in turn."""
    samples = []
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (44, 48, 3), dtype=np.uint8)
        path = tmp_path / f"{number}.png"
        Image.fromarray(pixels).save(path)
        samples.append(Sample(path, FAKE if number % 2 else REAL, "train", f"person {number}"))
    return Manifest(tuple(samples), tmp_path)


def negative(image: Pixels, rng: np.random.Generator) -> Pixels:
    """A forgery that is easy to recognise."""
    return 255 - image


def test_item_without_augmentation_is_the_evaluation_path(manifest: Manifest) -> None:
    dataset = FaceDataset(manifest, **SIZES)
    assert len(dataset) == 6
    for index, sample in enumerate(manifest):
        face = dataset[index, 7]
        np.testing.assert_array_equal(face.image, prepare_face(read_image(sample.path), **SIZES))
        assert (face.labels, face.index) == (sample.labels, index)


def test_augmented_item_is_augment_with_its_own_generator(manifest: Manifest) -> None:
    dataset = FaceDataset(manifest, **SIZES, augment="strong", seed=3)
    rng = np.random.default_rng((3, 5, 2))
    expected = augment(read_image(manifest[2].path), **SIZES, level="strong", rng=rng)
    np.testing.assert_array_equal(dataset[2, 5].image, expected)


def test_randomness_depends_on_seed_epoch_and_index_only(manifest: Manifest) -> None:
    first, again = (FaceDataset(manifest, **SIZES, augment="light", seed=1) for _ in range(2))
    [again[index, 0] for index in range(6)]  # what was read before does not matter
    np.testing.assert_array_equal(first[4, 2].image, again[4, 2].image)
    other = FaceDataset(manifest, **SIZES, augment="light", seed=2)
    assert not np.array_equal(first[4, 2].image, first[4, 3].image)
    assert not np.array_equal(first[4, 2].image, other[4, 2].image)


def test_cache_gives_the_same_pixels_without_the_file(manifest: Manifest) -> None:
    cached = FaceDataset(manifest, **SIZES, augment="strong", cache=True)
    plain = FaceDataset(manifest, **SIZES, augment="strong")
    expected = [plain[1, epoch].image for epoch in range(3)]
    np.testing.assert_array_equal(cached[1, 0].image, expected[0])
    manifest[1].path.unlink()
    for epoch in range(3):
        np.testing.assert_array_equal(cached[1, epoch].image, expected[epoch])
    with pytest.raises(InputError):
        _ = plain[1, 0]


def test_blend_makes_fakes_of_real_faces_only(manifest: Manifest) -> None:
    dataset = FaceDataset(manifest, **SIZES, blend=negative, self_blend=1.0)
    plain = FaceDataset(manifest, **SIZES)
    for index in range(6):
        face, original = dataset[index, 0], plain[index, 0]
        if index % 2:
            assert face.labels == FAKE
            np.testing.assert_array_equal(face.image, original.image)
        else:
            assert (
                face.labels == SELF_BLENDED == Labels(True, "face_swap", "graphics", "self-blended")
            )
            assert np.abs(face.image.astype(int) - (255 - original.image)).max() <= 1


def test_share_of_blended_faces(manifest: Manifest) -> None:
    dataset = FaceDataset(manifest, **SIZES, blend=negative, self_blend=0.25, cache=True)
    blended = sum(dataset[0, epoch].labels.is_fake for epoch in range(400))
    assert 70 < blended < 130


def test_project_blending_works_on_cached_pictures(manifest: Manifest) -> None:
    dataset = FaceDataset(manifest, **SIZES, blend=self_blend, self_blend=1.0, cache=True)
    first = dataset[0, 0].image
    np.testing.assert_array_equal(first, dataset[0, 0].image)
    plain = FaceDataset(manifest, **SIZES)[0, 0].image
    assert not np.array_equal(first, plain)
    dataset.self_blend = 0.0
    np.testing.assert_array_equal(dataset[0, 0].image, plain)  # the cache was not painted on


def test_survives_the_way_to_another_process(manifest: Manifest) -> None:
    dataset = FaceDataset(manifest, **SIZES, augment="strong", blend=negative, self_blend=0.5)
    copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy[3, 1].image, dataset[3, 1].image)


def test_batch_holds_scaled_pixels_channels_first(manifest: Manifest) -> None:
    dataset = FaceDataset(manifest, **SIZES)
    faces = [dataset[index, 0] for index in (3, 0, 1)]
    batch = collate(faces)
    assert batch.images.dtype == torch.float32
    assert batch.images.is_contiguous()
    for row, face in zip(batch.images, faces, strict=True):
        expected = torch.from_numpy(face.image.copy()).permute(2, 0, 1).float() / 255
        assert torch.equal(row, expected)
    assert batch.target.tolist() == [1, 0, 1]
    assert batch.index.tolist() == [3, 0, 1]
    assert batch.labels == (FAKE, REAL, FAKE)


def test_all_256_values_are_scaled_exactly() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    images = collate([FaceItem(ramp, REAL, 0)]).images
    assert images[0, 1].reshape(-1).tolist() == (torch.arange(256) / 255).tolist()


def test_brighter_on_top_and_redder_stays_so_in_the_batch(tmp_path: Path) -> None:
    pixels = np.zeros((60, 40, 3), np.uint8)
    pixels[:30] = (200, 100, 0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    manifest = Manifest((Sample(tmp_path / "a.png", REAL, "train", "a"),), tmp_path)
    image = collate([FaceDataset(manifest, **SIZES)[0, 0]]).images[0]
    assert image[:, :10].mean() > 0.3
    assert image[:, -10:].max() < 0.02
    assert image[0, :10].mean() > image[1, :10].mean() > image[2, :10].mean()


def test_unreadable_pictures_are_set_aside(manifest: Manifest) -> None:
    manifest[1].path.write_bytes(b"")
    dataset = FaceDataset(manifest, **SIZES)
    packed = pack([dataset.read_or_report((index, 0)) for index in range(3)])
    assert unpack(packed).index.tolist() == [0, 2]
    message = f"{manifest[1].path}: the file is empty (0 bytes); expected an image file"
    assert packed.errors == (Unreadable(1, manifest[1].path, message),)


def test_batch_of_nothing_but_errors_is_empty(manifest: Manifest) -> None:
    packed = pack([Unreadable(0, manifest[0].path, "gone")])
    assert len(unpack(packed)) == 0
    assert unpack(packed).index.dtype == torch.int64


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: FaceDataset(m, resize=32, image_size=40), "smaller than model.image_size"),
        (lambda m: FaceDataset(m, **SIZES, self_blend=0.5), "self_blend=0.5 needs a blend"),
    ],
)
def test_impossible_settings(
    manifest: Manifest, make: Callable[[Manifest], FaceDataset], message: str
) -> None:
    with pytest.raises(Exception, match=message) as caught:
        make(manifest)
    assert isinstance(caught.value, ConfigError)
