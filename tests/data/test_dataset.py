"""The data set's items and batches, against the functions they are made of and values by hand."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mfclip.data.dataset import (
    RECONSTRUCTED,
    SELF_BLENDED,
    FaceDataset,
    FaceItem,
    Unreadable,
    collate,
    pack,
    unpack,
)
from mfclip.data.manifest import Manifest, Sample
from mfclip.data.sampling import FORGED_HALF, REAL_HALF
from mfclip.errors import ConfigError, InputError
from mfclip.labels import Labels
from mfclip.media.images import read_image
from mfclip.media.transforms import augment, prepare_face

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


def test_halves_of_a_pair_differ_in_the_forgery_alone(manifest: Manifest) -> None:
    dataset = FaceDataset(manifest, **SIZES, augment="light", cache=True)
    plain = FaceDataset(manifest, **SIZES, augment="light")
    unchanged = 0
    for epoch in range(8):
        real, fake = dataset[0, epoch, REAL_HALF], dataset[0, epoch, FORGED_HALF]
        assert (real.labels, fake.labels) == (REAL, SELF_BLENDED)
        assert (real.index, fake.index) == (0, 0)
        assert not np.array_equal(real.image, fake.image)
        # the same crop and flip: what lies outside of any face mask is equal to the level
        np.testing.assert_array_equal(real.image[:2, :2], fake.image[:2, :2])
        unchanged += np.array_equal(fake.image, dataset[0, epoch, FORGED_HALF].image)
        np.testing.assert_array_equal(plain[0, epoch].image, dataset[0, epoch].image)
    assert unchanged == 8  # and the cache was not painted on


def test_twins_show_inside_a_mask(manifest: Manifest, tmp_path: Path) -> None:
    grey = np.full((48, 48, 3), 77, np.uint8)
    (tmp_path / "twins").mkdir()
    Image.fromarray(grey).save(tmp_path / "twins" / "0.png")
    dataset = FaceDataset(manifest, **SIZES, twins=tmp_path / "twins")
    kinds = set()
    for epoch in range(30):
        real, fake = dataset[0, epoch, REAL_HALF], dataset[0, epoch, FORGED_HALF]
        kinds.add(fake.labels)
        if fake.labels == RECONSTRUCTED:
            np.testing.assert_array_equal(real.image, dataset[0, epoch].image)
            # every value lies between the photograph's and its twin's
            low, high = np.minimum(real.image, 77), np.maximum(real.image, 77)
            assert (
                (fake.image >= low.astype(int) - 1) & (fake.image <= high.astype(int) + 1)
            ).all()
        assert dataset[2, epoch, FORGED_HALF].labels == SELF_BLENDED  # it has no twin
    assert kinds == {RECONSTRUCTED, SELF_BLENDED}


def test_corners_do_not_tell_the_halves_of_a_pair_apart(tmp_path: Path) -> None:
    """A classifier on the corners of all pairs guesses: the interval of its AUC holds .5."""
    rng = np.random.default_rng(0)
    samples = []
    for number in range(150):
        pixels = np.asarray(
            Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize((48, 48))
        )
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        samples.append(Sample(tmp_path / f"{number}.png", REAL, "train", str(number)))
    dataset = FaceDataset(
        Manifest(tuple(samples), tmp_path), resize=48, image_size=48, augment="everyday"
    )
    halves = [[dataset[i, 0, role].image for i in range(150)] for role in (REAL_HALF, FORGED_HALF)]
    corners = np.array(
        [
            np.concatenate(
                [
                    face[rows, columns].reshape(-1, 3).mean(0).tolist()
                    + face[rows, columns].reshape(-1, 3).std(0).tolist()
                    for rows in (slice(0, 6), slice(-6, None))
                    for columns in (slice(0, 6), slice(-6, None))
                ]
            )
            for half in halves
            for face in half
        ]
    )
    target = np.repeat([0, 1], 150)
    people = np.tile(np.arange(150), 2)
    score = cross_val_predict(
        make_pipeline(StandardScaler(), LogisticRegression(C=0.1)),
        corners, target, groups=people, cv=GroupKFold(5), method="decision_function",
    )  # fmt: skip
    value = roc_auc_score(target, score)
    spread = 1.96 * (301 / (12 * 150 * 150)) ** 0.5  # of the AUC of a guess
    assert abs(value - 0.5) < spread


def test_survives_the_way_to_another_process(manifest: Manifest) -> None:
    dataset = FaceDataset(manifest, **SIZES, augment="strong")
    copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy[3, 1].image, dataset[3, 1].image)
    pair = (0, 1, FORGED_HALF)
    np.testing.assert_array_equal(copy[pair].image, dataset[pair].image)


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
    ],
)
def test_impossible_settings(
    manifest: Manifest, make: Callable[[Manifest], FaceDataset], message: str
) -> None:
    with pytest.raises(Exception, match=message) as caught:
        make(manifest)
    assert isinstance(caught.value, ConfigError)


def test_paired_faces_are_cut_and_damaged_alike(manifest: Manifest) -> None:
    # the same pixels in both files: only another draw could make them differ
    Image.open(manifest[0].path).save(manifest[1].path)
    dataset = FaceDataset(manifest, **SIZES, augment="everyday", seed=3)
    for epoch in range(8):
        real, fake = dataset[0, epoch, 0, 1], dataset[1, epoch, 0, 1]
        np.testing.assert_array_equal(real.image, fake.image)
    own = [np.array_equal(dataset[0, e].image, dataset[1, e].image) for e in range(8)]
    assert not all(own)


def with_masks(manifest: Manifest) -> Manifest:
    """The left half of every fake was forged, but of the last one all."""
    samples = list(manifest.samples)
    for number in (1, 3):
        mask = np.zeros((44, 48), np.uint8)
        mask[:, :24] = 255
        path = manifest.root / f"mask{number}.png"
        Image.fromarray(mask).save(path)
        samples[number] = replace(samples[number], mask=path)
    whole = Labels(True, "entire_face_synthesis", "gan", "Synth")
    samples[5] = replace(samples[5], labels=whole)
    return replace(manifest, samples=tuple(samples))


def test_masks_say_what_was_forged(manifest: Manifest) -> None:
    dataset = FaceDataset(with_masks(manifest), **SIZES, masks=True)
    masks = [dataset[index, 0].mask for index in range(6)]
    assert all(mask is not None and mask.shape == (32, 32) for mask in masks)
    assert not masks[0].any()  # real
    assert (masks[1][:, :14] == 255).all()
    assert (masks[1][:, -14:] == 0).all()
    assert (masks[5] == 255).all()  # entirely synthesised
    plain = FaceDataset(manifest, **SIZES)
    np.testing.assert_array_equal(dataset[1, 0].image, plain[1, 0].image)
    batch = collate([dataset[index, 0] for index in (0, 1)])
    assert batch.masks.shape == (2, 1, 32, 32)
    expected = torch.from_numpy(np.stack(masks[:2]))[:, None].float() / 255
    assert torch.equal(batch.masks, expected)
    assert collate([plain[0, 0]]).masks is None


def test_masks_of_blended_faces_are_where_the_halves_differ(manifest: Manifest) -> None:
    dataset = FaceDataset(with_masks(manifest), **SIZES, masks=True)
    real, fake = dataset[0, 0, REAL_HALF], dataset[0, 0, FORGED_HALF]
    assert not real.mask.any()
    assert 0.05 < (fake.mask > 0).mean() < 0.95
    differ = (real.image != fake.image).any(axis=2)
    assert not differ[fake.mask == 0].any()


def test_masks_of_unknown_forgeries_are_refused(manifest: Manifest) -> None:
    with pytest.raises(ConfigError, match=r"3 fakes have no mask_path, the first: .*1\.png"):
        FaceDataset(manifest, **SIZES, masks=True)


def test_a_forged_face_finds_its_real_one(manifest: Manifest) -> None:
    samples = [replace(s, group=f"person {n // 2}") for n, s in enumerate(manifest)]
    dataset = FaceDataset(replace(manifest, samples=tuple(samples)), **SIZES)
    keys = [(3, 0), (0, 0, FORGED_HALF), (2, 0), (0, 0, REAL_HALF), (5, 0), (1, 0)]
    batch = collate([dataset[key] for key in keys])
    #           of the group  its own half       none   of the group
    assert batch.partner.tolist() == [2, 3, -1, -1, -1, 3]
    assert collate([FaceItem(dataset[0, 0].image, FAKE, 0)]).partner.tolist() == [-1]


def test_blending_stays_near_the_landmarks_where_they_are_known(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    corner = ((0.62, 0.60), (0.74, 0.60), (0.68, 0.66), (0.64, 0.72), (0.72, 0.72))
    sample = Sample(tmp_path / "a.png", REAL, "train", "a", landmarks=corner)
    dataset = FaceDataset(Manifest((sample,), tmp_path), resize=96, image_size=96)
    touched = np.zeros((96, 96), bool)
    for epoch in range(12):
        halves = [dataset[0, epoch, role].image for role in (REAL_HALF, FORGED_HALF)]
        touched |= (halves[0] != halves[1]).any(axis=2)
    rows, columns = np.nonzero(touched)
    assert rows.min() > 40
    assert columns.min() > 45
    assert 62 < columns.mean() < 69
