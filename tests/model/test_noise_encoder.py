"""NE: every patch size of Table VII, orientation, independence of the batch."""

from __future__ import annotations

import pytest
import torch

from helpers import assert_close, fill, pictures
from mfclip.errors import ConfigError
from mfclip.model.noise_encoder import NoiseEncoder
from mfclip.model.patch_selector import PATCH_SIZES


def make_encoder(patch_size: int = 16) -> NoiseEncoder:
    encoder = NoiseEncoder(
        patch_size, widths=(4, 6), convs=(1, 1), depth=1, embed_dim=8, num_heads=2, mlp_ratio=2.0
    )
    return fill(encoder).eval()


@pytest.mark.parametrize("patch_size", PATCH_SIZES)
def test_every_patch_size_of_table_vii_works(patch_size: int) -> None:
    encoder = make_encoder(patch_size)
    noise = pictures(3, patch_size) * 6 - 3
    features = encoder(noise)
    side = patch_size // 4
    assert encoder.token.projection.in_features == 6 * side * side
    expected = encoder.token(encoder.stages(noise).reshape(3, 6, side, side))
    assert_close(features, expected)
    assert (features[0] - features[1]).abs().max() > 1e-3


def test_features_do_not_depend_on_the_batch_or_the_place_in_it() -> None:
    encoder, noise = make_encoder(), pictures(25, 16) * 6 - 3
    alone = torch.cat([encoder(one[None]) for one in noise])
    for b in (2, 24, 25):
        assert_close(encoder(noise[:b]), alone[:b])
    assert_close(encoder(noise.flip(0)), alone.flip(0))


def test_height_and_width_are_not_exchanged() -> None:
    encoder = make_encoder()
    noise = pictures(1, 16)
    assert (encoder(noise) - encoder(noise.mT)).abs().max() > 1e-2


def test_a_patch_size_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected patch_size to be a multiple of 4, but got 30"):
        make_encoder(30)
