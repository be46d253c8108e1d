"""Optimiser and learning-rate schedule (paper Sec. IV-A by default)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from mfclip.config import TrainSettings
from mfclip.errors import ConfigError


def freeze(detector: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """Let parts of a detector keep their weights and statistics.

    With image features that stay, only the text half learns to name what they show (locked-image
    tuning: Zhai et al., CVPR 2022); scores do not change.

    Args:
        detector: holds the parts.
        names: of its parts, or of parts of those, e.g. ``vision_encoder.image_encoder``.

    Returns:
        The parts.

    Raises:
        ConfigError: it has no such part.
    """
    parts = []
    for name in names:
        try:
            parts.append(detector.get_submodule(name).requires_grad_(requires_grad=False))
        except AttributeError:
            direct = ", ".join(name for name, _ in detector.named_children())
            raise ConfigError(
                f"expected train.freeze to name parts of the detector, [{direct}] or parts of "
                f"those, e.g. vision_encoder.image_encoder, but got '{name}'"
            ) from None
    return parts


def build_optimizer(module: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """Build Adam (the paper's, decay added to the gradient) or AdamW (decay apart from it).

    AdamW leaves one-dimensional parameters (biases, norms) undecayed, as is usual.

    Raises:
        ConfigError: no parameter learns, as in zero-shot CLIP.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        raise ConfigError(
            "no parameter of this detector learns, so it cannot be trained; save it as it is with "
            "mfclip.detectors.save_detector and evaluate it"
        )
    if settings.optimizer == "adam":
        return torch.optim.Adam(
            parameters, lr=settings.lr, weight_decay=settings.weight_decay, fused=True
        )
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, fused=True)


def learning_rate(step: int, *, steps_per_epoch: int, settings: TrainSettings) -> float:
    """Return the learning rate of a step (counted from 0).

    ``step``: divided by 10 every `step_epochs` epochs (the paper's). ``cosine``: falls to 0 at the
    end. Both rise linearly from 0 over `warmup_epochs` first.

    Example:
        >>> s = TrainSettings(lr=1.0)
        >>> [round(learning_rate(e, steps_per_epoch=1, settings=s), 3) for e in (0, 14, 15, 29)]
        [1.0, 1.0, 0.1, 0.1]
    """
    epoch = step / steps_per_epoch
    if epoch < settings.warmup_epochs:
        return settings.lr * (step + 1) / (settings.warmup_epochs * steps_per_epoch)
    if settings.schedule == "step":
        return settings.lr * 0.1 ** int(epoch // settings.step_epochs)
    span = max(settings.epochs - settings.warmup_epochs, 1e-9)
    share = min((epoch - settings.warmup_epochs) / span, 1.0)
    return settings.lr * (1 + math.cos(math.pi * share)) / 2


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give all parameter groups one learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr


class AveragedWeights:
    """Exponential moving average of a module's parameters and buffers.

    The decay rises as (1 + t) / (10 + t) up to its set value, so that early steps are forgotten.
    Integers (step counters) are copied.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.step = 0
        self.tensors = {name: t.detach().clone() for name, t in _state(module)}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the average towards the module's present state."""
        self.step += 1
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        for name, tensor in _state(module):
            mean = self.tensors[name]
            if mean.is_floating_point():
                mean.lerp_(tensor, 1 - decay)
            else:
                mean.copy_(tensor)

    @torch.no_grad()
    def swap(self, module: nn.Module) -> None:
        """Exchange the module's state with the average; call again to change back."""
        for name, tensor in _state(module):
            kept = tensor.clone()
            tensor.copy_(self.tensors[name])
            self.tensors[name].copy_(kept)


def _state(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.state_dict(keep_vars=False).items()
