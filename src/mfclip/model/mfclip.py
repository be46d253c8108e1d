"""MFCLIP: the whole. Parts in, outputs out.

Source: paper Fig. 3, Eq. 1-3.
Axes: b images, d embedding width, k known prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from mfclip.batch import Batch
from mfclip.config import LossSettings
from mfclip.errors import WeightsError
from mfclip.labels import LEVELS, Labels
from mfclip.layers.collectives import join_over_processes
from mfclip.layers.sphere import alignment_loss, uniformity_loss
from mfclip.layers.verdict import FullPrecisionLinear, cross_entropy_loss
from mfclip.model.fle import FineGrainedLanguageEncoder, PackedPrompts, pack_prompts
from mfclip.model.ftg import number_sentences, prompt_labels, prompts
from mfclip.model.losses import (
    MAX_LOGIT_SCALE,
    ContrastiveLoss,
    kl_loss,
)
from mfclip.model.mve import MultiModalVisionEncoder
from mfclip.model.tokenizer import tokenize

INITIAL_TEMPERATURE = 0.07
"""tau at the start (paper Sec. III-E)."""


class MFCLIP(nn.Module):
    """Multi-modal fine-grained CLIP (paper Fig. 3).

    Args:
        vision_encoder: MVE.
        language_encoder: FLE; None without the text half.
        contrastive: L_cmc with its SPA; None leaves it out.
        embed_dim: d.
        image_size: side of the input in pixels.
        use_predictor: predict the language features from the vision features (L_kl).
        dropout: share of the vision features dropped before the head while training.
        head_norm: whether a layer norm stands before the verdict.
        loss_settings: weights, temperature and smoothing of the losses.

    Attributes:
        prompts: the distinct prompts of the training data, as labels.
        prompt_features: their L2-normalised language features, (k, d).
    """

    prompt_features: Tensor
    compiled = ("vision_encoder",)

    def __init__(  # noqa: PLR0913 - each a part or a size of it
        self,
        vision_encoder: MultiModalVisionEncoder,
        language_encoder: FineGrainedLanguageEncoder | None,
        contrastive: ContrastiveLoss | None,
        *,
        embed_dim: int,
        image_size: int = 224,
        use_predictor: bool = True,
        dropout: float = 0.0,
        head_norm: bool = True,
        loss_settings: LossSettings | None = None,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.loss_settings = loss_settings or LossSettings()
        self.vision_encoder = vision_encoder
        self.language_encoder = language_encoder
        self.contrastive = contrastive
        self.predictor = nn.Linear(embed_dim, embed_dim) if use_predictor else None
        self.head = nn.Sequential(
            nn.LayerNorm(embed_dim) if head_norm else nn.Identity(),
            nn.Dropout(dropout),
            FullPrecisionLinear(embed_dim, 2),
        )
        self.log_logit_scale = nn.Parameter(
            torch.tensor(math.log(1 / INITIAL_TEMPERATURE)),
            requires_grad=contrastive is not None,  # no loss reaches it then
        )
        self.prompts: tuple[Labels, ...] = ()
        self.register_buffer("prompt_features", torch.zeros(0, embed_dim), persistent=False)

    @property
    def logit_scale(self) -> Float[Tensor, ""]:
        """1 / tau, at most 100."""
        return self.log_logit_scale.exp().clamp(max=MAX_LOGIT_SCALE)

    def encode_image(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Encode RGB faces with pixel values in [0, 1] as L2-normalised vision features X_v."""
        return functional.normalize(self.vision_encoder(images).float(), dim=-1)

    def encode_text(self, ids: Int[Tensor, "b levels context"]) -> Float[Tensor, "b d"]:
        """Encode ids from `mfclip.tokenize` as L2-normalised language features T_l.

        Raises:
            WeightsError: the text half has been dropped.
        """
        return self._encode_packed(pack_prompts(ids))

    def classify(self, vision_features: Float[Tensor, "b d"]) -> Float[Tensor, "b 2"]:
        """Give the verdict's logits; column 0 = real, column 1 = fake (Eq. 3)."""
        logits: Tensor = self.head(functional.normalize(vision_features, dim=-1))
        return logits

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2"]:
        """Judge RGB faces with pixel values in [0, 1]; the text half is not used (Eq. 3)."""
        return self.classify(self.encode_image(images))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted loss terms, whose sum is minimised (Eq. 2)."""
        return self.feature_loss(self.encode_image(batch.images), batch)

    def feature_loss(self, vision: Float[Tensor, "b d"], batch: Batch) -> dict[str, Tensor]:
        """Return the loss terms of vision features from `encode_image`; images are not read."""
        settings = self.loss_settings
        cross_entropy = cross_entropy_loss(
            self.classify(vision), batch.target, settings.label_smoothing
        )
        terms = {"cross_entropy": settings.cross_entropy * cross_entropy}
        if settings.alignment or settings.uniformity:
            terms |= self._spread(vision, batch.target)
        if self.language_encoder is not None:
            language, sentences = self._encode_labels(batch.labels)
            if self.contrastive is not None:
                unit = functional.normalize(language, dim=-1)
                loss = self.contrastive(vision, unit, self.logit_scale, sentences)
                terms["contrastive"] = settings.contrastive * loss
            if self.predictor is not None:
                loss = kl_loss(self.predictor(vision), language, settings.kl_temperature)
                terms["kl"] = settings.kl * loss
        return terms

    @property
    def compares_samples(self) -> bool:
        """Whether the loss compares the samples of a batch with each other."""
        settings = self.loss_settings
        spreads = settings.alignment > 0 or settings.uniformity > 0
        return self.contrastive is not None or spreads

    def before_saving(self, labels: Sequence[Labels]) -> None:
        """Remember the prompts of the training labels, if there is a text half."""
        if self.language_encoder is not None:
            self.remember_prompts(labels)

    def drop_text(self) -> MFCLIP:
        """Remove what inference does not need: FLE, SPA and predictor. Prompts stay known."""
        self.language_encoder = self.contrastive = self.predictor = None
        return self

    @torch.no_grad()
    def remember_prompts(self, labels: Sequence[Labels]) -> None:
        """Encode and keep the distinct prompts of these labels, to name the kind of a forgery."""
        levels = self._max_levels
        kinds = dict.fromkeys(prompt_labels(label, levels) for label in labels)
        self.prompts = tuple(sorted(kinds, key=repr))
        training, device = self.training, self.log_logit_scale.device
        packed = self.eval().pack_labels(self.prompts)
        self.prompt_features = self._encode_packed(packed.to(device)).clone()
        self.train(training)

    def prompt_probabilities(self, vision_features: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        """Compare vision features with the known prompts: a softmax over `prompts`.

        The names given to a generator outside the training data are those of its nearest kin.

        Raises:
            WeightsError: the model knows no prompts.
        """
        if not self.prompts:
            raise WeightsError("this model knows no prompts; train it with use_text = true")
        similarity = functional.normalize(vision_features, dim=-1) @ self.prompt_features.T
        return (self.logit_scale * similarity).softmax(-1)

    def level_probabilities(
        self, vision_features: Float[Tensor, "b d"]
    ) -> dict[str, tuple[tuple[str, ...], Float[Tensor, "b n"]]]:
        """Sum the prompt probabilities over the prompts that share a level's label.

        Returns:
            For each level the names found there (``real`` for real faces), most frequent order
            fixed by name, and their probabilities.
        """
        return sum_by_level(self.prompt_probabilities(vision_features), self.prompts)

    def pack_labels(self, labels: Sequence[Labels]) -> PackedPrompts:
        """Turn labels into packed prompts, on the CPU."""
        encoder = self._require_text()
        texts = [prompts(label, encoder.max_levels, encoder.real_prompts) for label in labels]
        return pack_prompts(tokenize(texts, encoder.context_length))

    def _spread(self, vision: Float[Tensor, "b d"], target: Int[Tensor, " b"]) -> dict[str, Tensor]:
        """Losses over the pairs of the batches of all processes."""
        settings = self.loss_settings
        features, classes = join_over_processes(vision), join_over_processes(target)
        return {
            "alignment": settings.alignment * alignment_loss(features, classes),
            "uniformity": settings.uniformity * uniformity_loss(features),
        }

    def _encode_labels(
        self, labels: Sequence[Labels]
    ) -> tuple[Float[Tensor, "b d"], Int[Tensor, "b levels"]]:
        """Encode each distinct prompt once; return features, and numbers of the sentences."""
        levels, device = self._max_levels, self.log_logit_scale.device
        own = [prompt_labels(label, levels) for label in labels]
        row_of = {label: row for row, label in enumerate(dict.fromkeys(own))}
        features = self._require_text().encode_packed(self.pack_labels(list(row_of)).to(device))
        rows = torch.tensor([row_of[label] for label in own]).to(device, non_blocking=True)
        encoder = self._require_text()
        sentences = number_sentences(list(row_of), encoder.max_levels, encoder.real_prompts)
        return features.float()[rows], sentences.to(device, non_blocking=True)[rows]

    def _encode_packed(self, packed: PackedPrompts) -> Float[Tensor, "b d"]:
        features = self._require_text().encode_packed(packed)
        return functional.normalize(features.float(), dim=-1)

    @property
    def _max_levels(self) -> int:
        return self._require_text().max_levels

    def _require_text(self) -> FineGrainedLanguageEncoder:
        if self.language_encoder is None:
            raise WeightsError("this model has no text half; load the full training weights")
        return self.language_encoder


def sum_by_level(
    probabilities: Float[Tensor, "b k"], labels: Sequence[Labels]
) -> dict[str, tuple[tuple[str, ...], Float[Tensor, "b n"]]]:
    """Sum probabilities of prompts over those that share a level's label.

    Args:
        probabilities: one column a prompt.
        labels: what each prompt tells of.

    Returns:
        For each level the names found there, in the order of the alphabet, and their sums.
    """
    out = {}
    for level in LEVELS:
        names = [name_at(one, level) for one in labels]
        distinct = tuple(sorted(set(names)))
        columns = [
            probabilities[:, [i for i, name in enumerate(names) if name == one]].sum(1)
            for one in distinct
        ]
        out[level] = (distinct, torch.stack(columns, 1))
    return out


def are_normalised(features: Float[Tensor, "k d"]) -> bool:
    """Whether no row is longer than L2-normalised features are, up to rounding in 16 bit."""
    return bool((features.norm(dim=1) < 1.05).all())  # noqa: PLR2004 - false for NaN, too


def name_at(labels: Labels, level: str) -> str:
    """Name what labels say on a level: ``real`` for a real face, ``unknown`` if not known."""
    if not labels.is_fake:
        return "real"
    return "fake" if level == "label" else getattr(labels, level) or "unknown"
