"""CLIP: an image tower and a text tower, compared by cosine.

Source: Radford et al., "Learning transferable visual models from natural language supervision",
2021. The towers are open_clip's (MIT licence). 151.28 M parameters with ViT-B/32; the MFCLIP
paper's 84.225 M leaves out embeddings and attention input projections.

Neighbouring packages do not import each other, so what CLIP shares with MFCLIP (the sentences, the
tokenizer, the contrastive loss with its SPA) is handed in by `mfclip.detectors`, which knows both.
Axes: b images, n prompts, d joint width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from mfclip.batch import Batch
from mfclip.config import LossSettings
from mfclip.errors import ConfigError
from mfclip.labels import Labels
from mfclip.layers.verdict import cross_entropy_loss
from mfclip.layers.vision_packages import import_vision

Variant = Literal["prompt", "linear", "zero-shot"]
Tokenize = Callable[[Sequence[Labels]], Int[Tensor, "n context"]]
"""Labels to the ids of their sentences."""

MAX_LOGIT_SCALE = 100.0
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_DEVIATION = (0.26862954, 0.26130258, 0.27577711)
_HEAD_WIDTH = 64


def build_towers(  # noqa: PLR0913 - the sizes of two towers
    *,
    image_size: int = 224,
    embed_dim: int = 512,
    context_length: int = 77,
    patch_size: int = 32,
    width: int = 768,
    depth: int = 12,
    text_width: int = 512,
    text_depth: int = 12,
    quick_gelu: bool = False,
) -> nn.Module:
    """Build open_clip's pair of towers; the defaults are ViT-B/32.

    Args:
        image_size: side of the input in pixels; a multiple of `patch_size`.
        embed_dim: d.
        context_length: ids a prompt.
        patch_size: side of a patch in pixels.
        width: of the image tower; a multiple of 64, the width of its heads.
        depth: blocks of the image tower.
        text_width: of the text tower; a multiple of 64.
        text_depth: blocks of the text tower.
        quick_gelu: the activation of OpenAI's own weights.

    Raises:
        ConfigError: sizes that do not fit together.
        MissingExtraError: open_clip is not installed.
    """
    if image_size % patch_size or width % _HEAD_WIDTH or text_width % _HEAD_WIDTH:
        raise ConfigError(
            "expected image_size to be a multiple of patch_size, and width and text_width of "
            f"{_HEAD_WIDTH}, but got {image_size} and {patch_size}, {width} and {text_width}"
        )
    open_clip = import_vision("open_clip.model")
    image = open_clip.CLIPVisionCfg(
        image_size=image_size, patch_size=patch_size, width=width, layers=depth
    )
    text = open_clip.CLIPTextCfg(
        context_length=context_length,
        width=text_width,
        heads=text_width // _HEAD_WIDTH,
        layers=text_depth,
    )
    towers: nn.Module = open_clip.CLIP(embed_dim, image, text, quick_gelu=quick_gelu)
    return towers


class CLIP(nn.Module):
    """Two towers, and a verdict by the nearer of two sentences or by a linear layer.

    - ``prompt``: both towers are trained on pairs of a picture and its prompt, the sentences of all
      its levels joined by commas, with the symmetric contrastive loss (with or without SPA).
      The verdict compares a picture with "a photo of a real face" and "a photo of a fake face".
    - ``linear``: one linear layer on the frozen image tower's features.
    - ``zero-shot``: the verdict of ``prompt`` with published weights; nothing is trained.

    Differs from the paper, which does not say how its CLIP gives a verdict: the cross-entropy of
    that verdict is added to the contrastive loss, as in MFCLIP. ``train.loss.cross_entropy = 0``
    leaves the contrastive loss alone.

    Args:
        towers: from `build_towers`.
        tokenize: turns labels into the ids of their prompts.
        class_ids: ids of the two verdicts' sentences, real first.
        contrastive: called as (image_features, text_features, logit_scale, sentences).
        number_sentences: turns labels into the numbers of their prompts' sentences.
        variant: see above. The text tower stays in all of them, so that all load the same weights.
        image_size: side of the input in pixels.
        loss_settings: weights and smoothing of the losses.
    """

    class_ids: Tensor
    mean: Tensor
    deviation: Tensor
    compiled = ("towers.visual",)

    def __init__(
        self,
        towers: nn.Module,
        tokenize: Tokenize,
        class_ids: Int[Tensor, "2 context"],
        contrastive: nn.Module,
        number_sentences: Tokenize,
        *,
        variant: Variant = "prompt",
        image_size: int = 224,
        loss_settings: LossSettings | None = None,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.variant = variant
        self.loss_settings = loss_settings or LossSettings()
        self.towers = towers.requires_grad_(variant == "prompt")
        self.tokenize = tokenize
        self.number_sentences = number_sentences
        self.contrastive = contrastive if variant == "prompt" else None
        width = towers.get_parameter("text_projection").shape[1]
        self.head = nn.Linear(width, 2) if variant == "linear" else None
        self.register_buffer("class_ids", class_ids, persistent=False)
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION).view(3, 1, 1), persistent=False)

    @property
    def needs_pretrained(self) -> bool:
        """Whether random towers make no sense, since they are not trained."""
        return self.variant != "prompt"

    @property
    def logit_scale(self) -> Float[Tensor, ""]:
        """1 / tau, at most 100."""
        return self.towers.get_parameter("logit_scale").exp().clamp(max=MAX_LOGIT_SCALE)

    def encode_image(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Encode RGB faces with pixel values in [0, 1] as L2-normalised features."""
        features = self.towers.get_submodule("visual")((images - self.mean) / self.deviation)
        return functional.normalize(features.float(), dim=-1)

    def encode_text(self, ids: Int[Tensor, "n context"]) -> Float[Tensor, "n d"]:
        """Encode ids as L2-normalised features."""
        # the tower is causal: what stands behind the longest prompt's end changes nothing
        length = int((ids != 0).sum(1).max())
        towers, ids = self.towers, ids[:, :length]
        tokens = towers.get_submodule("token_embedding")(ids)
        tokens = tokens + towers.get_parameter("positional_embedding")[:length]
        mask = towers.get_buffer("attn_mask")[:length, :length]
        tokens = towers.get_submodule("transformer")(tokens, attn_mask=mask)
        last = ids.argmax(1)  # end-of-text is the largest id
        ends = tokens[torch.arange(len(ids), device=ids.device), last]
        ends = towers.get_submodule("ln_final")(ends)
        features = ends @ towers.get_parameter("text_projection")
        return functional.normalize(features.float(), dim=-1)

    def classify(self, image_features: Float[Tensor, "b d"]) -> Float[Tensor, "b 2"]:
        """Give the verdict's logits; column 0 = real, column 1 = fake."""
        if self.head is not None:
            logits: Tensor = self.head(image_features)
            return logits
        return self.logit_scale * image_features @ self.encode_text(self.class_ids).T

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2"]:
        """Judge RGB faces with pixel values in [0, 1]; column 1 = fake."""
        return self.classify(self.encode_image(images))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted loss terms, whose sum is minimised."""
        settings = self.loss_settings
        features = self.encode_image(batch.images)
        loss = cross_entropy_loss(self.classify(features), batch.target, settings.label_smoothing)
        terms = {"cross_entropy": settings.cross_entropy * loss}
        if self.contrastive is not None:
            texts = self._encode_labels(batch.labels)
            sentences = self.number_sentences(batch.labels).to(texts.device)
            loss = self.contrastive(features, texts, self.logit_scale, sentences)
            terms["contrastive"] = settings.contrastive * loss
        return terms

    def from_published(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename open_clip's weights; loss and linear layer stay this detector's own."""
        named = {f"towers.{name}": tensor for name, tensor in tensors.items()}
        own = {k: v for k, v in self.state_dict().items() if not k.startswith("towers.")}
        return {**named, **own}

    def _encode_labels(self, labels: Sequence[Labels]) -> Float[Tensor, "b d"]:
        """Encode each distinct prompt once; return the features by sample."""
        distinct, rows = torch.unique(self.tokenize(labels), dim=0, return_inverse=True)
        device = self.class_ids.device
        return self.encode_text(distinct.to(device))[rows.to(device)]
