"""One step on a batch too large for memory, part by part.

Source: Gao et al., "Scaling deep contrastive learning batch size under memory limited setup",
RepL4NLP 2021 (gradient caching).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mfclip.batch import Batch
from mfclip.layers.normalisation import statistics_untouched
from mfclip.train.processes import autocast


@runtime_checkable
class ComparesSamples(Protocol):
    """A detector whose loss is no mean over samples, but can be computed from features.

    A loss over pairs that does not offer this sees the pairs of one part at a time.

    Attributes:
        compares_samples: whether its loss is such a one with its settings.
    """

    @property
    def compares_samples(self) -> bool: ...  # noqa: D102

    def encode_image(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Encode each image by itself."""
        ...

    def feature_loss(self, features: Float[Tensor, "b d"], batch: Batch, /) -> Mapping[str, Tensor]:
        """Return the weighted loss terms without looking at the images."""
        ...


def compare_all_parts(
    model: ComparesSamples,
    batch: Batch,
    parts: Sequence[Batch],
    *,
    precision: str,
    scale: Callable[[Tensor], Tensor],
) -> dict[str, Tensor]:
    """Add up the gradients of a batch whose images pass through the model part by part.

    The contrastive loss compares every image with every text, so it is no mean over parts. Here
    all features are computed first, without what a backward pass needs; the loss of the whole
    batch gives the gradient of each feature; then each part is encoded once more and takes its
    features' gradients back. Loss and gradients are those of the whole batch, up to batch
    normalisation, whose statistics are those of a part. It costs one more forward pass.

    Args:
        model: an `nn.Module`, trained in place: gradients are added to its parameters.
        batch: all samples.
        parts: the same samples in the same order, cut.
        precision: as `autocast` takes it.
        scale: applied to the loss before its gradients are taken; its factor must be one number.

    Returns:
        The weighted loss terms of the whole batch, without gradients.
    """
    device, encode = batch.images.device, model.encode_image
    untouched = statistics_untouched([cast("nn.Module", model)])
    with autocast(device, precision), torch.no_grad(), untouched:
        features = torch.cat([encode(part.images) for part in parts])
    features.requires_grad_()
    with autocast(device, precision):
        terms = model.feature_loss(features, batch)
    _backward(scale(torch.stack(list(terms.values())).sum()))
    assert features.grad is not None
    gradients = torch.split(features.grad, [len(part) for part in parts])
    for part, gradient in zip(parts, gradients, strict=True):
        with autocast(device, precision):
            own = encode(part.images)
        if own.requires_grad:  # else the vision half is frozen
            _backward(own, gradient)
    return {name: term.detach() for name, term in terms.items()}


def _backward(values: Tensor, gradient: Tensor | None = None) -> None:
    values.backward(gradient)  # type: ignore[no-untyped-call]
