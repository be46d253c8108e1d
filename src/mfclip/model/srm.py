"""SRM: image patches to noise residuals.

Source: paper Sec. III-C, after Fridrich and Kodovsky, "Rich models for steganalysis of digital
images", IEEE TIFS 7(3), 2012.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

TRUNCATION = 3.0
"""Residuals are cut to [-3, 3]."""

_KB = (
    (0, 0, 0, 0, 0),
    (0, -1, 2, -1, 0),
    (0, 2, -4, 2, 0),
    (0, -1, 2, -1, 0),
    (0, 0, 0, 0, 0),
)
_KV = (
    (-1, 2, -2, 2, -1),
    (2, -6, 8, -6, 2),
    (-2, 8, -12, 8, -2),
    (2, -6, 8, -6, 2),
    (-1, 2, -2, 2, -1),
)
_SECOND_DIFFERENCE = (
    (0, 0, 0, 0, 0),
    (0, 0, 0, 0, 0),
    (0, 1, -2, 1, 0),
    (0, 0, 0, 0, 0),
    (0, 0, 0, 0, 0),
)


def srm_kernels() -> Float[Tensor, "3 5 5"]:
    """Return the three high-pass kernels: KB / 4, KV / 12, horizontal second difference / 2."""
    kernels = torch.tensor([_KB, _KV, _SECOND_DIFFERENCE], dtype=torch.float32)
    return kernels / torch.tensor([4.0, 12.0, 2.0])[:, None, None]


def noise_residual(
    patches: Float[Tensor, "b 3 p q"],
    pixel_scale: float = 255.0,
    kernels: Float[Tensor, "3 5 5"] | None = None,
) -> Float[Tensor, "b 3 p q"]:
    """Filter patches with the three SRM kernels and truncate.

    Each kernel acts on the sum of the red, green and blue planes and gives one plane.
    Differs from the released code: the border is continued by its edge pixels, not by black, so
    that a flat patch has no residual at all.

    Args:
        patches: RGB, pixel values in [0, 1].
        pixel_scale: value of white when the kernels are applied. 255 is the scale the truncation
            was made for; the released code feeds [0, 1], where nothing is ever truncated.
        kernels: `srm_kernels()` on the right device, to save making them anew.

    Returns:
        Residuals in [-3, 3], in the order of `srm_kernels`.

    Example:
        >>> flat = torch.full((1, 3, 8, 8), 0.5)
        >>> noise_residual(flat).abs().max().item()
        0.0
    """
    if kernels is None:
        kernels = srm_kernels().to(patches.device)
    return level_residual(patches.float() * 255, pixel_scale, kernels)


def level_residual(
    levels: Float[Tensor, "b 3 p q"], pixel_scale: float, kernels: Float[Tensor, "3 5 5"]
) -> Float[Tensor, "b 3 p q"]:
    """Do what `noise_residual` does to patches whose pixel values are levels in [0, 255].

    Levels and 12 times the kernels are whole numbers: TF32 and bf16 hold them exactly, while a
    rounded 1/12 would let the brightness through. So the planes are summed by the filters, for a
    sum of three levels is too long for bf16.
    """
    padded = functional.pad(levels, (2, 2, 2, 2), mode="replicate")
    with torch.autocast(levels.device.type, enabled=False):
        filters = (12 * kernels.float())[:, None].expand(-1, 3, -1, -1)
        residual = functional.conv2d(padded, filters)
    # cut twice, so that no engine merges the factor into the kernels before it or the filters
    # behind it: in bf16 neither the kernels nor the truncated pixels, which are many, are exact
    scale = pixel_scale / (12 * 255)
    residual = residual.clamp(-TRUNCATION / scale, TRUNCATION / scale) * scale
    return residual.clamp(-TRUNCATION, TRUNCATION)
