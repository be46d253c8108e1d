"""LoRA: a linear layer whose weights stay, and a product of two thin matrices that learns.

Source: Hu et al., "LoRA: low-rank adaptation of large language models", ICLR 2022, Eq. 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mfclip.errors import ConfigError


class LoraLinear(nn.Linear):
    """y = W x + b + (alpha / rank) B A x; B starts at 0, so that it starts as W x + b.

    Its ``weight`` and ``bias`` keep their names: weights of the plain layer load as they are.

    Args:
        base: the layer it takes the place of; its tensors are shared, and stop learning.
        rank: rows of A and columns of B.
        alpha: scale of the product, in units of `rank`.
        dropout: share of x that A does not see while training.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float, dropout: float = 0.0) -> None:
        with torch.device("meta"):
            super().__init__(base.in_features, base.out_features, bias=base.bias is not None)
        self.weight, self.bias = base.weight, base.bias
        for shared in (self.weight, self.bias):
            if shared is not None:
                shared.requires_grad = False
        self.scale = alpha / rank
        self.dropout = nn.Dropout(dropout)
        self.lora_a = nn.Parameter(torch.empty(rank, base.in_features).to(base.weight))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank).to(base.weight))
        nn.init.kaiming_uniform_(self.lora_a, a=5**0.5)

    def forward(self, input: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:
        """Apply the layer."""
        update = functional.linear(self.dropout(input), self.lora_a)
        return super().forward(input) + self.scale * functional.linear(update, self.lora_b)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return a plain layer with W + (alpha / rank) B A."""
        with torch.device("meta"):
            plain = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None)
        update = self.scale * (self.lora_b.double() @ self.lora_a.double())
        plain.weight = nn.Parameter((self.weight.double() + update).to(self.weight))
        plain.bias = self.bias
        return plain


def add_lora(
    module: nn.Module, patterns: Sequence[str], *, rank: int, alpha: float, dropout: float = 0.0
) -> int:
    """Exchange the linear layers of these names for `LoraLinear`, in place.

    Args:
        module: holds them.
        patterns: of their names, as in a shell, e.g. ``*.attn.qkv``.
        rank: see `LoraLinear`.
        alpha: see there.
        dropout: see there.

    Returns:
        How many were exchanged.

    Raises:
        ConfigError: a pattern names no linear layer.
    """
    layers = {name: each for name, each in module.named_modules() if isinstance(each, nn.Linear)}
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in layers):
            some = ", ".join(list(layers)[:4])
            raise ConfigError(
                f"image.lora.targets: no linear layer has a name like {pattern!r}; there are "
                f"{len(layers)}, such as {some}"
            )
    found = [name for name in layers if any(fnmatchcase(name, each) for each in patterns)]
    for name in found:
        module.set_submodule(name, LoraLinear(layers[name], rank, alpha, dropout))
    return len(found)


def merge_lora(module: nn.Module) -> None:
    """Exchange every `LoraLinear` for the plain layer that computes the same, in place."""
    for name, each in list(module.named_modules()):
        if isinstance(each, LoraLinear):
            module.set_submodule(name, each.merged())
