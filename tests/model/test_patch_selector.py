"""Patch selection against scikit-image's GLCM, by hand, and its invariances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image
from skimage.data import astronaut
from skimage.feature import graycomatrix, graycoprops
from torch import Tensor

from mfclip.errors import ConfigError
from mfclip.model.patch_selector import PATCH_SIZES, homogeneity, select_richest_patch, to_grey

Grey = NDArray[np.uint8]
GREY = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=12))


def reference_homogeneity(grey: Grey) -> float:
    matrix = graycomatrix(grey, [1], [0], levels=256, symmetric=True, normed=True)
    return float(graycoprops(matrix, "homogeneity")[0, 0])


def picture(name: str) -> Tensor:
    """Return one RGB picture (1, 3, 224, 224) with 8-bit levels."""
    if name == "random":
        levels = torch.randint(0, 256, (3, 224, 224), generator=torch.Generator().manual_seed(1))
    elif name == "smooth":
        y, x = torch.meshgrid(torch.arange(224.0), torch.arange(224.0), indexing="ij")
        rising = torch.sin(x * x / 3000) * torch.cos(y * y / 5000 + x / 50)
        levels = torch.stack([(rising * 100 + 128 + shift).round() for shift in (-20, 0, 20)])
    else:
        image = Image.fromarray(astronaut()).resize((224, 224))
        levels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return (levels / 255).clamp(0, 1).float()[None]


@pytest.mark.parametrize("patch_size", PATCH_SIZES)
@pytest.mark.parametrize("name", ["random", "smooth", "real"])
def test_homogeneity_and_choice_equal_scikit_images(name: str, patch_size: int) -> None:
    image = picture(name)
    grey = to_grey(image)[0]
    side = 224 // patch_size
    tiles = [
        grey[y : y + patch_size, x : x + patch_size]
        for y in range(0, side * patch_size, patch_size)
        for x in range(0, side * patch_size, patch_size)
    ]
    expected = [reference_homogeneity(tile.numpy()) for tile in tiles]
    actual = homogeneity(torch.stack(tiles))
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=1e-6)
    patches, index = select_richest_patch(image, patch_size)
    best = int(np.argmin(expected))
    assert index.tolist() == [best]
    y, x = divmod(best, side)
    rows = slice(y * patch_size, (y + 1) * patch_size)
    columns = slice(x * patch_size, (x + 1) * patch_size)
    torch.testing.assert_close(patches, image[:, :, rows, columns], rtol=0, atol=0)


def test_grey_is_pillows() -> None:
    image = picture("real")
    rgb = (image[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    expected = np.asarray(Image.fromarray(rgb).convert("L"), dtype=int)
    difference = np.abs(to_grey(image)[0].numpy().astype(int) - expected)
    assert difference.max() <= 1  # Pillow's weights are fixed-point
    assert (difference > 0).mean() < 0.01


def test_grey_by_hand() -> None:
    colours = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0]])
    grey = to_grey(colours.T.reshape(1, 3, 1, 5))
    assert grey.tolist() == [[[76, 150, 29, 255, 0]]]


def test_grey_of_8_bit_colours_is_that_of_whole_numbers() -> None:
    levels = torch.cartesian_prod(*(torch.arange(0, 256, step) for step in (3, 1, 5)))
    thousandths = (levels * torch.tensor([299, 587, 114])).sum(1)
    assert (thousandths % 1000 == 500).sum() > 500  # halves, where an inexact sum would fall short
    grey = to_grey((levels / 255).T.reshape(1, 3, 1, -1))
    assert torch.equal(grey[0, 0].long(), (thousandths + 500) // 1000)


def test_choosing_needs_no_gradient_and_cutting_keeps_it() -> None:
    image = picture("real").requires_grad_()
    patch, index = select_richest_patch(image, 56)
    patch.sum().backward()
    y, x = divmod(int(index), 4)
    expected = torch.zeros(224, 224)
    expected[y * 56 : (y + 1) * 56, x * 56 : (x + 1) * 56] = 1
    assert torch.equal(image.grad, expected.expand(1, 3, -1, -1))


def test_homogeneity_of_4x4_counted_by_hand() -> None:
    grey = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [0, 2, 2, 2], [2, 2, 3, 3]])
    # 12 neighbours: 8 equal (1), 3 differ by one (1/2), 1 differs by two (1/5)
    expected = (8 + 3 / 2 + 1 / 5) / 12
    assert homogeneity(grey.to(torch.uint8)).item() == pytest.approx(expected, abs=1e-7)
    assert reference_homogeneity(grey.numpy().astype(np.uint8)) == pytest.approx(expected)


@settings(deadline=None, max_examples=50)
@given(GREY)
def test_homogeneity_lies_in_0_1_and_equals_scikit_images(grey: Grey) -> None:
    value = homogeneity(torch.from_numpy(grey)).item()
    assert 0 < value <= 1
    assert value == pytest.approx(reference_homogeneity(grey), abs=1e-6)
    mirrored = homogeneity(torch.from_numpy(grey[::-1, ::-1].copy())).item()
    assert value == pytest.approx(mirrored, abs=1e-6)


@given(st.integers(0, 255))
def test_flat_patches_have_homogeneity_1(level: int) -> None:
    assert homogeneity(torch.full((8, 8), level, dtype=torch.uint8)).item() == 1


def test_only_horizontal_neighbours_count() -> None:
    rows = torch.arange(0, 160, 10, dtype=torch.uint8)[:, None].expand(16, 16)
    assert homogeneity(rows).item() == 1  # each row is flat
    assert homogeneity(rows.T).item() == pytest.approx(1 / 101)


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(9)), st.integers(0, 1000))
def test_the_chosen_patch_does_not_depend_on_the_order_of_patches(
    order: list[int], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    tiles = torch.randint(0, 256, (9, 3, 16, 16), generator=generator) / 255
    tiles = tiles * torch.linspace(0.2, 1, 9)[:, None, None, None]  # distinct richness

    def assemble(parts: Tensor) -> Tensor:
        grid = parts.view(3, 3, 3, 16, 16)  # rows columns channels h w
        return grid.permute(2, 0, 3, 1, 4).reshape(1, 3, 48, 48)

    patch, index = select_richest_patch(assemble(tiles), 16)
    shuffled, place = select_richest_patch(assemble(tiles[order]), 16)
    torch.testing.assert_close(patch, shuffled, rtol=0, atol=0)
    assert order[int(place)] == int(index)


@pytest.mark.parametrize("patch_size", [16, 28, 56])
def test_images_are_judged_one_by_one(patch_size: int) -> None:
    images = torch.cat([picture(name) for name in ("random", "smooth", "real")])
    patches, index = select_richest_patch(images, patch_size)
    for row in range(3):
        patch, own = select_richest_patch(images[row : row + 1], patch_size)
        assert own[0] == index[row]
        torch.testing.assert_close(patch[0], patches[row], rtol=0, atol=0)


def test_memory_layout_does_not_matter() -> None:
    images = torch.cat([picture("real"), picture("smooth")])
    plain = select_richest_patch(images, 32)
    last = select_richest_patch(images.to(memory_format=torch.channels_last), 32)
    torch.testing.assert_close(plain, last, rtol=0, atol=0)


def test_pixels_outside_whole_patches_are_not_looked_at() -> None:
    image = torch.zeros(1, 3, 40, 40)
    image[:, :, :, 32:] = picture("random")[:, :, :40, :8]  # rich, but no whole patch
    image[:, :, 16:32, :16] = picture("random")[:, :, :16, :16]
    patch, index = select_richest_patch(image, 16)
    assert index.tolist() == [2]  # two patches a row: the first of the second row
    torch.testing.assert_close(patch, image[:, :, 16:32, :16])


def test_height_and_width_are_not_exchanged() -> None:
    image = torch.zeros(1, 3, 32, 48)
    image[:, :, :16, 32:] = picture("random")[:, :, :16, :16]  # top right
    assert select_richest_patch(image, 16)[1].tolist() == [2]
    image = image.flip(2, 3)  # bottom left
    assert select_richest_patch(image, 16)[1].tolist() == [3]


def test_a_patch_larger_than_the_image_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected patch_size <= image size 32x64, but got 48"):
        select_richest_patch(torch.zeros(1, 3, 32, 64), 48)
