"""Sample pair attention (SPA): pair similarities to weighted logits.

Source: paper Sec. III-E, Eq. 7-10.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mfclip.errors import ConfigError

PairMode = Literal["features", "batch", "content"]

LEAKING_MODES = frozenset({"batch", "content"})
"""Modes whose gate can tell a positive pair without the image, so that the loss teaches nothing.

The gradient (p_ij - y_ij) s_ij g_ij (1 - g_ij) opens the gate of every positive and closes that of
every negative. Where positives are known by their place (``batch``) or by their prompts
(``content``), the loss falls to zero with one and the same vector for every image.
"""

RANK = 64
"""r, width of the comparison between the two sides of a pair."""


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
    r"""Learned relevance of every image-text pair (SPA, Sec. III-E, Eq. 7-8).

    The weights act on the logits *before* the softmax. Applied behind it, as Eq. 9-12 are
    printed, they would never reach the features (see `ContrastiveLoss`, mode ``literal``).

    Differs from the paper in ``features`` mode, the default: A is indexed by the place in the
    batch there, which gives the positives away (`LEAKING_MODES`). Here

    .. math:: A_{ij} = q(\bar{v}_i) \cdot k(\bar{t}_j) / \sqrt{r} + b

    where the bar stops the gradient. The gate is a function of the two features alone, so the
    bound of InfoNCE on what they share holds, for any batch size and number of processes.

    Args:
        mode: ``features``; ``batch``, the paper's matrix A; or ``content``, a comparison of the
            two samples' prompts. The last two leak and are kept as ablations.
        batch_size: side of A in ``batch`` mode: the samples a step over all processes.
        embed_dim: d, width of the features in the other modes.

    Raises:
        ConfigError: an unknown mode.
    """

    def __init__(
        self, mode: PairMode = "features", *, batch_size: int = 24, embed_dim: int = 512
    ) -> None:
        super().__init__()
        self.mode = mode
        if mode not in get_args(PairMode):
            choices = ", ".join(get_args(PairMode))
            raise ConfigError(f"expected mode to be one of [{choices}], but got {mode!r}")
        if mode == "batch":
            self.weight = nn.Parameter(torch.zeros(batch_size, batch_size))
        else:
            rank = min(RANK, embed_dim)
            self.query = nn.Linear(embed_dim, rank)
            self.key = nn.Linear(embed_dim, rank)
            self.bias = nn.Parameter(torch.zeros(()))

    @property
    def training_warning(self) -> str | None:
        """What training tells its user before it begins."""
        if self.mode not in LEAKING_MODES:
            return None
        return (
            f"model.spa.mode = {self.mode!r} lets the contrastive loss fall without a look at the "
            "images, so it teaches the vision half nothing; it is kept for comparison, 'features' "
            "teaches"
        )

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
        return weigh_pairs(similarity, self.relevance(image_features, text_features))

    def relevance(
        self, image_features: Float[Tensor, "n d"], text_features: Float[Tensor, "n d"]
    ) -> Float[Tensor, "n n"]:
        """Return A for these samples, before the sigmoid; row = image, column = text."""
        n = len(text_features)
        if self.mode == "batch":
            if n > len(self.weight):
                message = (
                    f"expected at most {len(self.weight)} samples a step (spa.batch_size), "
                    f"but got {n}; raise spa.batch_size or use mode 'features'"
                )
                raise ConfigError(message)
            return self.weight[:n, :n]
        # stopped: else the features would serve the gate instead of the comparison
        asking = image_features if self.mode == "features" else text_features
        query, key = self.query(asking.detach()), self.key(text_features.detach())
        out: Tensor = query @ key.T / query.shape[1] ** 0.5 + self.bias
        return out
