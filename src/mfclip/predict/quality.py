"""Reasons to trust a score less that lie in the image: damage, blur, compression, light, pose.

Some are warnings only. Others make a face *poor*: worse than any that the bands of the verdict were
measured on, so that no score of it decides anything.

The limits come from the training faces of the embedded weights and from what damage costs these
weights; ``benchmarks/quality.py`` measured both (``benchmarks/results/quality.json``).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from mfclip.media.images import ImageFile
from mfclip.media.transforms import Pixels

LEAST_SHARPNESS = -1.67
"""Faces less sharp than this, see `sharpness`, get a warning: 2% of the training faces, and four of
five of them blurred by a Gaussian of 1 pixel, which makes false alarms more than twice as many."""

LEAST_JPEG_QUALITY = 51
"""JPEG files of a lower quality, on libjpeg's scale of 1 to 100, get a warning: at 50 twice as many
forgeries are called real as at 90, which the training faces have."""

MOST_BLOCKINESS = 1.3
"""Pictures in other formats get a warning above this, see `blockiness`: no training face as it is,
and most of them at quality 50."""

SMALL_FACE = 80
"""Faces with a side below this many pixels, about a third of the model input, get a warning."""

TINY_FACE = 40
"""Faces with a smaller side are poor."""

MOST_YAW = 30.0
"""Faces turned further to a side, degrees, get a warning: one training face of 200 is."""

DARK, BRIGHT = 60.0, 185.0
"""Faces with a mean brightness outside these, 0 to 255, get a warning: one training face of 50 or
fewer. Of forgeries in half of their light four times as many are called real."""

GREY = np.array([0.299, 0.587, 0.114], np.float32)
"""Brightness of red, green and blue (ITU-R BT.601)."""

BLOCK = 8
"""Side of the blocks that JPEG compresses one by one, pixels."""


def check_file(image: ImageFile) -> tuple[str, ...]:
    """Return why the score means nothing where an image's decoder calls its file corrupt."""
    if not image.damage:
        return ()
    return (f"damaged file ({image.damage}): what was judged is not what was photographed",)


def check_size(side: float) -> tuple[tuple[str, ...], bool]:
    """Return a warning about a small face, and whether the face is poor.

    Args:
        side: of the face in its image, pixels.
    """
    if side >= SMALL_FACE:
        return (), False
    text = f"small face ({side:.0f} pixels): it was enlarged, and its fine traces are missing"
    return (text,), side < TINY_FACE


def check_face(face: Pixels) -> tuple[str, ...]:
    """Return why a face, as the model sees it, is poor; empty if it is not.

    Args:
        face: the model input, RGB uint8.
    """
    warnings = []
    if sharpness(face) < LEAST_SHARPNESS:
        warnings.append(
            "blurred face: the fine traces that the score rests on are missing, so it says little"
        )
    light = float((face @ GREY).mean())
    if not DARK <= light <= BRIGHT:
        word = "dark" if light < DARK else "bright"
        warnings.append(f"very {word} face: the model saw hardly any like it when it was trained")
    return tuple(warnings)


def check_pose(yaw: float) -> tuple[str, ...]:
    """Return a warning about a face turned to a side by so many degrees."""
    if abs(yaw) <= MOST_YAW:
        return ()
    return (
        f"turned face (about {abs(yaw):.0f} degrees): the model was trained on faces that look "
        "into the camera",
    )


def check_compression(image: ImageFile) -> tuple[str, ...]:
    """Return a warning about an image that was saved with much loss."""
    quality = image.quality
    if quality is not None and quality < LEAST_JPEG_QUALITY:
        return (f"strongly compressed (JPEG quality about {quality:.0f}): {_COMPRESSED}",)
    if quality is None and blockiness(image.pixels) > MOST_BLOCKINESS:
        return (f"blocky image (it was strongly compressed before): {_COMPRESSED}",)
    return ()


_COMPRESSED = "compression wipes out fine traces and leaves its own"


def sharpness(face: Pixels) -> float:
    r"""Share of a face's fine contrast in all its contrast.

    .. math:: \log_{10} \frac{\mathrm{var}(\nabla^2 g)}{\mathrm{var}(g)}

    with g the brightness and the Laplacian of four neighbours. The variance of the Laplacian is the
    common measure of focus (Pech-Pacheco et al., ICPR 2000); divided by the contrast it does not
    fall with the light.

    Args:
        face: RGB uint8, at least 3 x 3.

    Returns:
        Higher = sharper; minus infinity for an even picture.
    """
    grey: Float[ndarray, "h w"] = face @ GREY
    middle = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    fine, contrast = float((around - 4 * middle).var()), float(grey.var())
    return float(np.log10(fine / contrast)) if min(fine, contrast) > 0 else float("-inf")


def blockiness(picture: Pixels) -> float:
    """How much the brightness jumps at the edges of 8 x 8 blocks, against jumps elsewhere.

    Any offset of the blocks is tried, since a screenshot or a cut moves them; scaling hides them.

    Returns:
        Ratio of the jumps at the edges to the median of the other seven offsets, the smaller one
        of both directions; about 1 without blocks, or for pictures under 64 pixels.
    """
    grey: Float[ndarray, "h w"] = picture @ GREY
    if min(grey.shape) < BLOCK * BLOCK:
        return 1.0
    return min(_jumps(grey), _jumps(grey.T))


def _jumps(grey: Float[ndarray, "h w"]) -> float:
    steps = np.abs(np.diff(grey, axis=1)).mean(0)
    phases = np.sort([steps[offset::BLOCK].mean() for offset in range(BLOCK)])
    usual = float(np.median(phases[:-1]))
    return float(phases[-1]) / usual if usual > 0 else 1.0
