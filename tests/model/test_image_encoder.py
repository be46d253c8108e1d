"""IE: its formula, orientation, and independence of the batch."""

from __future__ import annotations

import pytest
import torch

from helpers import assert_close, fill, pictures
from mfclip.errors import ConfigError
from mfclip.model.image_encoder import ImageEncoder, remove_ramps, start_high_pass


def make_encoder(image_size: int = 32) -> ImageEncoder:
    encoder = ImageEncoder(
        image_size, widths=(4, 6), convs=(1, 2), depth=1, embed_dim=8, num_heads=2, mlp_ratio=2.0
    )
    return fill(encoder).eval()


def test_features_do_not_depend_on_the_batch_or_the_place_in_it() -> None:
    encoder, images = make_encoder(), pictures(25)
    alone = torch.cat([encoder(image[None]) for image in images])
    for b in (2, 24, 25):
        assert_close(encoder(images[:b]), alone[:b])
    assert_close(encoder(images.flip(0)), alone.flip(0))


def test_different_images_have_different_features() -> None:
    one, other = make_encoder()(pictures(2))
    assert (one - other).abs().max() > 1e-2


def test_height_and_width_are_not_exchanged() -> None:
    encoder = make_encoder()
    images = pictures(1)
    difference = encoder(images) - encoder(images.mT)
    assert difference.abs().max() > 1e-2
    # reading a transposed picture with transposed kernels and weights gives the same features
    with torch.no_grad():
        for layer in encoder.stages:
            if isinstance(layer, torch.nn.Conv2d):
                layer.weight.copy_(layer.weight.mT.clone())
        weight = encoder.token.projection.weight.view(8, 6, 8, 8)
        encoder.token.projection.weight.copy_(weight.mT.flatten(1))
    assert_close(encoder(images.mT), make_encoder()(images))


def test_a_bright_pixel_stays_in_its_place() -> None:
    stages = make_encoder().stages
    image = torch.zeros(1, 3, 32, 32)
    changed = image.clone()
    changed[0, :, 2, 29] = 1  # top right
    difference = (stages(changed) - stages(image)).detach().abs().sum((0, 1))
    assert difference[:2, -2:].sum() > 0
    assert difference.sum() == pytest.approx(float(difference[:3, -3:].sum()))


@pytest.mark.parametrize("image_size", [32, 64, 224])
def test_the_projection_fits_the_pooled_map(image_size: int) -> None:
    encoder = make_encoder(image_size)
    features = encoder(pictures(2, image_size))
    assert encoder.token.projection.in_features == 6 * (image_size // 4) ** 2
    assert features.isfinite().all()
    assert features.shape == (2, 8)


def test_an_image_size_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"expected image_size to be a multiple of 4.*got 30"):
        make_encoder(30)


def test_kernels_without_ramps_are_blind_to_even_surfaces_and_else_unchanged() -> None:
    kernels = torch.sin(torch.arange(4 * 3 * 9.0) ** 1.4).view(4, 3, 3, 3).double()
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    surface = (0.3 + 0.7 * x - 1.9 * y).expand(1, 3, 8, 8)
    free = remove_ramps(kernels.float())
    answer = torch.nn.functional.conv2d(surface, free)
    assert answer.abs().max() < 1e-4
    assert_close(remove_ramps(free), free)  # a projection
    fine = torch.tensor([[1.0, -2, 1], [-2, 4, -2], [1, -2, 1]]).expand(1, 1, 3, 3)
    assert_close(remove_ramps(fine), fine)


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.5, 2), (1.0, 4)])
def test_high_pass_start_projects_the_first_filters_only(share: float, count: int) -> None:
    encoder = make_encoder()
    before = encoder.stages[0].weight.detach().clone()
    start_high_pass(encoder, share)
    after = encoder.stages[0].weight.detach()
    assert_close(after[:count], remove_ramps(before[:count]))
    torch.testing.assert_close(after[count:], before[count:], rtol=0, atol=0)
