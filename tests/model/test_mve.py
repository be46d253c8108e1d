"""MVE: the sum of its two branches, and independence of the batch."""

from __future__ import annotations

import pytest
import torch

from helpers import assert_close, pictures, tiny_model
from mfclip.errors import ConfigError
from mfclip.model.mve import MultiModalVisionEncoder
from mfclip.model.patch_selector import PATCH_SIZES, select_richest_patch
from mfclip.model.srm import noise_residual


def make_encoder(**overrides: object) -> MultiModalVisionEncoder:
    return tiny_model(**overrides).eval().vision_encoder


def test_features_are_the_sum_of_both_branches() -> None:
    encoder = make_encoder()
    images = pictures(3)
    patches, index = select_richest_patch(images, 16)
    noise = noise_residual(patches, 255.0)
    expected = encoder.image_encoder(2 * images - 1) + encoder.noise_encoder(noise)
    assert_close(encoder(images), expected)
    own_noise, own_index = encoder.noise(images)
    assert_close(own_noise, noise)
    assert own_index.tolist() == index.tolist()


def test_each_branch_can_stand_alone() -> None:
    both, images = make_encoder(), pictures(2)
    image_only, noise_only = make_encoder(use_noise=False), make_encoder(use_image=False)
    image_only.image_encoder.load_state_dict(both.image_encoder.state_dict())
    noise_only.noise_encoder.load_state_dict(both.noise_encoder.state_dict())
    assert_close(image_only(images) + noise_only(images), both(images))


def test_noise_sees_only_the_richest_patch() -> None:
    encoder = make_encoder(use_image=False)
    images = pictures(1)
    index = int(encoder.noise(images)[1])
    rows, columns = (slice(16 * k, 16 * k + 16) for k in divmod(index, 2))
    elsewhere = torch.full_like(images, 0.5)
    elsewhere[:, :, rows, columns] = images[:, :, rows, columns]
    assert_close(encoder(elsewhere), encoder(images))


def test_features_do_not_depend_on_the_batch_or_the_place_in_it() -> None:
    encoder, images = make_encoder(), pictures(25)
    alone = torch.cat([encoder(one[None]) for one in images])
    for b in (2, 24, 25):
        assert_close(encoder(images[:b]), alone[:b])
    assert_close(encoder(images.flip(0)), alone.flip(0))


def test_a_transposed_picture_has_other_features() -> None:
    encoder, images = make_encoder(), pictures(1)
    assert (encoder(images) - encoder(images.mT)).abs().max() > 1e-2


@pytest.mark.parametrize("patch_size", PATCH_SIZES)
def test_every_patch_size_of_table_vii_works(patch_size: int) -> None:
    encoder = make_encoder(image_size=224, noise={"patch_size": patch_size})
    images = pictures(2, 224)
    together = encoder(images)
    assert_close(together, torch.cat([encoder(images[:1]), encoder(images[1:])]))
    assert encoder.noise(images)[0].shape == (2, 3, patch_size, patch_size)


def test_pixel_scale_acts_on_the_noise() -> None:
    images = pictures(1) * 0.1
    coarse, fine = make_encoder(), make_encoder(noise={"pixel_scale": 1.0})
    patches, _ = select_richest_patch(images, 16)
    assert_close(fine.noise(images)[0], noise_residual(patches, 1.0))
    assert (coarse.noise(images)[0] - fine.noise(images)[0]).abs().max() > 0.1


def test_both_branches_off_is_refused() -> None:
    with pytest.raises(ConfigError, match="use_image and use_noise are both off"):
        MultiModalVisionEncoder(None, None, patch_size=16, pixel_scale=1.0)
