"""What learns, by which optimiser, and at which rate (paper Sec. IV-A by default)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import islice

import torch
from torch import Tensor, nn

from mfclip.config import TrainSettings
from mfclip.errors import ConfigError


def choose_learning(detector: nn.Module, settings: TrainSettings) -> list[nn.Module]:
    """Let only the parameters learn that `train.learn` and `train.freeze` leave.

    With image features that stay, only the text half learns to name what they show (locked-image
    tuning: Zhai et al., CVPR 2022); with ``["*norm*", "head.*"]`` a large tower is tuned by its
    layer norms alone. What the detector itself never trains stays as it is.

    Args:
        detector: its parameters are switched off in place.
        settings: `freeze` names direct parts, e.g. ``vision_encoder``; `learn` holds patterns of
            parameter names as in a shell, and everything else stays.

    Returns:
        The parts that stay: to be kept in eval mode, so that their statistics stay as well.

    Raises:
        ConfigError: the detector has no such part, or no parameter of a pattern's can learn.
    """
    if settings.learn:
        named = dict(_learning(detector))
        for pattern in settings.learn:
            _matching(pattern, named, "learn")
        for name, parameter in named.items():
            if not any(fnmatchcase(name, pattern) for pattern in settings.learn):
                parameter.requires_grad = False
    parts = dict(detector.named_children())
    for name in settings.freeze:
        if name not in parts:
            raise ConfigError(
                f"expected train.freeze to name parts of the detector, [{', '.join(parts)}], but "
                f"got '{name}'"
            )
        parts[name].requires_grad_(requires_grad=False)
    return [parts[name] for name in settings.freeze] + list(_still(detector))


def build_optimizer(module: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """Build Adam (the paper's, decay added to the gradient), AdamW (decay apart from it) or SGD.

    AdamW leaves one-dimensional parameters (biases, norms) undecayed, as is usual. Each of
    `train.groups` makes groups of its own, whose ``lr_scale`` is their rate over `train.lr`.

    Raises:
        ConfigError: no parameter learns, as in zero-shot CLIP, or none of a group's.
    """
    named = dict(_learning(module))
    if not named:
        raise ConfigError(
            "no parameter of this detector learns, so it cannot be trained; save it as it is with "
            "mfclip.detectors.save_detector and evaluate it"
        )
    for group in settings.groups:
        _matching(group.match, named, "groups")
    scales = [1.0, *(group.lr / settings.lr for group in settings.groups)]
    # (number in `scales`, without decay) -> parameters
    buckets: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in named.items():
        matches = (i for i, g in enumerate(settings.groups, 1) if fnmatchcase(name, g.match))
        undecayed = settings.optimizer == "adamw" and parameter.ndim <= 1
        buckets.setdefault((next(matches, 0), undecayed), []).append(parameter)
    groups = [
        {
            "params": buckets[number, undecayed],
            "weight_decay": 0.0 if undecayed else settings.weight_decay,
            "lr_scale": scales[number],
        }
        for number, undecayed in sorted(buckets)
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, fused=True)
    kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=settings.lr, fused=True)


def learning_rate(
    step: int, *, steps_per_epoch: int, settings: TrainSettings, reductions: int = 0
) -> float:
    """Return the learning rate of a step (counted from 0).

    ``step``: times `step_gamma` every `step_epochs` epochs (the paper's: / 10 every 15), or every
    `step_iterations` steps. ``plateau``: times `step_gamma` for each of `reductions`. ``cosine``:
    falls to `final_lr` at the end. All rise linearly from 0 over `warmup_epochs` first.
    ``onecycle``: the same as ``cosine``, but its rise lasts `warmup_share` of the run unless
    `warmup_epochs` says otherwise, and its very last step has `final_lr`.

    Example:
        >>> s = TrainSettings(lr=1.0)
        >>> [round(learning_rate(e, steps_per_epoch=1, settings=s), 3) for e in (0, 14, 15, 29)]
        [1.0, 1.0, 0.1, 0.1]
    """
    total = settings.epochs * steps_per_epoch
    rise = settings.warmup_epochs * steps_per_epoch
    if settings.schedule == "onecycle" and not rise:
        rise = settings.warmup_share * total
    if step < rise:
        return settings.lr * min((step + 1) / rise, 1.0)
    if settings.schedule == "step":
        width = settings.step_iterations or settings.step_epochs * steps_per_epoch
        return settings.lr * settings.step_gamma ** (step // width)
    if settings.schedule == "plateau":
        return settings.lr * settings.step_gamma**reductions
    last = total - 1 if settings.schedule == "onecycle" else total
    share = min((step - rise) / max(last - rise, 1e-9), 1.0)
    height = settings.lr - settings.final_lr
    return settings.final_lr + height * (1 + math.cos(math.pi * share)) / 2


def count_reductions(figures: Sequence[float], patience: int) -> int:
    """Count how often ``plateau`` has lowered the rate after these validations.

    It does so after more than `patience` validations in a row without a new best, then counts
    anew. Being computed from the past alone it needs no state, so that a resumed run agrees.

    Args:
        figures: one a validation, oldest first; higher is better.
        patience: validations without gain that pass unpunished.

    Example:
        >>> count_reductions([0.5, 0.6, 0.6, 0.6, 0.7, 0.6], patience=1)
        1
    """
    best, idle, reductions = -math.inf, 0, 0
    for figure in figures:
        best, idle = (figure, 0) if figure > best else (best, idle + 1)
        if idle > patience:
            idle, reductions = 0, reductions + 1
    return reductions


def validations_without_gain(figures: Sequence[float]) -> int:
    """Count the validations since the best one; the first of equals is the best.

    Example:
        >>> validations_without_gain([0.5, 0.7, 0.7, 0.6])
        2
    """
    return len(figures) - 1 - figures.index(max(figures)) if figures else 0


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group the rate times its own scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)  # checkpoints of 0.1.0 have no scale


class AveragedWeights:
    """Exponential moving average of a module's parameters and buffers.

    The decay rises as (1 + t) / (10 + t) up to its set value, so that early steps are forgotten.
    Integers (step counters) are copied, and so is what the module's attribute ``not_averaged``
    names: patterns of buffers that are no weights, e.g. how far training is.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.step = 0
        self.tensors = {name: t.detach().clone() for name, t in _state(module)}
        patterns: tuple[str, ...] = getattr(module, "not_averaged", ())
        self._copied = {
            name
            for name, tensor in self.tensors.items()
            if not tensor.is_floating_point() or any(fnmatchcase(name, p) for p in patterns)
        }

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the average towards the module's present state."""
        self.step += 1
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        for name, tensor in _state(module):
            if name in self._copied:
                self.tensors[name].copy_(tensor)
            else:
                self.tensors[name].lerp_(tensor, 1 - decay)

    @torch.no_grad()
    def swap(self, module: nn.Module) -> None:
        """Exchange the module's state with the average; call again to change back."""
        for name, tensor in _state(module):
            kept = tensor.clone()
            tensor.copy_(self.tensors[name])
            self.tensors[name].copy_(kept)


def _state(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.state_dict(keep_vars=False).items()


def _learning(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in module.named_parameters() if p.requires_grad)


def _matching(pattern: str, named: dict[str, nn.Parameter], setting: str) -> None:
    """Refuse a pattern that no parameter's name matches."""
    if not any(fnmatchcase(name, pattern) for name in named):
        some = ", ".join(islice(named, 4))
        raise ConfigError(
            f"train.{setting}: no parameter that learns has a name like '{pattern}'; there are "
            f"{len(named)}, such as {some}"
        )


def _still(module: nn.Module) -> Iterator[nn.Module]:
    """Largest parts that hold parameters of which none learns."""
    learns = [p.requires_grad for p in module.parameters()]
    if learns and not any(learns):
        yield module
    elif learns:
        for part in module.children():
            yield from _still(part)
