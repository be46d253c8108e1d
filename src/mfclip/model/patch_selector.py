"""Patch selector (PS): images to their richest patches.

Source: paper Sec. III-C and Fig. 5: the richest patch is the one whose grey-level co-occurrence
matrix (GLCM) has the smallest homogeneity.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from mfclip.errors import ConfigError

PATCH_SIZES = (16, 28, 32, 56, 112, 224)
"""Patch sizes of Table VII, in pixels, for images of 224 x 224."""


def homogeneity(grey: UInt8[Tensor, "*b h w"]) -> Float[Tensor, "*b"]:
    r"""Return the GLCM homogeneity of grey pictures.

    With distance 1, angle 0, symmetric, normalised and 256 levels, the definition

    .. math:: \sum_{i,j} \frac{P(i, j)}{1 + (i - j)^2}

    is the mean of 1 / (1 + (a - b)^2) over all horizontal neighbours a, b: no matrix is built.

    Args:
        grey: pixel values 0..255, at least two columns.

    Returns:
        Homogeneity in (0, 1]; 1 for a picture whose rows are constant.

    Example:
        >>> homogeneity(torch.tensor([[0, 1], [5, 5]], dtype=torch.uint8)).item()
        0.75
    """
    return _homogeneity(grey.float())


def to_grey(images: Float[Tensor, "b 3 h w"]) -> UInt8[Tensor, "b h w"]:
    """Turn RGB in [0, 1] into 8-bit grey (ITU-R 601, rounded, halves up).

    With 8-bit levels the grey is a whole number of thousandths. The rounding point lies halfway
    between two of them, so that the result is exact on every device and in every order of sums.
    """
    return _grey_levels(images).to(torch.uint8)


def select_richest_patch(
    images: Float[Tensor, "b 3 h w"], patch_size: int
) -> tuple[Float[Tensor, "b 3 p p"], Int[Tensor, " b"]]:
    """Cut each image into non-overlapping patches and return the richest (paper Fig. 5).

    Args:
        images: RGB, pixel values in [0, 1].
        patch_size: p, side of a patch in pixels.

    Returns:
        The richest patches, and their index in the grid, counted row by row.

    Raises:
        ConfigError: the patch is larger than the image.
    """
    index = find_richest_patch(images, patch_size)
    return cut_patches(images, index, patch_size), index


def find_richest_patch(images: Float[Tensor, "b 3 h w"], patch_size: int) -> Int[Tensor, " b"]:
    """Return the richest patch of each image as its index in the grid, counted row by row.

    Batched, on the device of the images, without a copy to the host. Pixels right of and below
    the last whole patch are not looked at. Arguments and errors: see `select_richest_patch`.
    """
    height, width = images.shape[2:]
    rows, columns = height // patch_size, width // patch_size
    if rows < 1 or columns < 1:
        message = f"expected patch_size <= image size {height}x{width}, but got {patch_size}"
        raise ConfigError(message)
    whole = images[..., : rows * patch_size, : columns * patch_size]
    # b h w -> b rows p columns p -> b rows columns p p; -1, since an engine that must ask for the
    # batch's size while it runs cannot join steps
    tiles = _grey_levels(whole).view(-1, rows, patch_size, columns, patch_size).transpose(2, 3)
    return _homogeneity(tiles.floor_()).flatten(1).argmin(1)


def _grey_levels(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
    """Grey in 0..255 and 0.5005 above, so that the whole part is the rounded level."""
    red, green, blue = images.detach().float().unbind(1)
    grey = torch.add(red.new_full((), 0.5005), red, alpha=255 * 0.299)
    return grey.add_(green, alpha=255 * 0.587).add_(blue, alpha=255 * 0.114)


def _homogeneity(levels: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b"]:
    step = levels[..., 1:] - levels[..., :-1]
    return step.square_().add_(1).reciprocal_().mean((-2, -1))


def cut_patches(
    images: Float[Tensor, "b 3 h w"], index: Int[Tensor, " b"], patch_size: int
) -> Float[Tensor, "b 3 p p"]:
    """Fetch one patch of each image, in memory 3 p runs of p pixels, as rows of one matrix.

    Args:
        images: RGB.
        index: of the patches, see `find_richest_patch`.
        patch_size: p, side of a patch in pixels.
    """
    p, device = patch_size, images.device
    height, columns = images.shape[2] // p * p, images.shape[3] // p
    runs = images[..., :height, : columns * p].reshape(-1, p)
    row = torch.div(index, columns, rounding_mode="floor")
    # 0, 1, 2... without asking for the batch's size, as above
    number = (index * 0 + 1).cumsum(0) - 1
    first = number * (3 * height * columns) + row * (p * columns) + (index - row * columns)
    planes = torch.arange(3, device=device) * (height * columns)
    lines = torch.arange(p, device=device) * columns
    places = first[:, None, None] + planes[:, None] + lines
    return runs.index_select(0, places.flatten()).view(-1, 3, p, p)
