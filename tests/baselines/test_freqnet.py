"""FreqNet's blocks against numpy, its size and its loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers import assert_close, fill, pictures, tiny_batch
from mfclip.baselines.freqnet import (
    FreqNet,
    FrequencyConvolution,
    keep_high_channels,
    keep_high_frequencies,
)
from mfclip.config import LossSettings


def values(*shape: int) -> Tensor:
    return torch.randn(*shape)


def high_by_numpy(x: np.ndarray) -> np.ndarray:
    """High frequencies over height and width, written as the authors describe it."""
    height, width = x.shape[-2:]
    spectrum = np.fft.fftshift(np.fft.fft2(x), axes=(-2, -1))
    top, left = height // 2, width // 2
    rows = slice(top - height // 4, top + height // 4)
    spectrum[..., rows, left - width // 4 : left + width // 4] = 0
    return np.maximum(np.fft.ifft2(np.fft.ifftshift(spectrum, axes=(-2, -1))).real, 0)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 2, 7, 10)])
def test_high_frequencies_over_space_are_numpys(shape: tuple[int, ...]) -> None:
    x = values(*shape).double()
    expected = torch.from_numpy(high_by_numpy(x.numpy()))
    assert_close(keep_high_frequencies(x), expected)


def test_high_frequencies_over_channels_are_numpys() -> None:
    x = values(2, 8, 3, 3).double()
    spectrum = np.fft.fftshift(np.fft.fft(x.numpy(), axis=1), axes=1)
    spectrum[:, 2:6] = 0
    back = np.fft.ifft(np.fft.ifftshift(spectrum, axes=1), axis=1).real
    assert_close(keep_high_channels(x), torch.from_numpy(np.maximum(back, 0)))


def test_a_checkerboard_is_kept_and_a_slow_wave_is_not() -> None:
    y, x = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    board = (1.0 - 2 * ((x + y) % 2))[None, None]
    slow = torch.cos(2 * torch.pi * x / 16)[None, None]
    kept = keep_high_frequencies(board + slow)
    torch.testing.assert_close(kept, board.clamp(min=0), atol=1e-5, rtol=0)


def test_the_frequency_convolution_is_numpys() -> None:
    module = fill(FrequencyConvolution(4)).double()
    x = values(2, 4, 6, 5).double()
    spectrum = np.fft.fft2(x.numpy())
    real, imaginary = (
        part.weight.detach().numpy()[:, :, 0, 0] for part in (module.real, module.imaginary)
    )
    mixed = np.einsum("oc,bchw->bohw", real, spectrum.real) + 1j * np.einsum(
        "oc,bchw->bohw", imaginary, spectrum.imag
    )
    expected = np.maximum(np.fft.ifft2(mixed).real, 0)
    assert_close(module(x), torch.from_numpy(expected))


def test_parameters_by_hand() -> None:
    def bottleneck(inside: int, width: int, shortcut: bool) -> int:
        outside = 4 * width
        body = inside * width + 9 * width**2 + width * outside + 2 * (width + width + outside)
        return body + shortcut * (inside * outside + 2 * outside)

    stage1 = bottleneck(64, 64, True) + 2 * bottleneck(256, 64, False)
    stage2 = bottleneck(256, 128, True) + 3 * bottleneck(512, 128, False)
    spectral = 2 * (2 * 64**2 + 2 * 256**2)
    plain = (3 * 64 + 64) + (64**2 + 64) + 2 * (256**2 + 256) + (512 + 1)
    assert sum(p.numel() for p in FreqNet().parameters()) == stage1 + stage2 + spectral + plain
    assert round((stage1 + stage2 + spectral + plain) / 1e6, 1) == 1.9  # as published


def test_one_logit_in_two_columns() -> None:
    model = fill(FreqNet(image_size=32, loss_settings=LossSettings(label_smoothing=0.2))).eval()
    batch = tiny_batch(4)
    logits = model(batch.images)
    assert_close(logits.softmax(1)[:, 1], model.score(batch.images).sigmoid())
    by_columns = torch.nn.functional.cross_entropy(logits, batch.target, label_smoothing=0.2)
    assert_close(model.loss(batch)["cross_entropy"], by_columns)


def test_flat_colour_says_nothing_and_contrast_does() -> None:
    model = FreqNet(image_size=32).double().eval()
    images = pictures(1).double()
    faint = images * 0.5 + 0.25
    brighter = model.score(faint + 0.2) - model.score(faint)
    stronger = model.score(images) - model.score(faint)
    assert stronger.abs() > 1e-3
    assert brighter.abs() < 1e-6 * stronger.abs()


def test_autocast_changes_little_and_not_what_is_seen_of_the_picture() -> None:
    model = FreqNet(image_size=32).eval()
    images = pictures(8)
    seen: list[Tensor] = []
    model.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    full = model.score(images)
    with torch.autocast("cpu", torch.bfloat16):
        low = model.score(images)
    torch.testing.assert_close(seen[0], seen[1], rtol=0, atol=0)
    assert (full - low).abs().max() < 0.1 * (full.max() - full.min())
