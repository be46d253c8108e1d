"""One logit as a verdict: z, the log-odds of fake."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def two_columns(logit: Float[Tensor, " b"]) -> Float[Tensor, "b 2"]:
    """Write z as the two logits (0, z), whose softmax is the sigmoid of z; column 1 = fake.

    Example:
        >>> two_columns(torch.tensor([2.0])).softmax(1)[0, 1] == torch.tensor(2.0).sigmoid()
        tensor(True)
    """
    return torch.stack([torch.zeros_like(logit), logit], dim=1)


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
