"""SRM residuals against their kernels, scipy's correlation, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate2d
from torch import Tensor
from torch.nn import functional

from helpers import pictures
from mfclip.model.srm import TRUNCATION, noise_residual, srm_kernels


def test_kernels_are_the_published_ones() -> None:
    kernels = srm_kernels().double()
    second = torch.tensor([1.0, -2, 1], dtype=torch.float64)
    # KB is minus the second difference in both directions
    torch.testing.assert_close(kernels[0, 1:4, 1:4], -torch.outer(second, second) / 4)
    assert kernels[1, 2, 2] == pytest.approx(-1)
    assert kernels[1, 0].mul(12).round().tolist() == [-1, 2, -2, 2, -1]
    assert kernels[1, 1].mul(12).round().tolist() == [2, -6, 8, -6, 2]
    torch.testing.assert_close(kernels[2, 2, 1:4], second / 2)
    torch.testing.assert_close(kernels[:2], kernels[:2].mT)
    torch.testing.assert_close(kernels.sum((1, 2)), torch.zeros(3).double(), atol=1e-6, rtol=0)


def test_one_bright_pixel_answers_with_the_flipped_kernel() -> None:
    kernels = torch.arange(75, dtype=torch.float32).view(3, 5, 5) / 75  # no symmetry
    image = torch.zeros(1, 3, 9, 9)
    image[0, 1, 4, 3] = 2.0
    residual = noise_residual(image, 1.0, kernels)
    expected = torch.zeros(1, 3, 9, 9)
    expected[0, :, 2:7, 1:6] = 2 * kernels.flip(1, 2)
    torch.testing.assert_close(residual, expected)


def test_one_bright_pixel_answers_with_the_srm_kernels() -> None:
    image = torch.zeros(1, 3, 9, 9)
    image[0, 2, 4, 4] = 1.0
    residual = noise_residual(image, pixel_scale=1.0)
    torch.testing.assert_close(residual[0, :, 2:7, 2:7], srm_kernels().flip(1, 2))
    assert residual.abs().sum() == pytest.approx(float(srm_kernels().abs().sum()), rel=1e-5)


@pytest.mark.parametrize("scale", [1.0, 64.0, 255.0])
def test_residuals_equal_scipys_correlation(scale: float) -> None:
    patches = pictures(2, 16)
    actual = noise_residual(patches, scale)
    for row, patch in zip(actual, patches, strict=True):
        plane = np.pad(patch.double().numpy().sum(0) * scale, 2, mode="edge")
        for got, kernel in zip(row, srm_kernels(), strict=True):
            expected = correlate2d(plane, kernel.double().numpy(), mode="valid")
            expected = expected.clip(-TRUNCATION, TRUNCATION)
            np.testing.assert_allclose(got.numpy(), expected, atol=1e-6 * (1 + 3 * scale))


def test_residuals_are_truncated_at_3() -> None:
    image = torch.zeros(1, 3, 9, 9)
    image[0, 0, 4, 4] = 1.0
    residual = noise_residual(image)  # the peak would be 255 times that of the kernel
    kernels = srm_kernels().flip(1, 2)
    expected = (255 * kernels).clamp(-3, 3)
    torch.testing.assert_close(residual[0, :, 2:7, 2:7], expected)
    assert residual.min() == -3
    assert residual.max() == 3


@settings(deadline=None)
@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_flat_patches_have_no_residual(colour: tuple[int, int, int]) -> None:
    patches = (torch.tensor(colour) / 255)[None, :, None, None].expand(1, 3, 12, 12)
    assert noise_residual(patches).abs().max() < 1e-3


def round_to_tf32(values: Tensor) -> Tensor:
    """Keep 10 bits behind the leading one, as a GPU's matrix units do."""
    bits = values.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


@pytest.mark.parametrize("scale", [1.0, 64.0, 255.0])
def test_tf32_convolutions_change_nothing_on_8_bit_pictures(
    scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    patches = pictures(2, 32)
    expected = noise_residual(patches, scale)
    convolve = functional.conv2d
    monkeypatch.setattr(
        functional, "conv2d", lambda x, k: convolve(round_to_tf32(x), round_to_tf32(k))
    )
    torch.testing.assert_close(noise_residual(patches, scale), expected, rtol=0, atol=1e-3)


def test_a_slope_has_no_residual_inside() -> None:
    # every kernel is a second difference or finer, and so blind to a linear rise
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    slope = ((3 * x + 5 * y) / 255).expand(1, 3, 12, 12)
    inside = noise_residual(slope)[..., 2:-2, 2:-2]
    assert inside.abs().max() < 1e-3


def test_only_the_sum_of_the_colours_counts() -> None:
    patches = pictures(1, 16)
    mixed = noise_residual(patches.flip(1))
    torch.testing.assert_close(noise_residual(patches), mixed, atol=1e-3, rtol=0)


def test_horizontal_second_difference_is_blind_to_rows() -> None:
    rows = torch.rand(1, 3, 12, 1).expand(1, 3, 12, 12)
    assert noise_residual(rows)[:, 2].abs().max() < 1e-3
    columns = noise_residual(rows.mT)[:, 2]
    assert columns.abs().max() > 1  # and not to columns: height and width keep their places


def test_bf16_autocast_does_not_coarsen_the_residual() -> None:
    patches = pictures(1, 16)
    with torch.autocast("cpu", torch.bfloat16):
        residual = noise_residual(patches)
    assert residual.dtype == torch.float32
    torch.testing.assert_close(residual, noise_residual(patches), rtol=0, atol=0)
