"""Losses over the pairs of features on the unit sphere.

Source: Wang and Isola, "Understanding contrastive representation learning through alignment and
uniformity on the hypersphere", ICML 2020; with the classes as pairs and their weights: GenD, arXiv
2508.06248.
Axes: b images, d width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

SHARPNESS = 2.0
"""How fast closeness falls with the squared distance; Wang and Isola's t."""

LEAST = 1e-6
"""Closeness below which nothing is gained by spreading further; GenD's."""


def alignment_loss(features: Float[Tensor, "b d"], target: Int[Tensor, " b"]) -> Float[Tensor, ""]:
    """Return the mean squared distance of the pairs of one class; 0 if there is none.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> alignment_loss(features, torch.tensor([0, 0, 1]))
        tensor(2.)
    """
    first, second = torch.triu_indices(len(features), len(features), 1, device=features.device)
    alike = (target[first] == target[second]).to(features.dtype)
    squares = (features[first] - features[second]).square().sum(1)
    return (squares * alike).sum() / alike.sum().clamp(min=1)


def uniformity_loss(features: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    r"""Return how unevenly features of length 1 lie on the sphere; 0 if all are one.

    .. math:: \log \operatorname{mean}_{i<j} e^{-2 \lVert x_i - x_j \rVert^2}

    A single face has no pair and gives 0.
    """
    first, second = torch.triu_indices(len(features), len(features), 1, device=features.device)
    if not len(first):
        return 0 * features.sum()
    squares = (features[first] - features[second]).square().sum(1)
    return (-SHARPNESS * squares).exp().mean().clamp(min=LEAST).log()
