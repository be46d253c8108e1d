"""Fillings by shape alone, for values that were computed with other projects' code."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from helpers import ModuleT


def wave(*shape: int) -> Tensor:
    """Pseudo-random numbers in [-1, 1] by formula, in float64, running over the flat tensor."""
    size = torch.Size(shape).numel()
    step = torch.arange(1, size + 1, dtype=torch.float64)
    values = 43758.5453 * (12.9898 * step).sin()
    return (2 * (values - values.floor()) - 1).view(shape)


def fill_by_shape(module: ModuleT) -> ModuleT:
    """Fill matrices and filters with `wave` at unit gain, weights of norms with 1, the rest with 0.

    Neither names nor order count, so that a network laid out otherwise is filled alike.
    """
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim >= 2:
                gain = (3 * len(parameter) / parameter.numel()) ** 0.5
                parameter.copy_(wave(*parameter.shape) * gain)
            else:
                parameter.fill_(float(name.endswith("weight")))
    return module


def oracle_pictures(count: int, size: int) -> Tensor:
    """Pictures in [0, 1] by formula, in float64."""
    b, c, y, x = torch.meshgrid(
        *(torch.arange(n, dtype=torch.float64) for n in (count, 3, size, size)), indexing="ij"
    )
    return 0.5 + 0.5 * (0.1 * (x + 2 * y + 3 * c + 5 * b) + 0.001 * x * y).sin()


def parameter_count(module: nn.Module) -> int:
    """Numbers that a module learns or could learn."""
    return sum(parameter.numel() for parameter in module.parameters())
