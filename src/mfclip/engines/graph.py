"""The vision half as one graph: pixels in, verdict out, nothing that only training needs.

Patch selection and noise filters are inside. The boxes are the model's own; batch normalisation is
folded into the convolutions before it.
Axes: b images, d width of the features, p side of a patch, n patches along a side.
"""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mfclip.engines.engine import ModelFacts
from mfclip.engines.known_prompts import known_prompts
from mfclip.model.mfclip import MFCLIP
from mfclip.model.srm import noise_residual

INPUT = "images"
"""Name of the graph's input."""


class VisionGraph(nn.Module):
    """A detector as it is used: images to fake probability, logits, features, patch index.

    Args:
        detector: MFCLIP or another detector; it is copied, not changed.
        temperature: the logits are divided by it before the softmax.

    Attributes:
        facts: size of the input and the like.
        outputs: names of the outputs: ``fake_probability``, ``logits``, and for MFCLIP
            ``features``, and ``patch_index`` if it has a noise branch.
    """

    def __init__(self, detector: nn.Module, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = temperature
        self.facts = model_facts(detector)
        self.outputs = ["fake_probability", "logits"]
        if isinstance(detector, MFCLIP):
            self.outputs += ["features"] + ["patch_index"] * (self.facts.patch_size is not None)
            self.body: nn.Module = _Vision(detector)
        else:
            self.body = _Plain(fold_batch_norms(detector))
        self.eval().requires_grad_(requires_grad=False)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, ...]:
        """Judge RGB faces with pixel values in [0, 1]; the order is that of `outputs`."""
        logits, *rest = self.body(images)
        logits = logits.float()
        return ((logits / self.temperature).softmax(1)[:, 1], logits, *rest)


class _Plain(nn.Module):
    """A detector that gives logits and nothing else."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, ...]:
        return (self.detector(images),)


class _Vision(nn.Module):
    """MFCLIP without its text half (Eq. 3)."""

    def __init__(self, model: MFCLIP) -> None:
        super().__init__()
        encoder = model.vision_encoder
        self.image_size, self.patch_size = model.image_size, encoder.patch_size
        self.pixel_scale = encoder.pixel_scale
        self.register_buffer("kernels", encoder.kernels.clone())
        self.image_encoder = fold_batch_norms(encoder.image_encoder)
        self.noise_encoder = fold_batch_norms(encoder.noise_encoder)
        self.head = copy.deepcopy(model.head)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, ...]:
        parts, rest = [], []
        if self.image_encoder is not None:
            parts.append(self.image_encoder(images * 2 - 1))
        if self.noise_encoder is not None:
            # what is looked for are steps of one grey level, which bf16 cannot hold
            with torch.autocast(images.device.type, enabled=False):
                patches, index = cut_richest_patch(images, self.patch_size, self.image_size)
                noise = noise_residual(patches, self.pixel_scale, self.kernels)
            parts.append(self.noise_encoder(noise))
            rest.append(index)
        features = parts[0] if len(parts) == 1 else parts[0] + parts[1]
        features = functional.normalize(features.float(), dim=-1)
        return (self.head(features), features, *rest)


def model_facts(detector: nn.Module) -> ModelFacts:
    """Return what must be known of a detector beside its outputs."""
    image_size = int(getattr(detector, "image_size", 224))
    if not isinstance(detector, MFCLIP):
        return ModelFacts(image_size)
    encoder = detector.vision_encoder
    patch_size = None if encoder.noise_encoder is None else encoder.patch_size
    return ModelFacts(image_size, patch_size, known_prompts(detector))


def cut_richest_patch(
    images: Float[Tensor, "b 3 h w"], patch_size: int, image_size: int
) -> tuple[Float[Tensor, "b 3 p p"], Int[Tensor, " b"]]:
    """Choose and cut as `mfclip.model.patch_selector.select_richest_patch` does, in fewer passes.

    The steps between neighbours are taken in the whole picture, seen as patches without being
    moved, and the patch is fetched row by row.
    """
    p, n = patch_size, image_size // patch_size
    images = images[:, :, : n * p, : n * p]
    levels = (images * 255).round()
    # whole numbers below 2^24 are exact, and the half tips the scales where all else is a tie
    thousandths = levels[:, 0] * 299 + levels[:, 1] * 587 + levels[:, 2] * 114
    grey = ((thousandths + 500.5) * 0.001).floor().reshape(-1, n, p, n, p)
    step = grey[..., 1:] - grey[..., :-1]
    homogeneity = (1 + step * step).reciprocal().sum((2, 4))
    index = homogeneity.flatten(1).argmin(1)
    return _cut(images, index, p, n), index


def _cut(
    images: Float[Tensor, "b 3 s s"], index: Int[Tensor, " b"], p: int, n: int
) -> Float[Tensor, "b 3 p p"]:
    """Fetch one patch of each picture; in memory it is 3 p runs of p pixels."""
    device = images.device
    runs = images.reshape(-1, p)  # (b 3 n p n) p
    row = torch.div(index, n, rounding_mode="floor")
    first = torch.arange(images.shape[0], device=device) * (3 * n * p * n)
    first = first + row * (p * n) + (index - row * n)
    planes = torch.arange(3, device=device) * (n * p * n)
    lines = torch.arange(p, device=device) * n
    places = first[:, None, None] + planes[:, None] + lines
    return runs[places.flatten()].reshape(-1, 3, p, p)


def fold_batch_norms(module: nn.Module | None) -> nn.Module | None:
    """Copy a module for inference, the batch norms of its sequences folded into their convolutions.

    Each batch norm leaves an identity, so that places in the sequence stay what they were.
    """
    if module is None:
        return None
    folded = copy.deepcopy(module).eval()
    for part in [part for part in folded.modules() if isinstance(part, nn.Sequential)]:
        for place in range(len(part) - 1):
            conv, norm = part[place], part[place + 1]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                part[place], part[place + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return folded
