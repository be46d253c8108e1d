"""DD-VQA: a vision transformer that must also say in words what looks forged.

Re-implementation from the description; the authors published their data, but no code of the model.
Source: Zhang et al., "Common Sense Reasoning for Deepfake Detection", ECCV 2024 (arXiv 2402.00126),
read in its abstract; questions and answers in their repository (Reality-Defender/Research-DD-VQA,
no licence file). The encoder is timm's (Apache-2.0). 54.87 M parameters, of which the encoder, all
that a verdict needs, has 21.67 M.

Neighbouring packages do not import each other: tokenizer and the sentences of labels are handed in
by `mfclip.detectors`.
Axes: b pictures, n tokens of a picture, t words, d width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from mfclip.batch import Batch
from mfclip.config import LossSettings
from mfclip.errors import ConfigError
from mfclip.labels import Labels
from mfclip.layers.collectives import join_over_processes
from mfclip.layers.verdict import cross_entropy_loss
from mfclip.layers.vision_packages import import_vision

Tokenize = Callable[[Sequence[str]], Int[Tensor, "n context"]]
"""Sentences to ids: start, words, end, zeros."""

QUESTION = "Does the image look real/fake?"
"""What is asked about a face whose text holds an answer alone; the authors' first question."""

MAX_DEPTH = 1000
"""Most blocks; a damaged file may name a billion."""

_WORD_DEVIATION = 0.02


class DdVqa(nn.Module):
    """An image encoder, a decoder that answers a question about the face, a linear verdict.

    Four losses: the decoder's for each word of the answer; a contrast of the answers' features and
    one of the pictures', both of which draw faces with the same verdict together; and the
    cross-entropy of the verdict, for which the encoder's class token is enough.

    Text comes from ``data.texts``, question and answer in one string; a face without gets what its
    labels say, as MFCLIP's prompts do. Both contrasts see the joined batch of all processes; with
    ``train.accumulate`` above 1 the pairs are those of a part.

    Not stated in what could be read, and ours: sizes and start of encoder and decoder, where theirs
    are of BLIP's kind; which features are contrasted, and how; weights and recipe.

    Args:
        tokenize: turns sentences into ids.
        answer: what the labels of a face say, in a sentence.
        vocabulary: number of the tokenizer's ids.
        image_size: side of the input in pixels; a multiple of `patch_size`.
        patch_size: side of a patch in pixels.
        width: d; a multiple of `num_heads`.
        depth: blocks of the encoder.
        num_heads: attention heads.
        text_depth: blocks of the decoder.
        temperature: of both contrasts.
        language_weight: of the loss of the words.
        contrast_weight: of each contrast.
        loss_settings: weight and smoothing of the cross-entropy; ``contrastive`` scales both
            contrasts.

    Raises:
        ConfigError: sizes that do not fit together, or a weight that cannot be.
        MissingExtraError: timm is not installed.
    """

    compiled = ("encoder",)

    def __init__(  # noqa: PLR0913 - the sizes of encoder and decoder
        self,
        tokenize: Tokenize,
        answer: Callable[[Labels], str],
        *,
        vocabulary: int,
        image_size: int = 224,
        patch_size: int = 16,
        width: int = 384,
        depth: int = 12,
        num_heads: int = 6,
        text_depth: int = 6,
        temperature: float = 0.07,
        language_weight: float = 1.0,
        contrast_weight: float = 0.1,
        loss_settings: LossSettings | None = None,
    ) -> None:
        super().__init__()
        _check_sizes(image_size, patch_size, width, num_heads, (depth, text_depth))
        if temperature <= 0 or min(language_weight, contrast_weight) < 0:
            raise ConfigError(
                "expected a temperature above 0 and weights of at least 0, but got "
                f"{temperature}, {language_weight} and {contrast_weight}"
            )
        self.image_size = image_size
        self.temperature = temperature
        self.language_weight = language_weight
        self.contrast_weight = contrast_weight
        self.loss_settings = loss_settings or LossSettings()
        self.tokenize = tokenize
        self.answer = answer
        timm = import_vision("timm.models.vision_transformer")
        self.encoder = timm.VisionTransformer(
            img_size=image_size,
            patch_size=patch_size,
            embed_dim=width,
            depth=depth,
            num_heads=num_heads,
            num_classes=0,
            global_pool="",
        )
        self.head = nn.Linear(width, 2)
        length = int(tokenize([QUESTION]).shape[1])
        self.words = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(torch.randn(length, width) * _WORD_DEVIATION)
        nn.init.normal_(self.words.weight, std=_WORD_DEVIATION)
        block = nn.TransformerDecoderLayer(
            width,
            num_heads,
            4 * width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.decoder = nn.TransformerDecoder(block, text_depth, nn.LayerNorm(width))

    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        """Turn RGB faces with pixel values in [0, 1] into tokens, the class token first."""
        out: Tensor = self.encoder(images * 2 - 1)
        return out

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2"]:
        """Judge RGB faces with pixel values in [0, 1]; column 1 = fake."""
        logits: Tensor = self.head(self.encode(images)[:, 0])
        return logits

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms: verdict, words, contrast of answers and of pictures."""
        settings = self.loss_settings
        tokens = self.encode(batch.images)
        logits = self.head(tokens[:, 0])
        verdict = cross_entropy_loss(logits, batch.target, settings.label_smoothing)
        texts = [
            (text if text is not None else self.answer(labels))
            for text, labels in zip(batch.texts or [None] * len(batch), batch.labels, strict=True)
        ]
        ids, is_answer = self.read(texts)
        ids, is_answer = ids.to(tokens.device), is_answer.to(tokens.device)
        states = self.write(ids[:, :-1], tokens)
        language = functional.cross_entropy(
            (states @ self.words.weight.T)[is_answer[:, 1:]].float(), ids[:, 1:][is_answer[:, 1:]]
        )
        counted = is_answer[:, 1:, None].to(states.dtype)
        answers = (states * counted).sum(1) / counted.sum(1)
        weight = settings.contrastive * self.contrast_weight
        target = join_over_processes(batch.target)
        text_contrast, image_contrast = (
            contrast(join_over_processes(features.float()), target, self.temperature)
            for features in (answers, tokens[:, 0])
        )
        return {
            "cross_entropy": settings.cross_entropy * verdict,
            "language": self.language_weight * language,
            "text_contrast": weight * text_contrast,
            "image_contrast": weight * image_contrast,
        }

    def read(self, texts: Sequence[str]) -> tuple[Int[Tensor, "b t"], Bool[Tensor, "b t"]]:
        """Number the words of question and answer; say which of them belong to the answer.

        The end counts as the answer's last word. Of a text that is too long the end is cut off.
        """
        asked = [split_question(text) for text in texts]
        ids = self.tokenize([f"{question} {answer}" for question, answer in asked])
        # a question alone is as many words, and its end stands where the answer begins
        starts = (self.tokenize([question for question, _ in asked]) != 0).sum(1) - 1
        place = torch.arange(ids.shape[1])
        longest = int((ids != 0).sum(1).max())
        return ids[:, :longest], ((place >= starts[:, None]) & (ids != 0))[:, :longest]

    def write(
        self, ids: Int[Tensor, "b t"], tokens: Float[Tensor, "b n d"]
    ) -> Float[Tensor, "b t d"]:
        """Return a state for each word, from which the next one is told; each sees those before."""
        words = self.words(ids) + self.places[: ids.shape[1]]
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1], device=words.device)
        out: Tensor = self.decoder(words, tokens, tgt_mask=mask, tgt_is_causal=True)
        return out

    @torch.no_grad()
    def from_published(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Take timm's ViT as a start of the encoder, positions resampled to `image_size`."""
        body = {k: v for k, v in tensors.items() if not k.startswith("head.")}
        timm = import_vision("timm.models.vision_transformer")
        fitted = timm.checkpoint_filter_fn(body, self.encoder)
        own = {k: v for k, v in self.state_dict().items() if not k.startswith("encoder.")}
        return own | {f"encoder.{k}": v for k, v in fitted.items()}


def split_question(text: str) -> tuple[str, str]:
    """Cut a text behind its question; without one the first of the authors' is asked.

    Example:
        >>> split_question("Does the person's nose look real/fake? The nose looks fake.")
        ("Does the person's nose look real/fake?", 'The nose looks fake.')
        >>> split_question("The image looks fake.")[0]
        'Does the image look real/fake?'
    """
    question, mark, answer = text.partition("?")
    return (question + mark, answer.strip()) if mark else (QUESTION, text)


def contrast(
    features: Float[Tensor, "b d"], target: Int[Tensor, " b"], temperature: float
) -> Float[Tensor, ""]:
    r"""Draw features of one verdict together (supervised contrast, Khosla et al., NeurIPS 2020).

    .. math::
        -\operatorname{mean}_i \operatorname{mean}_{j \ne i, y_j = y_i}
        \log \frac{e^{s_{ij} / \tau}}{\sum_{k \ne i} e^{s_{ik} / \tau}}

    Args:
        features: of any length; s is their cosine.
        target: y.
        temperature: tau.

    Returns:
        The mean over the faces that have another one of their verdict; 0 if there is none.
    """
    features = functional.normalize(features, dim=1)
    itself = torch.eye(len(features), dtype=torch.bool, device=features.device)
    logits = (features @ features.T / temperature).masked_fill(itself, -torch.inf)
    alike = (target[:, None] == target) & ~itself
    shares = logits.log_softmax(1).masked_fill(~alike, 0.0).sum(1) / alike.sum(1).clamp(min=1)
    return -shares.sum() / alike.any(1).sum().clamp(min=1)


def _check_sizes(
    image_size: int, patch_size: int, width: int, num_heads: int, depths: Sequence[int]
) -> None:
    if min(patch_size, width, num_heads, *depths) < 1 or max(depths) > MAX_DEPTH:
        raise ConfigError(
            "expected patch_size, width, num_heads and depths of at least 1, and depths of at most "
            f"{MAX_DEPTH}, but got {patch_size}, {width}, {num_heads} and {depths}"
        )
    if image_size % patch_size or width % num_heads:
        raise ConfigError(
            "expected image_size to be a multiple of patch_size and width of num_heads, but got "
            f"{image_size} and {patch_size}, {width} and {num_heads}"
        )
