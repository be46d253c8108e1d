"""A verdict's last layer, and one logit as a verdict: z, the log-odds of fake."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional


class FullPrecisionLinear(nn.Linear):
    """A linear layer with few outputs that stays in float32 under autocast and in bf16 engines.

    Both round what goes into a matrix product, but not sums of products, which this is.
    """

    def forward(self, input: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        """Apply the layer."""
        values = input.float()
        # row by row: OpenVINO 2026.4 gives wrong sums of one broadcast product, from two images on
        sums = [(values * row).sum(1, keepdim=True) for row in self.weight]
        return torch.cat(sums, dim=1) + self.bias


def two_columns(logit: Float[Tensor, " b"]) -> Float[Tensor, "b 2"]:
    """Write z as the two logits (0, z), whose softmax is the sigmoid of z; column 1 = fake.

    Example:
        >>> two_columns(torch.tensor([2.0])).softmax(1)[0, 1] == torch.tensor(2.0).sigmoid()
        tensor(True)
    """
    return torch.stack([torch.zeros_like(logit), logit], dim=1)


def cross_entropy_loss(
    logits: Float[Tensor, "b 2"], target: Int[Tensor, " b"], label_smoothing: float = 0.0
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of the verdict (Eq. 14), in full precision; target 1 = fake."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return functional.cross_entropy(logits, target, label_smoothing=label_smoothing)


def binary_cross_entropy(
    logit: Float[Tensor, " b"],
    target: Int[Tensor, " b"],
    label_smoothing: float = 0.0,
    fake_weight: float = 1.0,
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of z, in full precision.

    Args:
        logit: z.
        target: 1 = fake, 0 = real.
        label_smoothing: share of the target that is spread over both verdicts.
        fake_weight: how often a fake counts where a real face counts once.
    """
    logit = logit.to(torch.promote_types(logit.dtype, torch.float32))
    soft = target.to(logit.dtype) * (1 - label_smoothing) + label_smoothing / 2
    return functional.binary_cross_entropy_with_logits(
        logit, soft, pos_weight=logit.new_tensor(fake_weight)
    )
