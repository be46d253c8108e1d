"""A detector as one graph: pixels in, verdict out, nothing that only training needs.

The boxes are the model's own, traced as they are; batch normalisation is folded into the
convolutions before it.
Axes: b images, d width of the features.
"""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mfclip.engines.engine import ModelFacts
from mfclip.engines.known_prompts import known_prompts
from mfclip.layers.lora import merge_lora
from mfclip.model.mfclip import MFCLIP
from mfclip.model.released import ReleasedVisionEncoder
from mfclip.model.tower import TowerEncoder

INPUT = "images"
"""Name of the graph's input."""


class VisionGraph(nn.Module):
    """A detector as it is used: images to fake probability, logits, features, patch index.

    Args:
        detector: MFCLIP or another detector; it is copied, not changed.
        temperature: the logits are divided by it before the softmax.
        split_first: write the first filters of MFCLIP's image encoder as sums of two bf16 numbers
            each, for engines that would round them to one.

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
        self.detector = fold_batch_norms(detector)
        merge_lora(self.detector)
        if isinstance(self.detector, MFCLIP):
            self.outputs += ["features"] + ["patch_index"] * (self.facts.patch_size is not None)
            vision = self.detector.vision_encoder
            encoder = vision.image_encoder
            # the released network's filters take levels, a tower's other values than [-1, 1]
            others = isinstance(vision, ReleasedVisionEncoder) or isinstance(encoder, TowerEncoder)
            split_first = split_first and not others
            if split_first and encoder is not None:
                parts = encoder.named_modules()
                name, first = next((n, m) for n, m in parts if isinstance(m, nn.Conv2d))
                encoder.set_submodule(name, SplitConvolution(first))
        self.eval().requires_grad_(requires_grad=False)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, ...]:
        """Judge RGB faces with pixel values in [0, 1]; the order is that of `outputs`."""
        rest: list[Tensor] = []
        if isinstance(self.detector, MFCLIP):
            features, index = self.detector.vision_encoder.encode(images)
            rest = [functional.normalize(features.float(), dim=-1)]
            logits = self.detector.classify(rest[0])
            rest += [] if index is None else [index]
        else:
            logits = self.detector(images)
        logits = logits.float()
        return ((logits / self.temperature).softmax(1)[:, 1], logits, *rest)


class SplitConvolution(nn.Module):
    """A first convolution that computes alike in fp32 and in bf16.

    A bf16 weight is off by up to 1/512, so that a high-pass filter lets brightness through. Here
    each weight is a sum of two bf16 numbers, and 127.5 times the pixels, which come from 8-bit
    levels, are halves of whole numbers up to 255, which bf16 holds.

    Args:
        convolution: over pixels in [-1, 1], without groups.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        weight = convolution.weight.detach() / 127.5
        high = weight.bfloat16().float()
        low = (weight - high).bfloat16().float()
        self.inner = copy.deepcopy(convolution)
        self.inner.in_channels *= 2
        self.inner.weight = nn.Parameter(torch.cat([high, low], dim=1))

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c p q"]:
        """Filter images with values in [-1, 1]."""
        levels = images * 127.5
        out: Tensor = self.inner(torch.cat([levels, levels], dim=1))
        return out


def model_facts(detector: nn.Module) -> ModelFacts:
    """Return what must be known of a detector beside its outputs."""
    image_size = int(getattr(detector, "image_size", 224))
    if not isinstance(detector, MFCLIP):
        return ModelFacts(image_size)
    encoder = detector.vision_encoder
    patch_size = None if encoder.noise_encoder is None else encoder.patch_size
    return ModelFacts(image_size, patch_size, known_prompts(detector))


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """Copy a module for inference, the batch norms of its sequences folded into their convolutions.

    Each batch norm leaves an identity, so that places in the sequence stay what they were.
    MFCLIP's text half is not copied.
    """
    # deepcopy takes what the memo says for a copy
    memo: dict[int, object] = {}
    if isinstance(module, MFCLIP):
        text = (module.language_encoder, module.contrastive, module.predictor)
        memo = {id(part): None for part in text if part is not None}
    folded = copy.deepcopy(module, memo).eval()
    for part in [part for part in folded.modules() if isinstance(part, nn.Sequential)]:
        for place in range(len(part) - 1):
            conv, norm = part[place], part[place + 1]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                part[place], part[place + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return folded
