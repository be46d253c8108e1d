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
from mfclip.engines.two_tokens import TwoTokens
from mfclip.model.image_encoder import ImageEncoder, TrunkImageEncoder
from mfclip.model.mfclip import MFCLIP
from mfclip.model.noise_encoder import NoiseEncoder
from mfclip.model.released import ReleasedMFCLIP, ReleasedVisionEncoder
from mfclip.model.srm import TRUNCATION

INPUT = "images"
"""Name of the graph's input."""


class VisionGraph(nn.Module):
    """A detector as it is used: images to fake probability, logits, features, patch index.

    Args:
        detector: MFCLIP or another detector; it is copied, not changed.
        temperature: the logits are divided by it before the softmax.
        split_first: write the first filters as sums of two bf16 numbers each, for engines that
            would round them to one.

    Attributes:
        facts: size of the input and the like.
        outputs: names of the outputs: ``fake_probability``, ``logits``, and for MFCLIP
            ``features``, and ``patch_index`` if it has a noise branch.
    """

    def __init__(
        self, detector: nn.Module, temperature: float = 1.0, *, split_first: bool = False
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.facts = model_facts(detector)
        self.outputs = ["fake_probability", "logits"]
        if isinstance(detector, MFCLIP):
            self.outputs += ["features"] + ["patch_index"] * (self.facts.patch_size is not None)
        if isinstance(detector, ReleasedMFCLIP):
            self.body: nn.Module = _Released(detector)
        elif isinstance(detector, MFCLIP):
            self.body = _Vision(detector, split_first=split_first)
        else:
            self.body = _Plain(fold_batch_norms(detector) or detector)
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


class _Released(nn.Module):
    """The authors' network without its text half, as it is."""

    def __init__(self, model: ReleasedMFCLIP) -> None:
        super().__init__()
        self.encoder = fold_batch_norms(model.vision_encoder)
        self.head = copy.deepcopy(model.head)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, ...]:
        encoder = self.encoder
        assert isinstance(encoder, ReleasedVisionEncoder)
        features = functional.normalize(encoder(images).float(), dim=-1)
        index = [] if encoder.noise_encoder is None else [encoder.noise(images)[1]]
        return (self.head(features), features, *index)


class _Vision(nn.Module):
    """MFCLIP without its text half (Eq. 3)."""

    kernels: Tensor

    def __init__(self, model: MFCLIP, *, split_first: bool) -> None:
        super().__init__()
        encoder = model.vision_encoder
        self.image_size, self.patch_size = model.image_size, encoder.patch_size
        self.pixel_scale = encoder.pixel_scale
        # whole numbers, as levels are: bf16 holds both exactly
        kernels = (12 * encoder.kernels)[:, None].expand(-1, 3, -1, -1)
        self.register_buffer("kernels", kernels.contiguous())
        self.image_encoder = _for_use(encoder.image_encoder)
        if split_first and isinstance(encoder.image_encoder, ImageEncoder):
            assert self.image_encoder is not None
            stages = self.image_encoder.get_submodule("stages")
            assert isinstance(stages, nn.Sequential)
            assert isinstance(stages[0], nn.Conv2d)
            stages[0] = SplitConvolution(stages[0])
        self.noise_encoder = _for_use(encoder.noise_encoder)
        norm, _, linear = copy.deepcopy(model.head)
        assert isinstance(linear, nn.Linear)
        self.norm, self.linear = norm, linear

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, ...]:
        parts, rest = [], []
        if self.image_encoder is not None:
            parts.append(self.image_encoder(images * 2 - 1))
        if self.noise_encoder is not None:
            # what is looked for are steps of one grey level, which bf16 cannot hold
            with torch.autocast(images.device.type, enabled=False):
                patches, index = cut_richest_patch(images, self.patch_size, self.image_size)
                noise = self._residual(patches)
            parts.append(self.noise_encoder(noise))
            rest.append(index)
        features = parts[0] if len(parts) == 1 else parts[0] + parts[1]
        features = functional.normalize(features.float(), dim=-1)
        return (self._classify(features), features, *rest)

    def _classify(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "b 2"]:
        """Apply the head without a matrix product: what follows the last one stays in fp32."""
        normed = self.norm(features)
        rows = [(normed * row).sum(1, keepdim=True) for row in self.linear.weight]
        return torch.cat(rows, dim=1) + self.linear.bias

    def _residual(self, levels: Float[Tensor, "b 3 p p"]) -> Float[Tensor, "b 3 p p"]:
        """Filter as `mfclip.model.srm.noise_residual` does, the planes summed by the filters."""
        padded = functional.pad(levels, (2, 2, 2, 2), mode="replicate")
        residual = functional.conv2d(padded, self.kernels)
        # twice, so that no engine merges the factor into the kernels before it or the filters
        # behind it: in bf16 neither the kernels nor the truncated pixels, which are many, are exact
        scale = self.pixel_scale / (12 * 255)
        residual = residual.clamp(-TRUNCATION / scale, TRUNCATION / scale) * scale
        return residual.clamp(-TRUNCATION, TRUNCATION)


class SplitConvolution(nn.Module):
    """A first convolution that computes alike in fp32 and in bf16.

    A bf16 weight is off by up to 1/512, so that a high-pass filter lets brightness through. Here
    each weight is a sum of two bf16 numbers, and the pixels are whole numbers, which bf16 holds.

    Args:
        convolution: of 3 x 3, with bias, over pixels in [-1, 1].
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        weight = convolution.weight.detach() / 127.5
        high = weight.bfloat16().float()
        low = (weight - high).bfloat16().float()
        assert convolution.bias is not None  # a batch norm was folded in
        # a level l stands for the pixel (l - 127.5) / 127.5, and what comes in is l - 128
        bias = convolution.bias.detach() + 0.5 * (high + low).sum((1, 2, 3))
        self.inner = nn.Conv2d(2 * weight.shape[1], len(weight), 3)
        self.inner.weight = nn.Parameter(torch.cat([high, low], dim=1))
        self.inner.bias = nn.Parameter(bias)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        """Filter images with values in [-1, 1]; the border is grey, as zeros would be."""
        levels = functional.pad(images * 127.5 - 0.5, (1, 1, 1, 1), value=-0.5)
        out: Tensor = self.inner(torch.cat([levels, levels], dim=1))
        return out


def _for_use(
    encoder: ImageEncoder | TrunkImageEncoder | NoiseEncoder | None,
) -> nn.Module | None:
    """Copy an encoder, its batch norms folded and its transformer in fixed sizes."""
    folded = fold_batch_norms(encoder)
    if folded is not None and encoder is not None:
        folded.token = TwoTokens(encoder.token)
    return folded


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

    The pixels of the patch come as levels in [0, 255]. The steps between neighbours are taken in
    the whole picture, seen as patches without being moved, and the patch is fetched row by row.
    """
    p, n = patch_size, image_size // patch_size
    # OpenVINO in bf16 rounds all but what comes first: levels survive that, pixels in [0, 1] do not
    levels = (images * 255)[:, :, : n * p, : n * p]
    images = images[:, :, : n * p, : n * p]
    weights = (255 * 0.299, 255 * 0.587, 255 * 0.114)
    grey = sum((images[:, i] * weight for i, weight in enumerate(weights)), torch.tensor(0.5005))
    grey = grey.floor().reshape(-1, n, p, n, p)
    step = grey[..., 1:] - grey[..., :-1]
    homogeneity = (1 + step * step).reciprocal().sum((2, 4))
    index = homogeneity.flatten(1).argmin(1)
    return _cut(levels, index, p, n), index


def _cut(
    images: Float[Tensor, "b 3 s s"], index: Int[Tensor, " b"], p: int, n: int
) -> Float[Tensor, "b 3 p p"]:
    """Fetch one patch of each picture; in memory it is 3 p runs of p pixels."""
    device = images.device
    runs = images.reshape(-1, p)  # (b 3 n p n) p
    row = torch.div(index, n, rounding_mode="floor")
    # 0, 1, 2... without asking for the batch's size, which would keep engines from joining steps
    number = (index * 0 + 1).cumsum(0) - 1
    first = number * (3 * n * p * n) + row * (p * n) + (index - row * n)
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
