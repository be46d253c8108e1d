"""Heat maps: which pixels of a face raise the fake logit, for any detector.

Own code on plain autograd rather than captum: reports and the service show heat maps, so they must
come with the core, which stays light. The method is that of integrated gradients (Sundararajan et
al., ICML 2017) from a blurred copy of the face to the face itself, then smoothed. The gradients
pass through the whole vision encoder; in MFCLIP the noise of the richest patch reaches back to that
patch's pixels, while the choice of the patch has no gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

STEPS = 8
"""Points on the way from the blurred face to the face; each costs one forward and one backward."""

BASE_BLUR = 3 / 224
"""Standard deviation of the blur that wipes out the traces, ratio of the side."""

SMOOTHING = 7 / 224
"""Standard deviation of the smoothing of the map, ratio of the side: what an eye can follow."""

LEAST_EFFECT = 1e-7
"""Effect of a pixel on the logits below which a map fades out, so that rounding is not shown."""

STRENGTH = 0.8
"""Share of the heat's colour in the hottest pixels of an overlay."""

SPREAD = 5 / 224
"""Standard deviation of the blur of a map before it is laid over its face, ratio of the side."""

HOTTEST = 0.01
"""Share of the pixels that an overlay shows in full heat."""

CONTRAST = 0.6
"""Exponent of the heat in an overlay; below 1 makes weak heat visible."""

LEAST_HOTTEST = 0.1
"""Heat that an overlay shows in full at least, so that a map that fades out is not blown up."""

COLOURS = np.array(
    [
        (68, 1, 84), (72, 24, 106), (71, 45, 123), (66, 64, 134), (59, 82, 139), (51, 99, 141),
        (44, 114, 142), (38, 129, 142), (33, 144, 140), (31, 159, 136), (40, 174, 128),
        (62, 188, 116), (93, 201, 99), (130, 211, 76), (171, 220, 50), (213, 226, 26),
        (253, 231, 37),
    ],
    np.float32,
)  # fmt: skip
"""Seventeen even steps of viridis (Smith and van der Walt, CC0): even to the eye, rising in
brightness, and safe for the colour-blind; RGB in [0, 255], first = cold."""


def heat_map(detector: nn.Module, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
    r"""Find the pixels that raise the fake logit.

    .. math:: \left(x - x'\right) \cdot \frac{1}{n} \sum_{k=1}^{n}
        \nabla_x s\left(x' + \tfrac{k - 1/2}{n} (x - x')\right)

    with s = fake logit - real logit and x' the blurred face, summed over the colours. What is left
    after smoothing is cut at 0 and divided by its largest value, for each face by itself: the map
    says *where*, not *how much*, and a face judged real has a hottest place, too.

    Args:
        detector: any of `mfclip.detectors`; it is put into evaluation mode meanwhile.
        images: RGB faces, pixel values in [0, 1], as the detector takes them.

    Returns:
        Heat in [0, 1], 1 = hottest; all 0 where no pixel speaks for a forgery. On the device of
        the images. Each face's map is the same in any batch.
    """
    side = min(images.shape[-2:])
    with _differentiable(detector):
        # colours last in memory: the convolutions and their gradients take that a third faster
        face = images.detach().float().clone(memory_format=torch.channels_last)
        blurred = blur(face, BASE_BLUR * side)
        gradient = torch.zeros_like(face)
        for step in range(STEPS):
            gradient += _gradient(detector, blurred + (step + 0.5) / STEPS * (face - blurred))
        effect = (gradient * (face - blurred)).sum(1, keepdim=True)
        heat = blur(effect, SMOOTHING * side)[:, 0].clamp(min=0)
    return heat / heat.amax((1, 2), keepdim=True).clamp(min=LEAST_EFFECT)


def overlay(
    pixels: UInt8[np.ndarray, "h w 3"], heat: Float[np.ndarray, "h w"] | Float[Tensor, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Lay a heat map over its face: the face as it is where cold, coloured where hot.

    Most of the heat sits in few pixels, so that a map drawn as it is shows a face with specks.
    Blurring, a scale up to the hottest hundredth instead of the one hottest pixel, and more
    contrast for weak heat turn the specks into areas. The face keeps its own colours, so that it
    can be recognised beneath the heat at any strength.

    Args:
        pixels: RGB, the face that was judged.
        heat: its heat in [0, 1].
    """
    values = torch.as_tensor(heat).detach().cpu().float()
    values = blur(values[None, None], SPREAD * min(values.shape))[0, 0]
    hottest = values.quantile(1 - HOTTEST).clamp(min=LEAST_HOTTEST)
    shown = (values / hottest).clamp(0, 1).pow(CONTRAST).numpy()
    share = STRENGTH * shown[..., None]
    mixed = (1 - share) * pixels + share * colour_heat(shown)
    out: np.ndarray = np.rint(mixed).astype(np.uint8)
    return out


def colour_heat(heat: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape 3"]:
    """Turn heat in [0, 1] into RGB, by `COLOURS`."""
    places = np.linspace(0, 1, len(COLOURS))
    planes = [np.interp(heat, places, COLOURS[:, channel]) for channel in range(3)]
    out: np.ndarray = np.rint(np.stack(planes, -1)).astype(np.uint8)
    return out


def blur(images: Float[Tensor, "b c h w"], sigma: float) -> Float[Tensor, "b c h w"]:
    """Blur with a Gaussian of `sigma` pixels; the border is continued by its edge pixels."""
    reach = max(1, round(3 * sigma))
    x = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    weights = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = (weights / weights.sum()).expand(images.shape[1], 1, -1)
    padded = functional.pad(images, (reach, reach, reach, reach), mode="replicate")
    rows = functional.conv2d(padded, kernel[:, :, None, :], groups=images.shape[1])
    return functional.conv2d(rows, kernel[:, :, :, None], groups=images.shape[1])


def _gradient(detector: nn.Module, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    images.requires_grad_()
    logits = detector(images).float()
    # each face has its own logits, so the gradient of their sum is every face's own
    (gradient,) = torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), images)
    return gradient


@contextmanager
def _differentiable(detector: nn.Module) -> Iterator[None]:
    """Switch evaluation mode and gradients on, also inside `torch.inference_mode`."""
    training = detector.training
    detector.eval()
    try:
        with torch.inference_mode(mode=False), torch.enable_grad():
            yield
    finally:
        detector.train(training)
