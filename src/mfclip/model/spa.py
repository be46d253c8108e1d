"""Sample pair attention (SPA): pair similarities to weighted logits.

Source: paper Sec. III-E, Eq. 7-10.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mfclip.errors import ConfigError

PairMode = Literal["batch", "content"]

CONTENT_RANK = 64
"""Width of the comparison between two prompts in `content` mode."""


def weigh_pairs(
    similarity: Float[Tensor, "rows cols"], weight: Float[Tensor, "rows cols"]
) -> Float[Tensor, "rows cols"]:
    r"""Scale each image-text similarity by its learned relevance (SPA, Eq. 7).

    .. math:: \tilde{s}_{ij} = s_{ij} \, \sigma(A_{ij})

    Args:
        similarity: cosine similarity times `logit_scale`; row = image, column = text.
        weight: A, relevance before the sigmoid; 0 halves a pair, a large value keeps it.

    Returns:
        Weighted logits, same order as `similarity`.

    Example:
        >>> weigh_pairs(torch.eye(2), torch.zeros(2, 2)).tolist()
        [[0.5, 0.0], [0.0, 0.5]]
    """
    return similarity * weight.sigmoid()


class SamplePairAttention(nn.Module):
    """Learned relevance of every image-text pair (SPA, Sec. III-E, Eq. 7-8).

    The weights act on the logits *before* the softmax. Applied behind it, as Eq. 9-12 are
    printed, they would never reach the features (see `ContrastiveLoss`, mode ``literal``).

    Differs from the paper in ``content`` mode: A is indexed by the place in the batch there and so
    cannot know which two samples meet. Here the relevance of a pair comes from what the pair is,
    a bilinear comparison of the two samples' prompts, for any batch size and number of processes.

    Args:
        mode: ``batch``, the paper's matrix A, or ``content``.
        batch_size: side of A in ``batch`` mode: the samples a step over all processes.
        embed_dim: d, width of the text features in ``content`` mode.

    Raises:
        ConfigError: an unknown mode.
    """

    def __init__(
        self, mode: PairMode = "batch", *, batch_size: int = 24, embed_dim: int = 512
    ) -> None:
        super().__init__()
        self.mode = mode
        if mode == "batch":
            self.weight = nn.Parameter(torch.zeros(batch_size, batch_size))
        elif mode == "content":
            rank = min(CONTENT_RANK, embed_dim)
            self.query = nn.Linear(embed_dim, rank)
            self.key = nn.Linear(embed_dim, rank)
            self.bias = nn.Parameter(torch.zeros(()))
        else:
            raise ConfigError(f"expected mode to be one of [batch, content], but got {mode!r}")

    def forward(
        self,
        image_features: Float[Tensor, "n d"],
        text_features: Float[Tensor, "n d"],
        logit_scale: Float[Tensor, ""] | float,
    ) -> Float[Tensor, "n n"]:
        """Return the weighted logits; row = image, column = text.

        The transposed logits are those of Eq. 8 up to the transposition of A, which the paper
        leaves open; one matrix for both directions keeps them consistent.

        Args:
            image_features: L2-normalised vision features.
            text_features: L2-normalised language features, in the same order.
            logit_scale: 1 / tau.

        Raises:
            ConfigError: ``batch`` mode and more samples than A has rows.
        """
        similarity = logit_scale * image_features @ text_features.T
        return weigh_pairs(similarity, self.relevance(text_features))

    def relevance(self, text_features: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
        """Return A for these samples, before the sigmoid."""
        n = len(text_features)
        if self.mode == "batch":
            if n > len(self.weight):
                message = (
                    f"expected at most {len(self.weight)} samples a step (spa.batch_size), "
                    f"but got {n}; raise spa.batch_size or use mode 'content'"
                )
                raise ConfigError(message)
            return self.weight[:n, :n]
        texts = text_features.detach()
        query, key = self.query(texts), self.key(texts)
        out: Tensor = query @ key.T / query.shape[1] ** 0.5 + self.bias
        return out
