"""VLFFD: parts of a forged face put into the real one, and a sentence that names them.

Re-implementation from the description; the authors' code was not available. Source: Sun et al.,
"Towards General Visual-Linguistic Face Forgery Detection", arXiv 2307.16545, read in its abstract
and in the notes of others. The towers are open_clip's (MIT licence). 151.28 M parameters with
ViT-B/32.

Neighbouring packages do not import each other: tokenizer and contrastive loss are handed in by
`mfclip.detectors`.
Axes: b pictures, r regions, d joint width.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from mfclip.batch import Batch
from mfclip.config import LossSettings
from mfclip.errors import ConfigError
from mfclip.labels import Labels
from mfclip.layers.verdict import cross_entropy_loss

Tokenize = Callable[[Sequence[str]], Int[Tensor, "n context"]]
"""Sentences to ids."""

REGIONS: dict[str, tuple[tuple[float, float, float, float], ...]] = {
    "eyes": ((0.22, 0.30, 0.78, 0.48),),
    "nose": ((0.40, 0.42, 0.60, 0.64),),
    "mouth": ((0.30, 0.64, 0.70, 0.82),),
    "cheeks": ((0.18, 0.48, 0.40, 0.76), (0.60, 0.48, 0.82, 0.76)),
}
"""Boxes of an upright face in a square 1.3 times as wide: left, top, right, bottom, as shares."""

WHOLE = "whole face"
"""All boxes, and all around them."""

REAL = "a photo of a real face"
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_DEVIATION = (0.26862954, 0.26130258, 0.27577711)
_MAX_LOGIT_SCALE = 100.0
_WHOLE_SHARE = 0.2
_LEAST_RATIO = 0.5


class Vlffd(nn.Module):
    """Coarse: real or fake. Fine: which parts are forged, as a sentence. One image tower for both.

    The coarse branch is trained on the pictures as they are. For the fine branch, one or several
    regions of each forged face are put into the real face that it was made from, at a random ratio;
    the sentence that names regions and kind of forgery is contrasted with the picture. Real faces
    stay, and say so. Where the real face of a pair is not in the batch (``data.sampling =
    "paired"`` or ``data.self_blend`` bring it), another real one takes its place.

    The loss is L_cls + beta L_contrastive. With ``train.accumulate`` above 1 the pairs are those of
    a part.

    Not stated in what could be read, and ours: the boxes of the regions, where theirs parse the
    face; the range of the ratio; beta = 1; equal sentences share a target; no stage of the fine
    branch alone.

    Args:
        towers: `mfclip.baselines.clip.build_towers`.
        tokenize: turns sentences into ids.
        contrastive: called as (image_features, text_features, logit_scale, numbers of sentences).
        image_size: side of the input in pixels.
        beta: weight of the fine branch.
        loss_settings: weights and smoothing of the losses.

    Raises:
        ConfigError: a negative `beta`.
    """

    mean: Tensor
    deviation: Tensor
    compiled = ("towers.visual",)

    def __init__(
        self,
        towers: nn.Module,
        tokenize: Tokenize,
        contrastive: nn.Module,
        *,
        image_size: int = 224,
        beta: float = 1.0,
        loss_settings: LossSettings | None = None,
    ) -> None:
        super().__init__()
        if beta < 0:
            raise ConfigError(f"expected beta to be at least 0, but got {beta}")
        self.image_size = image_size
        self.beta = beta
        self.loss_settings = loss_settings or LossSettings()
        self.towers = towers
        self.tokenize = tokenize
        self.contrastive = contrastive
        self.head = nn.Linear(towers.get_parameter("text_projection").shape[1], 2)
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION).view(3, 1, 1), persistent=False)

    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Encode RGB faces with pixel values in [0, 1]."""
        out: Tensor = self.towers.get_submodule("visual")((images - self.mean) / self.deviation)
        return out

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2"]:
        """Judge RGB faces with pixel values in [0, 1]; column 1 = fake."""
        logits: Tensor = self.head(self.encode(images))
        return logits

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms: cross-entropy of the coarse, contrast of the fine branch."""
        settings = self.loss_settings
        mixed, sentences = mix_batch(batch)
        coarse, fine = self.encode(torch.cat([batch.images, mixed])).chunk(2)
        cross_entropy = cross_entropy_loss(
            self.head(coarse), batch.target, settings.label_smoothing
        )
        texts = self._encode_text(self.tokenize(sentences).to(batch.images.device))
        # the same sentence has the same number in every process
        numbers = torch.tensor([[zlib.crc32(text.encode())] for text in sentences])
        contrast = self.contrastive(
            functional.normalize(fine.float(), dim=-1),
            functional.normalize(texts.float(), dim=-1),
            self.towers.get_parameter("logit_scale").exp().clamp(max=_MAX_LOGIT_SCALE),
            numbers.to(batch.images.device),
        )
        return {
            "cross_entropy": settings.cross_entropy * cross_entropy,
            "contrastive": settings.contrastive * self.beta * contrast,
        }

    def _encode_text(self, ids: Int[Tensor, "n context"]) -> Float[Tensor, "n d"]:
        out: Tensor = self.towers.encode_text(ids)  # type: ignore[operator]
        return out

    def from_published(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename open_clip's weights as a start of the towers; the head stays."""
        named = {f"towers.{name}": tensor for name, tensor in tensors.items()}
        own = {k: v for k, v in self.state_dict().items() if not k.startswith("towers.")}
        return {**named, **own}


def mix_batch(batch: Batch) -> tuple[Float[Tensor, "b 3 h w"], list[str]]:
    """Put regions of each forged face into its real one; return pictures and sentences."""
    images, reals = batch.images, (batch.target == 0).nonzero()[:, 0].tolist()
    partners = [-1] * len(batch) if batch.partner is None else batch.partner.tolist()
    mixed, sentences = [], []
    for place, (labels, partner) in enumerate(zip(batch.labels, partners, strict=True)):
        base = partner if partner >= 0 else (reals[place % len(reals)] if reals else place)
        if not labels.is_fake or base == place:  # without a real face the forged one stays whole
            mixed.append(images[place])
            sentences.append(describe([WHOLE], labels) if labels.is_fake else REAL)
            continue
        names = draw_regions()
        ratio = float(_LEAST_RATIO + (1 - _LEAST_RATIO) * torch.rand(()))
        mask = region_mask(names, int(images.shape[2]), int(images.shape[3])).to(images.device)
        mixed.append(mix_faces(images[base], images[place], mask, ratio))
        sentences.append(describe(names, labels))
    return torch.stack(mixed), sentences


def draw_regions() -> list[str]:
    """Choose one region, several, or the whole face, by torch's random numbers."""
    if torch.rand(()) < _WHOLE_SHARE:
        return [WHOLE]
    count = int(torch.randint(1, len(REGIONS), ()))
    chosen = sorted(torch.randperm(len(REGIONS))[:count].tolist())
    return [list(REGIONS)[place] for place in chosen]


def region_mask(names: Sequence[str], height: int, width: int) -> Bool[Tensor, "h w"]:
    """Mark the pixels of regions.

    Raises:
        KeyError: no such region.

    Example:
        >>> region_mask(["nose"], 10, 10).sum().item()  # 2 wide, from row 4 to row 6
        4
    """
    mask = torch.zeros(height, width, dtype=torch.bool)
    for name in names:
        if name == WHOLE:
            return ~mask
        for left, top, right, bottom in REGIONS[name]:
            rows = slice(round(top * height), round(bottom * height))
            mask[rows, round(left * width) : round(right * width)] = True
    return mask


def mix_faces(
    real: Float[Tensor, "3 h w"],
    fake: Float[Tensor, "3 h w"],
    mask: Bool[Tensor, "h w"],
    ratio: float,
) -> Float[Tensor, "3 h w"]:
    """Blend a forged face into the real one inside a mask; outside nothing changes.

    Args:
        real: RGB, pixel values in [0, 1].
        fake: the same.
        mask: where to blend.
        ratio: share of the forged face there; 1 takes it as it is.
    """
    blended = fake if ratio == 1 else ratio * fake + (1 - ratio) * real
    return torch.where(mask, blended, real)


def describe(names: Sequence[str], labels: Labels) -> str:
    """Write the sentence of a mixed face: what is forged, and how.

    Example:
        >>> describe(["eyes", "mouth"], Labels(True, "face_swap"))
        'a photo of a fake face, the eyes and mouth are forged by face swap'
    """
    verb = "is" if names == [WHOLE] or names in (["nose"], ["mouth"]) else "are"
    kind = (labels.manipulation or "an unknown method").replace("_", " ")
    return f"a photo of a fake face, the {' and '.join(names)} {verb} forged by {kind}"
