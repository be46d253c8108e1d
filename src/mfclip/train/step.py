"""One batch to one step of the optimiser: losses, gradients, averages, over all processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mfclip.batch import Batch
from mfclip.config import TrainSettings
from mfclip.errors import ConfigError
from mfclip.layers.convolution import ConvStages
from mfclip.train.accumulate import ComparesSamples, compare_all_parts
from mfclip.train.optimiser import (
    AveragedWeights,
    build_optimizer,
    choose_learning,
    set_learning_rate,
)
from mfclip.train.processes import Processes, autocast


class TrainingStep(nn.Module):
    """A detector whose forward pass is its loss, so that gradients are joined over processes."""

    def __init__(self, detector: nn.Module, precision: str) -> None:
        super().__init__()
        self.detector = detector
        self.loss: Any = detector.loss
        self.precision = precision

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted loss terms."""
        with autocast(batch.images.device, self.precision):
            terms: Mapping[str, Tensor] = self.loss(batch)
        return dict(terms)


class Learner:
    """A detector and what changes its weights.

    Args:
        detector: trained in place, on the device it lies on.
        settings: of training.
        processes: this process among those that train together.

    Attributes:
        step: the detector as a module from batch to loss terms, joined over the processes.
        optimizer: of what learns.
        average: moving average of the weights; None if the settings want none.
        scaler: of the loss in 16-bit floats; does nothing in other precisions.

    Raises:
        ConfigError: settings that this detector cannot have.
    """

    def __init__(self, detector: nn.Module, settings: TrainSettings, processes: Processes) -> None:
        self.detector = detector
        self.settings = settings
        self.processes = processes
        processes.join_statistics(detector)
        if settings.channels_last:
            detector.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if settings.checkpoint_activations:
            checkpoint_activations(detector)
        self._still = choose_learning(detector, settings)
        self.optimizer = build_optimizer(detector, settings)
        if settings.compile:
            compile_parts(detector)
        self.step = processes.wrap(TrainingStep(detector, settings.precision))
        self._advance = getattr(detector, "advance", None)
        self.scaler = torch.amp.GradScaler(
            processes.device.type, enabled=settings.precision == "16-mixed"
        )
        self.average = AveragedWeights(detector, settings.ema) if settings.ema else None

    def begin(self) -> None:
        """Put the detector into training mode, but for the parts that stay as they are."""
        self.step.train()
        for part in self._still:
            part.eval()

    def learn(self, batch: Batch, *, lr: float, done: float, epoch: int) -> dict[str, Tensor]:
        """Take one step.

        Args:
            batch: on the detector's device.
            lr: of groups without a rate of their own.
            done: share of the run that lies behind, in [0, 1).
            epoch: under way, from 0.

        Returns:
            The weighted loss terms, without gradients.
        """
        settings = self.settings
        set_learning_rate(self.optimizer, lr)
        if self._advance is not None:
            self._advance(done, epoch)
        batch = batch.channels_last() if settings.channels_last else batch
        parts = batch.split(settings.accumulate)
        detector = self.detector
        if len(parts) > 1 and isinstance(detector, ComparesSamples) and detector.compares_samples:
            sums = compare_all_parts(
                detector, batch, parts, precision=settings.precision, scale=self.scaler.scale
            )
            self.processes.average_gradients(detector)
        else:
            sums = self._add_up(parts)
        if settings.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(detector.parameters(), settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update(detector)
        return sums

    def _add_up(self, parts: list[Batch]) -> dict[str, Tensor]:
        """Take the gradients of a loss that is a mean over samples."""
        sums: dict[str, Tensor] = {}
        total = sum(map(len, parts))
        for number, part in enumerate(parts, start=1):
            waits, share = number < len(parts), len(part) / total
            with self.processes.unsynchronised(self.step, enabled=waits):
                terms = self.step(part)
                loss = torch.stack(list(terms.values())).sum() * share
                self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            for name, term in terms.items():
                sums[name] = sums.get(name, 0) + term.detach() * share
        return sums


def compile_parts(detector: nn.Module, **options: Any) -> None:
    """Compile what sees pictures and no labels, in place; names of weights stay.

    A graph is compiled for the contents of whatever is no tensor: one of a whole loss would be
    another for every mix of labels. Detectors name their parts in ``compiled``; for others it is
    the detector itself, whose loss calls it with the pictures.

    Args:
        detector: changed in place.
        options: of `torch.compile`.
    """
    for name in getattr(detector, "compiled", ("",)):
        detector.get_submodule(name).compile(**options)


def checkpoint_activations(detector: nn.Module) -> None:
    """Let convolution stages keep only their input for the backward pass.

    Raises:
        ConfigError: the detector has none of ours.
    """
    stages = [part for part in detector.modules() if isinstance(part, ConvStages)]
    if not stages:
        raise ConfigError(
            "this detector has no convolution stages of ours, so train.checkpoint_activations "
            "cannot save memory; set it to false, or raise train.accumulate instead"
        )
    for part in stages:
        part.checkpoint_activations = True
